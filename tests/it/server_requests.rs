//! A server asks in the middle of a call: the client's answer finds it, and nobody else can give one.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, Response, text},
    fake::{Answer, Call, Streams, legacy, modern},
    nexus::{Nexus, gateway},
    soon,
    wire::Sender,
};

/// A gateway whose `crm__work` is answered with a stream of the test's.
async fn asking() -> (Nexus, Streams) {
    let (spec, streams) = legacy().tool("work").tool("easy").streamed("tools/call");
    (gateway().upstream("crm", spec).upstream("other", modern().tool("easy")).start().await, streams)
}

async fn begin(client: &Client, streams: &mut Streams) -> (Response, Call, Sender) {
    let response = client.open("tools/call", json!({"name": "crm__work"})).await;
    let (call, sender) = soon("the call", streams.recv()).await.unwrap();
    (response, call, sender)
}

fn question(id: &Value, method: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"message": "sure?", "z": 1, "a": 2}}).to_string()
}

/// The client's answers that reached the server.
fn answers(nexus: &Nexus) -> Vec<Call> {
    nexus.fake("crm").seen().into_iter().filter(|call| call.method().is_empty() && call.verb == "POST").collect()
}

#[tokio::test]
async fn a_question_reaches_the_client_and_its_answer_the_server() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams).await;
    for (id, method) in [
        (json!(1), "elicitation/create"),
        (json!("1"), "sampling/createMessage"),
        (json!("é-7"), "roots/list"),
        (json!(9_007_199_254_740_993_u64), "elicitation/create"),
    ] {
        server.event(question(&id, method)).await;
        let asked = response.next().await.unwrap();
        assert_eq!((&asked["method"], &asked["params"]), (&json!(method), &json!({"message": "sure?", "z": 1, "a": 2})));
        assert_ne!(asked["id"], id, "the client sees another id");

        let result = format!(r#"{{"jsonrpc":"2.0","result":{{"action":"accept","n":1.0}},"id":{}}}"#, asked["id"]);
        assert_eq!(client.post(result.clone()).await.status, StatusCode::ACCEPTED);
        let arrived = answers(&nexus).pop().unwrap();
        assert_eq!(arrived.text(), result.replace(&asked["id"].to_string(), &id.to_string()), "only the id is changed back");
        assert_eq!(arrived.header("mcp-session-id"), call.header("mcp-session-id"), "within the session that asked");
    }
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["result"], json!({"content": []}));
}

#[tokio::test]
async fn an_error_is_an_answer_too() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, _, server) = begin(&client, &mut streams).await;
    server.event(question(&json!("q"), "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    let refusal = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "declined"}});
    assert_eq!(client.post(refusal.to_string()).await.status, StatusCode::ACCEPTED);
    let arrived = answers(&nexus).pop().unwrap();
    assert_eq!((&arrived.json["id"], &arrived.json["error"]), (&json!("q"), &json!({"code": -1, "message": "declined"})));
}

#[tokio::test]
async fn an_answer_counts_once() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams).await;
    server.event(question(&json!("q"), "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    for answer in ["first", "second"] {
        assert_eq!(client.reply(&asked["id"], json!({"said": answer})).await, StatusCode::ACCEPTED);
    }
    let arrived: Vec<_> = answers(&nexus).iter().map(|call| call.json["result"]["said"].clone()).collect();
    assert_eq!(arrived, ["first"]);
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object(), "the call goes on");
}

