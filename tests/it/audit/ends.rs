//! Calls that do not end with an answer of the upstream's to a client that waits for it.

use serde_json::json;

use super::Log;
use crate::support::{
    fake::{Answer, legacy, modern},
    nexus::gateway,
    soon, until,
};

#[tokio::test]
async fn a_failed_upstream_is_named_with_the_reason_and_the_id_that_the_client_has() {
    let log = Log::new();
    let broken = modern().tool("x").on("tools/call", |_| Answer::json("no answer"));
    let nexus = log.of_a_gateway().upstream("a", broken).upstream("b", legacy().tool("x").starts_down()).start().await;
    for (count, client) in [(1, nexus.legacy().await), (3, nexus.modern())] {
        for (more, tool, reason) in [(0, "a__x", "protocol"), (1, "b__x", "unreachable")] {
            let response = client.open("tools/call", json!({"name": tool, "arguments": {}})).await;
            let header = response.headers["x-request-id"].to_str().unwrap().to_owned();
            let answer = response.answer().await;
            let line = log.last(count + more).await;
            assert_eq!((&line["outcome"], &line["code"]), (&json!("error"), &json!(-32603)), "{line}");
            let data = &answer["error"]["data"];
            assert_eq!((&line["reason"], &line["request_id"]), (&data["reason"], &data["request_id"]), "{line}");
            assert_eq!(line["request_id"], header);
            assert!(reason == "unreachable" || line["reason"].as_str().unwrap().starts_with(reason), "{line}");
            assert_eq!(line["upstream"], tool[..1], "{line}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let log = Log::new();
    // Long enough to be on its way before its end is known, and with another request's id at the end.
    let text = format!(r#"{{"jsonrpc":"2.0","result":{{"content":["{}"]}},"id":"another"}}"#, "x".repeat(200_000));
    let spec = modern().tool("x").on("tools/call", move |_| Answer::json(text.clone()));
    let nexus = log.of_a_gateway().upstream("a", spec).upstream("b", legacy().tool("x")).start().await;
    // It may break off before the client has the beginning.
    if let Ok(response) = nexus.modern().try_open_as(json!(1), "tools/call", json!({"name": "a__x"})).await {
        assert!(response.try_bytes().await.is_err());
    }
    let line = log.last(1).await;
    assert_eq!((&line["outcome"], &line["reason"]), (&json!("error"), &json!("protocol")), "{line}");
}

#[tokio::test]
async fn a_stream_that_ends_without_the_answer_is_an_error() {
    for kind in [legacy, modern] {
        let log = Log::new();
        let spec = kind().tool("x").on("tools/call", |call| Answer::events([call.progress(1)]));
        let nexus = log.of_a_gateway().upstream("a", spec).upstream("b", legacy().tool("x")).start().await;
        nexus.modern().call("a__x").await;
        let line = log.last(1).await;
        assert_eq!((&line["outcome"], &line["code"]), (&json!("error"), &json!(-32603)), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_cancels_or_hangs_up_leaves_a_line() {
    let log = Log::new();
    let (spec, mut held) = modern().tool("x").held("tools/call");
    let nexus = log.of_a_gateway().upstream("a", spec).upstream("b", legacy().tool("x")).start().await;
    let client = nexus.modern();
    let call = tokio::spawn(async move { client.call("a__x").await });
    let waiting = soon("the call", held.recv()).await.unwrap();
    call.abort();
    let line = log.last(1).await;
    assert_eq!((&line["outcome"], &line["tool"]), (&json!("cancelled"), &json!("a__x")), "{line}");
    drop(waiting);

    let client = nexus.legacy().await;
    let twin = client.twin();
    let call = tokio::spawn(async move { twin.open_as(json!("mine"), "tools/call", json!({"name": "a__x"})).await.texts().await });
    let _waiting = soon("the call", held.recv()).await.unwrap();
    client.notify("notifications/cancelled", json!({"requestId": "mine"})).await;
    assert!(call.await.unwrap().is_empty());
    assert_eq!(log.last(2).await["outcome"], "cancelled");
}

#[tokio::test]
async fn a_legacy_clients_call_that_goes_on_without_it_is_told_with_its_end() {
    let log = Log::new();
    let (spec, mut streams) = legacy().tool("x").streamed("tools/call");
    let nexus = log.of_a_gateway().upstream("a", spec).upstream("b", legacy().tool("x")).start().await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "a__x", "_meta": {"progressToken": 1}})).await;
    let (call, stream) = soon("the call", streams.recv()).await.unwrap();
    stream.event(call.progress(1)).await;
    response.next().await;
    drop(response);
    // It is in nobody's hands but the gateway's now; what it was counted as says so.
    let abandoned = || nexus.gateway.tally().read().any(|(_, outcome, _)| outcome == nexus::gateway::Outcome::Abandoned);
    until("the hang-up was noticed", abandoned).await;
    assert!(log.lines(&nexus).await.is_empty(), "it has not ended");
    stream.event(call.response(r#""content":[],"isError":true"#)).await;
    let line = log.last(1).await;
    assert_eq!((&line["outcome"], &line["client_left"]), (&json!("tool_error"), &json!(true)), "{line}");
}

#[tokio::test]
async fn a_call_that_asks_first_is_one_line_for_each_request() {
    let log = Log::new();
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = log.of_a_gateway().upstream("crm", spec).upstream("b", modern().tool("x")).start().await;
    let client = nexus.modern();
    let capabilities = json!({"elicitation": {"form": {}}});
    let mut params = json!({"name": "crm__work", "_meta": {"io.modelcontextprotocol/clientCapabilities": capabilities}});
    let response = client.open("tools/call", params.clone()).await;
    let (call, stream) = soon("the call", streams.recv()).await.unwrap();
    let form = json!({"message": "q", "requestedSchema": {"type": "object"}});
    stream.event(json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": form}).to_string()).await;
    let asked = response.answer().await;
    assert_eq!(log.last(1).await["outcome"], "input_required");
    let key = asked["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    params["requestState"] = asked["result"]["requestState"].clone();
    params["inputResponses"] = json!({key: {"action": "accept", "content": {}}});
    let response = client.open("tools/call", params).await;
    nexus.fake("crm").arrives("the answer", |call| call.json["id"] == "q" && call.method().is_empty()).await;
    stream.event(call.response(r#""content":[]"#)).await;
    response.answer().await;
    let line = log.last(2).await;
    assert_eq!((&line["outcome"], &line["tool"]), (&json!("ok"), &json!("crm__work")), "{line}");
}

#[tokio::test]
async fn without_the_table_nothing_is_written_and_no_answer_differs() {
    let nexus = gateway().upstream("a", modern().tool("x")).start().await;
    assert!(!nexus.gateway.audit().is_on());
    let response = nexus.modern().open("tools/call", json!({"name": "a__x"})).await;
    assert!(!response.headers.contains_key("x-request-id"));
    nexus.gateway.audit().written().await;
}
