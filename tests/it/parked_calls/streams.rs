//! What a server says besides its questions, on which stream, and who hangs up when.

use super::*;
use crate::support::fake::Held;

#[tokio::test]
async fn progress_goes_to_whoever_waits_under_the_token_that_it_gave() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let mut first = params();
    first["_meta"]["progressToken"] = json!("one");
    let (mut response, call, server) = begin_with(&client, &mut streams, first).await;
    server.event(call.progress(1)).await;
    assert_eq!(response.next().await.unwrap()["params"], json!({"progressToken": "one", "progress": 1}));
    server.event(form("q")).await;
    let round = asked(response).await;
    server.event(call.progress(2)).await;
    let mut retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    retry["_meta"]["progressToken"] = json!(2);
    let mut response = client.open("tools/call", retry).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    server.event(call.progress(3)).await;
    let progress = response.next().await.unwrap();
    assert_eq!((&progress["params"]["progressToken"], progress["params"]["progress"].as_u64() >= Some(2)), (&json!(2), true));
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_question_cancels_and_one_that_was_asked_does_not() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    drop(response);
    let told = nexus.fake("crm").arrives("the cancellation", |call| call.method() == "notifications/cancelled").await;
    assert_eq!(told.params()["requestId"], *call.id());
    soon("the end of the stream", server.gone()).await;

    let (response, call, server) = begin(&client, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    let retry = retry_of(&params(), &round, &accepting(&round, &json!({})));
    let response = client.open("tools/call", retry.clone()).await;
    answer_to(nexus.fake("crm"), &json!("q")).await;
    assert_eq!(cancellations(nexus.fake("crm")).len(), 1, "the end of the first request was no cancellation");
    // The retry is a request as any other.
    drop(response);
    let of_this = |told: &Call| told.method() == "notifications/cancelled" && told.params()["requestId"] == *call.id();
    nexus.fake("crm").arrives("the cancellation", of_this).await;
    soon("the end of the stream", server.gone()).await;
    is_refused(&client.ask("tools/call", retry).await);
}

/// A server that offers its session's stream and answers no call before the test says so.
async fn silent() -> (Nexus, Held) {
    let (spec, held) = legacy().get_stream().held("tools/call");
    (with_tool(spec).start().await, held)
}

#[tokio::test]
async fn a_question_on_the_sessions_own_stream_is_that_of_the_only_call() {
    let (nexus, mut held) = silent().await;
    let client = nexus.modern();
    let call = tokio::spawn(async move { (client.open("tools/call", params()).await, client) });
    let (arrived, answer) = soon("the call", held.recv()).await.unwrap();
    let session = arrived.header("mcp-session-id").unwrap().to_owned();
    let stream = nexus.fake("crm").stream_of(&session).await;
    stream.event(form("q")).await;
    let (response, client) = soon("the result", call).await.unwrap();
    let round = asked(response).await;
    let response = client.open("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({"n": 1})))).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("q")).await.json["result"]["content"]["n"], 1);
    stream.event(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("p")).await.json["result"], json!({}));
    let _ = answer.send(crate::support::fake::Answer::json(arrived.response(r#""content":[]"#)));
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_question_on_the_sessions_own_stream_that_could_be_anyones_is_declined() {
    let (nexus, mut held) = silent().await;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let client = nexus.modern();
            tokio::spawn(async move { client.ask("tools/call", params()).await })
        })
        .collect();
    let first = soon("a call", held.recv()).await.unwrap();
    let second = soon("a call", held.recv()).await.unwrap();
    let session = first.0.header("mcp-session-id").unwrap().to_owned();
    assert_eq!(second.0.header("mcp-session-id"), Some(&*session), "they share it");
    let stream = nexus.fake("crm").stream_of(&session).await;
    stream.event(form("q")).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("q")).await.json["error"]["code"], -32601);
    for (call, answer) in [first, second] {
        let _ = answer.send(crate::support::fake::Answer::json(call.response(r#""content":[]"#)));
    }
    for call in calls {
        assert_eq!(call.await.unwrap()["result"]["resultType"], "complete");
    }
    // Nobody is there.
    stream.event(form("r")).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("r")).await.json["error"]["code"], -32601);
}

#[tokio::test]
async fn progress_on_the_sessions_own_stream_finds_its_call() {
    let (spec, mut streams) = legacy().get_stream().streamed("tools/call");
    let nexus = with_tool(spec).start().await;
    let mut calls = Vec::new();
    for n in 0..2 {
        let mut asks = params();
        asks["_meta"]["progressToken"] = json!(format!("t{n}"));
        calls.push(begin_with(&nexus.modern(), &mut streams, asks).await);
    }
    let stream = nexus.fake("crm").stream_of(calls[0].1.header("mcp-session-id").unwrap()).await;
    for (n, (response, call, _)) in calls.iter_mut().enumerate().rev() {
        stream.event(call.progress(7)).await;
        assert_eq!(response.next().await.unwrap()["params"], json!({"progressToken": format!("t{n}"), "progress": 7}));
    }
}

#[tokio::test]
async fn a_client_that_declares_nothing_costs_no_stream() {
    let nexus = with_tool(legacy().get_stream()).start().await;
    nexus.modern().call("crm__work").await;
    let session = nexus.fake("crm").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    assert!(nexus.fake("crm").seen_of("GET").iter().all(|call| call.header("mcp-session-id") != Some(&*session)));
}

#[tokio::test]
async fn a_server_that_never_begins_its_own_stream_holds_up_no_call_for_long() {
    let (spec, mut gets) = legacy().held("GET");
    let nexus = with_tool(spec).start().await;
    for _ in 0..3 {
        let answer = soon("the answer", nexus.modern().ask("tools/call", params())).await;
        assert_eq!(answer["result"]["resultType"], "complete");
    }
    // The gateway's own session has one too.
    let session = nexus.fake("crm").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let mut asked_for = 0;
    while let Ok((call, _)) = gets.try_recv() {
        asked_for += usize::from(call.header("mcp-session-id") == Some(&*session));
    }
    assert_eq!(asked_for, 1);
}

#[tokio::test]
async fn a_sessions_own_stream_that_ends_is_opened_again_and_holds_up_no_call() {
    let (nexus, mut held) = silent().await;
    let client = nexus.modern();
    let call = tokio::spawn(async move { client.ask("tools/call", params()).await });
    let (arrived, answer) = soon("the call", held.recv()).await.unwrap();
    let session = arrived.header("mcp-session-id").unwrap().to_owned();
    let opened = || nexus.fake("crm").seen_of("GET").iter().filter(|get| get.header("mcp-session-id") == Some(&*session)).count();
    nexus.fake("crm").stream_of(&session).await.break_off().await;
    crate::support::until("the stream again", || opened() == 2).await;
    let again = nexus.fake("crm").stream_of(&session).await;
    again.event(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("p")).await.json["result"], json!({}));
    let _ = answer.send(crate::support::fake::Answer::json(arrived.response(r#""content":[]"#)));
    assert_eq!(call.await.unwrap()["result"]["resultType"], "complete");
}
