//! Tools that a server of 2025-11-25 runs as a task only: the gateway makes the task, and the client waits as for any call.

use serde_json::{Value, json};

use super::{accepting, answer_to, asked, form, params, retry_of};
use crate::support::{
    client::text,
    fake::{Answer, Call, FakeSpec, Streams, legacy, modern},
    nexus::{GatewaySpec, gateway},
    soon,
};

const TASKS: &str = r#"{"tasks":{"requests":{"tools":{"call":{}}},"cancel":{}}}"#;

fn task_only(declares: &str) -> FakeSpec {
    let item = r#"{"name":"work","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}"#;
    legacy().raw_tool(item).declares(serde_json::from_str(declares).unwrap())
}

/// A server that makes a task of the call, and answers for its result with a stream of the test's.
fn working() -> (GatewaySpec, Streams) {
    let made = |call: &Call| {
        let task = r#""task":{"taskId":"t-1","status":"working","createdAt":"2026-01-01T00:00:00Z","ttl":null}"#;
        Answer::json(if call.params()["task"] == json!({}) { call.response(task) } else { call.error(-32601) })
    };
    let (spec, streams) = task_only(TASKS).on("tools/call", made).streamed("tasks/result");
    (gateway().upstream("crm", spec).upstream("other", modern().tool("easy")), streams)
}

fn done(call: &Call, words: &str) -> String {
    call.response(&format!(r#""content":[{{"type":"text","text":"{words}"}}]"#))
}

#[tokio::test]
async fn a_tool_that_runs_as_a_task_only_is_called_like_any_other() {
    let (spec, mut streams) = working();
    let nexus = spec.start().await;
    let mut wanted = params();
    wanted["_meta"]["progressToken"] = json!("p");
    let response = nexus.modern().open("tools/call", wanted).await;
    let (call, server) = soon("the request for the result", streams.recv()).await.unwrap();
    assert_eq!(call.params(), &json!({"taskId": "t-1"}));
    let made = nexus.fake("crm").last("tools/call");
    assert_eq!((&made.params()["name"], &made.params()["arguments"]), (&json!("work"), &params()["arguments"]));
    assert_ne!(made.id(), call.id());

    server.event(made.progress(1)).await;
    server.event(done(&call, "done")).await;
    let messages: Vec<Value> = response.texts().await.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(messages[0]["params"], json!({"progressToken": "p", "progress": 1}));
    assert_eq!((text(&messages[1]), &messages[1]["result"]["resultType"]), ("done", &json!("complete")));
    assert_eq!(messages.len(), 2);
    assert!(nexus.fake("crm").seen_of("tasks/cancel").is_empty());
}

#[tokio::test]
async fn what_a_task_asks_is_asked_and_the_retry_brings_the_answer() {
    let (spec, mut streams) = working();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let response = client.open("tools/call", params()).await;
    let (call, server) = soon("the request for the result", streams.recv()).await.unwrap();
    server.event(form("q")).await;
    let round = asked(response).await;
    let retry = client.open("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({"x": 1})))).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("q")).await.json["result"]["content"], json!({"x": 1}));
    server.event(done(&call, "thanks")).await;
    assert_eq!(text(&retry.answer().await), "thanks");
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 1, "it runs once");
}

#[tokio::test]
async fn the_task_of_a_client_that_hangs_up_is_cancelled() {
    let (spec, mut streams) = working();
    let nexus = spec.start().await;
    let waiting = tokio::spawn({
        let client = nexus.modern();
        async move { client.ask("tools/call", params()).await }
    });
    let (call, _server) = soon("the request for the result", streams.recv()).await.unwrap();
    waiting.abort();
    let fake = nexus.fake("crm");
    let told = fake.arrives("the end of the task", |call| call.method() == "tasks/cancel").await;
    assert_eq!(told.params(), &json!({"taskId": "t-1"}));
    let told = fake.arrives("the end of the wait", |call| call.method() == "notifications/cancelled").await;
    assert_eq!(told.params()["requestId"], *call.id());
}

#[tokio::test]
async fn a_server_that_answers_at_once_or_refuses_the_task_has_the_word() {
    for (answer, words) in [(true, "at once"), (false, "")] {
        let spec = task_only(TASKS).on("tools/call", move |call| Answer::json(if answer { done(call, words) } else { call.error(-32099) }));
        let nexus = gateway().upstream("crm", spec).upstream("other", modern().tool("easy")).start().await;
        let got = nexus.modern().ask("tools/call", params()).await;
        match answer {
            true => assert_eq!(text(&got), words),
            false => assert_eq!(got["error"]["code"], -32099, "{got}"),
        }
        assert!(nexus.fake("crm").seen_of("tasks/result").is_empty());
    }
}

#[tokio::test]
async fn a_task_with_an_endless_id_is_refused() {
    let long = "x".repeat(2000);
    let spec = task_only(TASKS)
        .on("tools/call", move |call| Answer::json(call.response(&format!(r#""task":{{"taskId":"{long}","status":"working"}}"#))));
    let nexus = gateway().upstream("crm", spec).upstream("other", modern().tool("easy")).start().await;
    let got = nexus.modern().ask("tools/call", params()).await;
    assert_eq!((&got["error"]["code"], &got["error"]["data"]["reason"]), (&json!(-32603), &json!("protocol")), "{got}");
    assert!(nexus.fake("crm").seen_of("tasks/result").is_empty());
}

#[tokio::test]
async fn no_task_is_made_at_a_server_that_takes_none_nor_for_a_client_that_knows_them() {
    let spec = task_only("{}").on("tools/call", |call| Answer::json(done(call, "plain")));
    let nexus = gateway().upstream("crm", spec).upstream("other", modern().tool("easy")).start().await;
    assert_eq!(text(&nexus.modern().ask("tools/call", params()).await), "plain");
    assert_eq!(nexus.fake("crm").last("tools/call").params().get("task"), None);

    let (spec, _streams) = working();
    let nexus = spec.start().await;
    let refused = nexus.legacy().await.ask("tools/call", json!({"name": "crm__work"})).await;
    assert_eq!(refused["error"]["code"], -32601, "its own affair: {refused}");
}
