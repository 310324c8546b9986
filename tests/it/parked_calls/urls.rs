//! A server that sends the user to URLs before it does anything (MCP 2025-11-25, client/elicitation): the client is asked,
//! and the call is made again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::support::fake::Answer;

fn url(n: u32) -> Value {
    json!({"mode": "url", "elicitationId": format!("e{n}"), "url": format!("https://x/{n}"), "message": format!("visit {n}")})
}

/// Answers so many calls with an error that names two URLs, and then works.
fn sending(times: usize) -> FakeSpec {
    let calls = Arc::new(AtomicUsize::new(0));
    legacy().on("tools/call", move |call| {
        if calls.fetch_add(1, Ordering::SeqCst) < times {
            let error = json!({"code": -32042, "message": "visit these", "data": {"elicitations": [url(1), url(2)]}});
            return Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "error": error}).to_string());
        }
        Answer::json(call.response(r#""content":[{"type":"text","text":"done"}]"#))
    })
}

fn consent(round: &Value) -> Value {
    round["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .map(|key| (key.clone(), json!({"action": "accept"})))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn an_error_that_names_urls_becomes_a_result_that_asks_and_the_call_is_made_again() {
    let nexus = with_tool(sending(2)).start().await;
    let client = nexus.modern();
    let mut round = asked(client.open("tools/call", params()).await).await;
    for _ in 0..2 {
        let requests: Vec<_> = round["inputRequests"].as_object().unwrap().values().cloned().collect();
        let expected = |n: u32| {
            let mut params = url(n);
            params.as_object_mut().unwrap().remove("elicitationId");
            json!({"method": "elicitation/create", "params": params})
        };
        assert_eq!(requests, [expected(1), expected(2)]);
        let answer = client.ask("tools/call", retry_of(&params(), &round, &consent(&round))).await;
        if answer["result"]["resultType"] == "complete" {
            assert_eq!(text(&answer), "done");
            break;
        }
        round = answer["result"].clone();
    }
    let calls = nexus.fake("crm").seen_of("tools/call");
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert_eq!((&call.params()["requestState"], &call.params()["inputResponses"]), (&Value::Null, &Value::Null));
        assert_eq!(call.params()["arguments"], params()["arguments"]);
    }
}

#[tokio::test]
async fn a_call_is_made_again_once_for_each_consent_and_never_without() {
    let nexus = with_tool(sending(1)).start().await;
    let client = nexus.modern();
    let round = asked(client.open("tools/call", params()).await).await;
    let good = retry_of(&params(), &round, &consent(&round));
    let mut other = good.clone();
    other["arguments"] = json!({"x": 1});
    is_refused(&client.ask("tools/call", other).await);
    assert_eq!(text(&client.ask("tools/call", good.clone()).await), "done");
    is_refused(&client.ask("tools/call", good).await);
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 2);

    let nexus = with_tool(sending(1)).start().await;
    let client = nexus.modern();
    let round = asked(client.open("tools/call", params()).await).await;
    let mut answers = consent(&round);
    answers["visit-2"]["action"] = "decline".into();
    let refused = client.ask("tools/call", retry_of(&params(), &round, &answers)).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_server_that_sends_users_to_urls_for_ever_gets_an_end() {
    let nexus = with_tool(sending(1000)).start().await;
    let client = nexus.modern();
    let mut answer = client.ask("tools/call", params()).await;
    let mut rounds = 0;
    while answer["result"]["resultType"] == "input_required" {
        rounds += 1;
        answer = client.ask("tools/call", retry_of(&params(), &answer["result"], &consent(&answer["result"]))).await;
    }
    assert_eq!((rounds, &answer["error"]["code"]), (16, &json!(-32602)), "{answer}");
}

#[tokio::test]
async fn a_client_that_cannot_be_sent_to_urls_gets_an_error_that_its_revision_knows() {
    let nexus = with_tool(sending(1)).start().await;
    let mut asks = params();
    asks["_meta"][CAPABILITIES] = json!({"elicitation": {}});
    let answer = nexus.modern().ask("tools/call", asks).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn with_a_secret_of_the_operators_the_consent_outlives_the_gateway() {
    let secrets = |list: &str| format!("[state]\nsecrets = [{list}]");
    let (old, new) = ("\"{{ env.OLD }}\"", "\"{{ env.NEW }}\"");
    let start = |list: String| {
        let spec = with_tool(sending(1)).env("OLD", &"o".repeat(32)).env("NEW", &"n".repeat(32));
        async move { spec.tables(&secrets(&list)).start().await }
    };
    let before = start(old.to_owned()).await;
    let round = asked(before.modern().open("tools/call", params()).await).await;
    let retry = retry_of(&params(), &round, &consent(&round));
    let after = start(format!("{new}, {old}")).await;
    // Its server wants the visit too.
    assert_eq!(asked(after.modern().open("tools/call", retry.clone()).await).await["resultType"], "input_required");
    is_refused(&start(new.to_owned()).await.modern().ask("tools/call", retry).await);
}
