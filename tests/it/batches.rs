//! Batches, which only 2025-03-26 has: taken apart on the way up, answered together on the way down.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, MODERN},
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    old_client::OldClient,
    soon,
};

const WITH_BATCHES: &str = "2025-03-26";

async fn start(spec: FakeSpec) -> Nexus {
    gateway().mcp("sse_path = \"/sse\"").upstream("up", spec).upstream("new", modern().tool("work")).start().await
}

async fn session_of(nexus: &Nexus, version: &str) -> Client {
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = client.header("mcp-session-id", &session);
    client.notify("notifications/initialized", json!({})).await;
    client
}

fn call(id: Value, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

fn by_id(answers: &Value) -> BTreeMap<String, Value> {
    answers.as_array().unwrap_or_else(|| panic!("no batch but {answers}")).iter().map(|one| (one["id"].to_string(), one.clone())).collect()
}

#[tokio::test]
async fn a_batch_is_taken_apart_and_answered_with_a_batch() {
    let nexus = start(legacy().tool("work")).await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let batch = json!([
        call(json!(1), "up__work"),
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        call(json!("1"), "new__work"),
        {"jsonrpc": "2.0", "id": 2, "method": "ping"},
        call(json!(3), "nobody__has_it"),
        {"jsonrpc": "2.0", "id": 4, "method": "initialize", "params": {}},
        7,
    ]);
    let response = client.post(batch.to_string()).await;
    assert_eq!((response.status, response.content_type()), (StatusCode::OK, "application/json"));
    let answers = by_id(&serde_json::from_str(&response.text().await).unwrap());
    assert_eq!(answers["1"]["result"]["content"][0]["text"], "up:work");
    assert_eq!(answers["\"1\""]["result"]["content"][0]["text"], "new:work");
    assert_eq!(answers["2"]["result"], json!({}));
    assert_eq!(answers["3"]["error"]["code"], -32602);
    assert_eq!(answers["4"]["error"]["code"], -32600, "initialize must not be part of a batch");
    assert_eq!(answers["null"]["error"]["code"], -32600);
    for up in ["up", "new"] {
        assert!(nexus.fake(up).seen().iter().all(|call| !call.json.is_array()), "no batch goes up");
    }
}

#[tokio::test]
async fn a_batch_without_a_request_is_only_acknowledged() {
    let nexus = start(legacy().tool("work")).await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let batch = json!([{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, {"jsonrpc": "2.0", "id": "x", "result": {}}]);
    let response = client.post(batch.to_string()).await;
    assert_eq!((response.status, response.text().await.as_str()), (StatusCode::ACCEPTED, ""));
}

#[tokio::test]
async fn requests_of_a_batch_do_not_wait_for_each_other() {
    let (spec, mut held) = legacy().tool("work").held("tools/call");
    let nexus = start(spec).await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let batch = json!([call(json!(1), "up__work"), call(json!(1), "up__work"), call(json!(2), "up__work")]).to_string();
    let waiting = tokio::spawn(async move { client.post(batch).await.text().await });
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(soon("a call of the batch", held.recv()).await.unwrap());
    }
    for (call, reply) in calls.into_iter().rev() {
        let _ = reply.send(Answer::json(call.response(r#""content":[]"#)));
    }
    let answers: Value = serde_json::from_str(&soon("the answers", waiting).await.unwrap()).unwrap();
    let mut ids: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 1, 2], "each is answered, also those with one id");
}

#[tokio::test]
async fn a_request_that_is_answered_with_a_stream_makes_the_whole_answer_one() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = start(spec).await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let twin = client.twin();
    let batch = json!([call(json!(1), "up__work"), {"jsonrpc": "2.0", "id": 2, "method": "ping"}]).to_string();
    let mut response = twin.post(batch).await;
    assert!(response.is_stream());
    let (called, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}).to_string()).await;
    let (mut pong, mut answered) = (false, false);
    while let Some(message) = response.next().await {
        match &message {
            message if message["method"] == "roots/list" => {
                client.reply(&message["id"], json!({"roots": []})).await;
                nexus.fake("up").arrives("the answer", |call| call.json["id"] == 7 && call.method().is_empty()).await;
                server.event(called.response(r#""content":[]"#)).await;
            }
            message if message["id"] == 2 => pong = true,
            message => answered = message["id"] == 1 && message["result"] == json!({"content": []}),
        }
    }
    assert!(pong && answered);
}

#[tokio::test]
async fn other_revisions_have_no_batches() {
    let nexus = start(legacy().tool("work")).await;
    let batch = json!([call(json!(1), "up__work")]).to_string();
    for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let response = session_of(&nexus, version).await.post(batch.clone()).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{version}");
        assert_eq!(response.answer().await["error"]["code"], -32600);
    }
    for client in [Client::stranger(nexus.address), Client::stranger(nexus.address).header("mcp-protocol-version", MODERN), nexus.modern()]
    {
        let response = client.post(batch.clone()).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST);
        assert_eq!(response.answer().await["error"]["code"], -32600);
    }
    assert!(nexus.fake("up").seen_of("tools/call").is_empty());
}

#[tokio::test]
async fn batches_that_are_none_or_too_much_are_refused() {
    let nexus = start(legacy().tool("work")).await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let many = Value::Array((0..101).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).collect());
    for bad in ["[]".to_owned(), "[".to_owned(), "[{}".to_owned(), many.to_string()] {
        assert_eq!(client.post(bad.clone()).await.status, StatusCode::BAD_REQUEST, "{}", bad.len());
    }
    let thief = Client::stranger(nexus.address).header("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(thief.post(json!([call(json!(1), "up__work")]).to_string()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn answers_that_are_too_long_together_become_errors() {
    let large = "x".repeat(40 << 10);
    let spec = legacy()
        .tool("work")
        .on("tools/call", move |call| Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":"{large}"}}]"#))));
    let nexus = gateway().bounds("max_event = \"64KiB\"").upstream("up", spec).upstream("new", modern().tool("work")).start().await;
    let client = session_of(&nexus, WITH_BATCHES).await;
    let batch = json!([call(json!(1), "up__work"), call(json!(2), "up__work")]);
    let answers: Value = serde_json::from_str(&client.post(batch.to_string()).await.text().await).unwrap();
    let failed = |answer: &&Value| answer["error"]["code"] == -32603;
    assert_eq!((answers.as_array().unwrap().len(), answers.as_array().unwrap().iter().filter(failed).count()), (2, 1));
}

#[tokio::test]
async fn a_batch_over_an_event_stream_is_answered_with_a_batch() {
    let nexus = start(legacy().tool("work")).await;
    let mut client = OldClient::open(nexus.address, WITH_BATCHES).await;
    let batch = json!([call(json!(8), "up__work"), call(json!(9), "new__work")]);
    assert_eq!(client.post(batch.clone()).await.status, StatusCode::ACCEPTED);
    let answers = by_id(&client.hears().await);
    assert_eq!((answers.len(), &answers["8"]["result"]["content"][0]["text"]), (2, &json!("up:work")));

    let mut older = OldClient::open(nexus.address, "2024-11-05").await;
    assert_eq!(older.post(batch).await.status, StatusCode::ACCEPTED);
    assert_eq!(older.hears().await["error"]["code"], -32600);
}
