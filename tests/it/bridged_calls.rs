//! What else a modern server may answer to a legacy client's call: with a task, or with a refusal that another form of the
//! same call meets.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, text},
    fake::{Answer, Call, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
};

const TASKS: &str = "io.modelcontextprotocol/tasks";

async fn behind(spec: FakeSpec) -> Nexus {
    gateway().upstream("new", spec).upstream("other", legacy().tool("x")).start().await
}

fn knows_tasks(call: &Call) -> bool {
    call.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"][TASKS].is_object()
}

/// Refuses calls that do not know tasks, and makes a task of all others.
fn call_that_needs_tasks(call: &Call) -> Answer {
    if !knows_tasks(call) {
        let data = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
        let error = json!({"jsonrpc": "2.0", "id": call.id(), "error": {"code": -32021, "message": "tasks", "data": data}});
        return Answer::new(400, "application/json", error.to_string());
    }
    Answer::json(call.response(&task(r#""resultType":"task""#, "working", "")))
}

fn task(head: &str, status: &str, more: &str) -> String {
    format!(r#"{head},"taskId":"t/1 é","status":"{status}","createdAt":"","lastUpdatedAt":"","ttlMs":null,"pollIntervalMs":1{more}"#)
}

/// A server whose only tool runs as a task; each look at it finds the next state, the last one again and again.
fn with_task(states: &'static [(&'static str, &'static str)]) -> FakeSpec {
    let looks = Arc::new(AtomicUsize::new(0));
    let look = move |call: &Call| {
        let n = looks.fetch_add(1, Ordering::SeqCst);
        let (status, more) = states[n.min(states.len() - 1)];
        Answer::json(call.response(&task(r#""resultType":"complete""#, status, more)))
    };
    let ack = |call: &Call| Answer::json(call.response(r#""resultType":"complete""#));
    modern().tool("work").on("tools/call", call_that_needs_tasks).on("tasks/get", look).on("tasks/update", ack).on("tasks/cancel", ack)
}

async fn call(client: &Client) -> Value {
    soon("the answer", client.open_as(json!("mine"), "tools/call", json!({"name": "new__work"}))).await.answer().await
}

#[tokio::test]
async fn a_task_is_driven_to_its_end_and_its_result_is_the_answer_of_the_call() {
    let done = r#","result":{"content":[{"type":"text","text":"done"}],"n":1.0,"structuredContent":[1]}"#;
    let states: &[_] = Box::leak(Box::new([("working", ""), ("working", ""), ("completed", done)]));
    let nexus = behind(with_task(states)).await;
    let client = nexus.legacy().await;
    let mut response = client.open_as(json!("mine"), "tools/call", json!({"name": "new__work"})).await;
    let answer = response.next_text().await.unwrap();
    let expected = r#"{"jsonrpc":"2.0","id":"mine","result":{"content":[{"type":"text","text":"done"}],"n":1.0}}"#;
    assert_eq!(answer, expected, "as the server wrote it, but for what the revision does not know");
    let calls = nexus.fake("new").seen_of("tools/call");
    assert_eq!(calls.iter().map(knows_tasks).collect::<Vec<_>>(), [false, true], "tasks are declared where they are needed");
    let looks = nexus.fake("new").seen_of("tasks/get");
    assert_eq!(looks.len(), 3);
    for look in &looks {
        assert!(knows_tasks(look) && look.params()["taskId"] == "t/1 é");
        assert!(look.header("mcp-name").unwrap().starts_with("=?base64?"), "{look:?}");
        assert_eq!(look.header("mcp-method"), Some("tasks/get"));
    }
    assert_eq!(nexus.fake("new").seen_of("tasks/cancel").len(), 0);
}

#[tokio::test]
async fn a_task_that_was_not_asked_for_is_driven_too() {
    let spec = with_task(&[("completed", r#","result":{"content":[]}"#)])
        .on("tools/call", |call| Answer::events([call.response(&task(r#""resultType":"task""#, "working", ""))]));
    let nexus = behind(spec).await;
    assert_eq!(call(&nexus.legacy().await).await["result"], json!({"content": []}));
}

#[tokio::test]
async fn what_a_task_asks_is_asked_once_and_its_answer_goes_to_the_task() {
    let asks = r#","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"first"}}}"#;
    let both = r#","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"first"}},"b":{"method":"roots/list"}}"#;
    let states: &[_] = Box::leak(Box::new([
        ("input_required", asks),
        ("input_required", asks),
        ("input_required", both),
        ("completed", r#","result":{"content":[]}"#),
    ]));
    let nexus = behind(with_task(states)).await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "new__work"})).await;
    for (method, given) in [("elicitation/create", json!({"action": "accept"})), ("roots/list", json!({"roots": []}))] {
        let asked = response.next().await.unwrap();
        assert_eq!(asked["method"], method);
        client.reply(&asked["id"], given).await;
    }
    assert_eq!(response.next().await.unwrap()["result"], json!({"content": []}));
    let updates: Vec<_> = nexus.fake("new").seen_of("tasks/update").iter().map(|call| call.params()["inputResponses"].clone()).collect();
    assert_eq!(updates, [json!({"a": {"action": "accept"}}), json!({"b": {"roots": []}})]);
    assert_eq!(nexus.fake("new").seen_of("tools/call").len(), 2, "the call itself is not made again");
}

#[tokio::test]
async fn a_task_that_fails_or_vanishes_is_an_error_of_the_call() {
    for (states, code, words) in [
        (&[("failed", r#","error":{"code":-32603,"message":"no luck","data":{"n":1.0}}"#)][..], -32603, "no luck"),
        (&[("cancelled", "")], -32603, "cancelled the task"),
        (&[("completed", "")], -32603, "broke the protocol"),
        (&[("completed", r#","result":{"resultType":"input_required","requestState":"s"}"#)], -32603, "broke the protocol"),
        (&[("odd", "")], -32603, "broke the protocol"),
    ] {
        let nexus = behind(with_task(states)).await;
        let answer = call(&nexus.legacy().await).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("mine"), &json!(code)), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
    }
    let spec = with_task(&[("working", "")]).on("tasks/get", |call| Answer::new(400, "application/json", call.error(-32602)));
    let answer = call(&behind(spec).await.legacy().await).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]), (&json!(-32602), &json!({"kept": 1})));
}

#[tokio::test]
async fn a_task_that_speaks_of_another_task_is_refused() {
    let other = r#""resultType":"complete","taskId":"other","status":"completed","result":{"content":[]}"#;
    let nexus = behind(with_task(&[("working", "")]).on("tasks/get", |call| Answer::json(call.response(other)))).await;
    let answer = call(&nexus.legacy().await).await;
    assert_eq!(answer["error"]["data"]["reason"], "protocol", "{answer}");
    nexus.fake("new").arrives("the cancellation", |call| call.method() == "tasks/cancel").await;
}

#[tokio::test]
async fn a_cancelled_call_cancels_its_task_and_so_does_the_end_of_the_session() {
    for ends_session in [false, true] {
        let nexus = behind(with_task(&[("working", "")])).await;
        let client = nexus.legacy().await;
        let mut response = client.open_as(json!("mine"), "tools/call", json!({"name": "new__work"})).await;
        nexus.fake("new").arrives("a look at the task", |call| call.method() == "tasks/get").await;
        if ends_session {
            client.delete().await;
        } else {
            client.notify("notifications/cancelled", json!({"requestId": "mine"})).await;
        }
        let told = nexus.fake("new").arrives("the cancellation", |call| call.method() == "tasks/cancel").await;
        assert_eq!(told.params()["taskId"], "t/1 é");
        assert_eq!(response.next().await, None, "a cancelled call is not answered");
    }
}

#[tokio::test]
async fn a_task_goes_on_for_a_client_that_lost_its_stream() {
    let nexus = behind(with_task(&[("working", "")])).await;
    let client = nexus.legacy().await;
    let response = client.open("tools/call", json!({"name": "new__work"})).await;
    drop(response);
    client.ask("ping", json!({})).await;
    let looks = nexus.fake("new").seen_of("tasks/get").len();
    until("further looks", || nexus.fake("new").seen_of("tasks/get").len() > looks + 3).await;
    assert!(nexus.fake("new").seen_of("tasks/cancel").is_empty());
}

#[tokio::test]
async fn a_capability_that_nobody_has_is_an_error_with_its_data() {
    let spec = modern().tool("work").on("tools/call", |call| {
        let data = json!({"requiredCapabilities": {"elicitation": {}}});
        let error = json!({"jsonrpc": "2.0", "id": call.id(), "error": {"code": -32021, "message": "m", "data": data}});
        Answer::new(400, "application/json", error.to_string())
    });
    let nexus = behind(spec).await;
    let response = nexus.legacy().await.open("tools/call", json!({"name": "new__work"})).await;
    assert_eq!(response.status, StatusCode::OK);
    let answer = response.answer().await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["requiredCapabilities"]), (&json!(-32602), &json!({"elicitation": {}})));
    assert_eq!(nexus.fake("new").seen_of("tools/call").len(), 1);
}

fn annotated(header: &str) -> String {
    let schema = format!(r#"{{"type":"object","properties":{{"region":{{"type":"string","x-mcp-header":"{header}"}}}}}}"#);
    format!(r#"{{"name":"work","inputSchema":{schema}}}"#)
}

#[tokio::test]
async fn a_header_that_the_server_wants_otherwise_by_now_is_looked_up_and_the_call_made_again() {
    let spec = modern().raw_tool(&annotated("Zone")).on("tools/call", |call| match call.header("mcp-param-region") {
        Some("eu") => Answer::json(call.response(r#""resultType":"complete","content":[]"#)),
        _ => Answer::new(400, "application/json", call.error(-32020)),
    });
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    nexus.fake("new").change(|offer| offer.tools = vec![annotated("Region")]);
    let params = json!({"name": "new__work", "arguments": {"region": "eu"}});
    let answer = client.ask("tools/call", params.clone()).await;
    assert_eq!(answer["result"], json!({"resultType": "complete", "content": []}));
    let headers = |call: &Call| (call.header("mcp-param-zone").map(str::to_owned), call.header("mcp-param-region").map(str::to_owned));
    let eu = || Some("eu".to_owned());
    let calls: Vec<_> = nexus.fake("new").seen_of("tools/call").iter().map(headers).collect();
    assert_eq!(calls, [(eu(), None), (None, eu())]);
    client.ask("tools/call", params).await;
    assert_eq!(headers(&nexus.fake("new").last("tools/call")), (None, eu()), "later calls know it");
    assert_eq!(nexus.fake("new").seen_of("tools/call").len(), 3);
}

#[tokio::test]
async fn a_server_that_likes_no_header_is_asked_twice_and_no_more() {
    let spec = modern().tool("work").on("tools/call", |call| Answer::new(400, "application/json", call.error(-32020)));
    let nexus = behind(spec).await;
    let answer = call(&nexus.legacy().await).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]), (&json!(-32603), &json!({"kept": 1})), "{answer}");
    assert_eq!(nexus.fake("new").seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn the_only_upstreams_list_is_one_that_a_legacy_client_can_read() {
    let good = r#"{"name":"good","inputSchema":{"type":"object"},"outputSchema":{"type":"object"},"n":1.0}"#;
    let array = r#"{"name":"array","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#;
    let spec = modern()
        .raw_tool(good)
        .raw_tool(array)
        .raw_tool(r#"{"name":"no schema"}"#)
        .raw_tool(r#"{"name":"odd header","inputSchema":{"type":"object","properties":{"p":{"type":"array","x-mcp-header":"P"}}}}"#)
        .toml("prefix = \"\"");
    let nexus = gateway().upstream("new", spec).start().await;
    let listed = nexus.legacy().await.open("tools/list", json!({})).await.text().await;
    assert!(listed.contains(&format!(r#""tools":[{good},{{"name":"array","inputSchema":{{"type":"object"}}}}]"#)), "{listed}");
    let shown = nexus.modern().ask("tools/list", json!({})).await;
    assert_eq!(shown["result"]["tools"].as_array().unwrap().len(), 4, "a modern client gets what the server wrote");
}

#[tokio::test]
async fn tasks_are_not_offered_to_a_legacy_client() {
    let spec = modern().tool("work").toml("prefix = \"\"").on("server/discover", |call| {
        let capabilities = json!({"tools": {}, "extensions": {TASKS: {}, "a/ui": {}}});
        let members = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "supportedVersions": ["2026-07-28"], "capabilities": capabilities});
        let members = members.to_string();
        Answer::json(call.response(&members[1..members.len() - 1]))
    });
    let nexus = gateway().upstream("new", spec).start().await;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeting = Client::stranger(nexus.address).open("initialize", params).await.answer().await;
    assert_eq!(greeting["result"]["capabilities"], json!({"tools": {}, "extensions": {"a/ui": {}}}), "{greeting}");
    assert_eq!(text(&nexus.legacy().await.call("work").await), "new:work");
}