#[tokio::test]
async fn an_answer_from_another_session_or_to_a_guessed_id_is_dropped() {
    let (nexus, mut streams) = asking().await;
    let (victim, thief) = (nexus.legacy().await, nexus.legacy().await);
    let (mut response, _, server) = begin(&victim, &mut streams).await;
    server.event(question(&json!("q"), "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    assert_eq!(thief.reply(&asked["id"], json!({"said": "stolen"})).await, StatusCode::ACCEPTED);
    for guessed in [json!("q"), json!(1), json!("")] {
        assert_eq!(victim.reply(&guessed, json!({"said": "guessed"})).await, StatusCode::ACCEPTED);
    }
    assert!(answers(&nexus).is_empty());
    victim.reply(&asked["id"], json!({"said": "mine"})).await;
    assert_eq!(answers(&nexus).pop().unwrap().json["result"]["said"], "mine", "the right one still counts");
}

#[tokio::test]
async fn ids_of_questions_are_long_and_never_repeat() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, _, server) = begin(&client, &mut streams).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        server.event(question(&json!("same"), "elicitation/create")).await;
        let asked = response.next().await.unwrap();
        let id = asked["id"].as_str().unwrap().to_owned();
        assert!(id.len() >= 22, "128 bits: {id}");
        assert!(seen.insert(id));
    }
}

#[tokio::test]
async fn a_question_is_withdrawn_with_its_call() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams).await;
    server.event(question(&json!("q"), "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object());
    assert_eq!(response.next().await, None);
    client.reply(&asked["id"], json!({"said": "late"})).await;
    assert!(answers(&nexus).is_empty());
}

#[tokio::test]
async fn a_servers_ping_is_answered_by_the_gateway() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams).await;
    server.event(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
    let pong = nexus.fake("crm").arrives("the pong", |call| call.json["id"] == "p").await;
    assert_eq!(pong.json["result"], json!({}));
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object(), "the client saw no ping");
}

#[tokio::test]
async fn a_modern_client_is_not_asked_and_the_server_is_told() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.modern();
    let (mut response, call, server) = begin(&client, &mut streams).await;
    let opened = nexus.fake("crm").seen_of("initialize");
    assert!(opened.iter().all(|call| call.params()["capabilities"] == json!({})), "nothing is declared that could be asked for");
    server.event(question(&json!("q"), "elicitation/create")).await;
    let refusal = nexus.fake("crm").arrives("the refusal", |call| call.json["id"] == "q").await;
    assert_eq!(refusal.json["error"]["code"], -32601);
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_child_may_ask_the_client_of_its_call() {
    let nexus = gateway().upstream("kid", child().toml("isolation = \"session\"")).start().await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "kid__ask"})).await;
    let asked = response.next().await.unwrap();
    assert_eq!(asked["method"], "elicitation/create");
    assert_ne!(asked["id"], "q");
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    assert_eq!(text(&response.next().await.unwrap()), r#"{"action": "accept"}"#);
}

#[tokio::test]
async fn a_question_on_a_stream_does_not_hold_up_other_calls() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, _, server) = begin(&client, &mut streams).await;
    server.event(question(&json!("q"), "elicitation/create")).await;
    response.next().await.unwrap();
    assert_eq!(text(&client.call("other__easy").await), "other:easy");
    assert_eq!(text(&nexus.modern().call("other__easy").await), "other:easy");
}

#[tokio::test]
async fn a_shared_child_is_told_that_nobody_can_be_asked() {
    let nexus = gateway()
        .upstream("kid", child().toml("isolation = \"shared\""))
        .upstream("x", legacy().on("GET", |_| Answer::status(405)))
        .start()
        .await;
    let client = nexus.legacy().await;
    let answer = client.call("kid__ask").await;
    assert!(text(&answer).contains("-32601"), "{answer}");
}

#[tokio::test]
async fn questions_without_end_are_declined_at_some_point() {
    let (nexus, mut streams) = asking().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams).await;
    let reading = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let message = response.next().await.unwrap();
            if message["method"].is_null() {
                return asked;
            }
            asked += 1;
        }
    });
    for n in 0..100 {
        server.event(question(&json!(n), "elicitation/create")).await;
    }
    nexus.fake("crm").arrives("a refusal", |call| call.json["id"] == 99 && call.json["error"]["code"] == -32601).await;
    server.event(call.response(r#""content":[]"#)).await;
    let asked = soon("the answer", reading).await.unwrap();
    assert!((1..100).contains(&asked), "{asked}");
}
