//! What a client says to one replica and concerns another.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Pair, work, works};
use crate::support::{
    client::Client,
    fake::{Call, legacy, modern},
    soon,
};

const CANCELLED: &str = "notifications/cancelled";

fn question(id: &str, method: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"message": "sure?"}}).to_string()
}

fn is_answer(call: &Call) -> bool {
    call.verb == "POST" && call.method().is_empty()
}

#[tokio::test]
async fn an_answer_that_is_posted_to_another_replica_reaches_the_server() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let pair = Pair::start(spec).await;
    let client = pair.client().await;
    let mut response = client.open("tools/call", work()).await;
    let (call, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(question("q", "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    let moved = pair.moved(&client);
    assert_eq!(moved.reply(&asked["id"], json!({"action": "accept", "n": 1})).await, StatusCode::ACCEPTED);
    let arrived = pair.crm().arrives("the answer", is_answer).await;
    assert_eq!((&arrived.json["id"], &arrived.json["result"]), (&json!("q"), &json!({"action": "accept", "n": 1})));
    assert_eq!(arrived.header("mcp-session-id"), call.header("mcp-session-id"));
    // It counts once, wherever it comes.
    for at in [&moved, &client] {
        assert_eq!(at.reply(&asked["id"], json!({"action": "again"})).await, StatusCode::ACCEPTED);
    }
    server.event(question("r", "elicitation/create")).await;
    let next = response.next().await.unwrap();
    assert_eq!(moved.reply(&next["id"], json!({"action": "decline"})).await, StatusCode::ACCEPTED);
    pair.crm().arrives("the next answer", |call| is_answer(call) && call.json["id"] == "r").await;
    let answers: Vec<_> = pair.crm().seen().into_iter().filter(is_answer).map(|call| call.json["id"].clone()).collect();
    assert_eq!(answers, ["q", "r"]);
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object());
}

#[tokio::test]
async fn what_a_server_takes_back_on_the_stream_at_another_replica_is_taken_back() {
    let (spec, mut streams) = legacy().get_stream().tool("work").streamed("tools/call");
    let pair = Pair::start(spec).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    let mut stream = moved.get().await;
    let mut response = client.open("tools/call", work()).await;
    let (call, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(question("q", "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    let session = call.header("mcp-session-id").unwrap().to_owned();
    let taken_back = json!({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": "q", "reason": "too late"}});
    pair.crm().stream_of(&session).await.event(taken_back.to_string()).await;
    let told = soon("the word of it", stream.next()).await.unwrap();
    assert_eq!((&told["method"], &told["params"]["requestId"]), (&json!(CANCELLED), &asked["id"]));
    assert_eq!(told["params"]["reason"], "too late");
    // Nobody waits for the answer any more.
    for at in [&moved, &client] {
        assert_eq!(at.reply(&asked["id"], json!({"action": "accept"})).await, StatusCode::ACCEPTED);
    }
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object());
    assert_eq!(pair.crm().seen().into_iter().filter(is_answer).count(), 0);
}

#[tokio::test]
async fn an_answer_of_another_session_reaches_nobody_through_another_replica() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let pair = Pair::start(spec).await;
    let (victim, thief) = (pair.client().await, pair.client().await);
    let mut response = victim.open("tools/call", work()).await;
    let (_call, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(question("q", "elicitation/create")).await;
    let asked = response.next().await.unwrap();
    assert_eq!(pair.moved(&thief).reply(&asked["id"], json!({"said": "stolen"})).await, StatusCode::ACCEPTED);
    assert_eq!(pair.moved(&victim).reply(&asked["id"], json!({"said": "mine"})).await, StatusCode::ACCEPTED);
    let arrived = pair.crm().arrives("the answer", is_answer).await;
    assert_eq!(arrived.json["result"]["said"], "mine");
}

#[tokio::test]
async fn what_a_modern_server_asks_is_answered_through_another_replica() {
    let input = r#""resultType":"input_required","inputRequests":{"name":{"method":"elicitation/create","params":{"message":"who?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"s""#;
    let spec = modern().tool("work").on("tools/call", move |call| {
        let is_answered = !call.params()["inputResponses"].is_null();
        crate::support::fake::Answer::json(call.response(if is_answered { r#""resultType":"complete","content":[]"# } else { input }))
    });
    let pair = Pair::start(spec).await;
    let client = pair.client().await;
    let mut response = client.open("tools/call", work()).await;
    let asked = response.next().await.unwrap();
    assert_eq!(asked["method"], "elicitation/create");
    let answer = json!({"action": "accept", "content": {}});
    assert_eq!(pair.moved(&client).reply(&asked["id"], answer).await, StatusCode::ACCEPTED);
    works(&response.next().await.unwrap());
}

#[tokio::test]
async fn a_call_is_cancelled_through_another_replica() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let pair = Pair::start(spec).await;
    let client = pair.client().await;
    let _response = client.open_as(json!("mine"), "tools/call", work()).await;
    let (call, _server) = soon("the call", streams.recv()).await.unwrap();
    let moved = pair.moved(&client);
    assert_eq!(moved.notify(CANCELLED, json!({"requestId": "mine", "reason": "enough"})).await, StatusCode::ACCEPTED);
    let told = pair.crm().arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!(told.params(), &json!({"requestId": call.id(), "reason": "enough"}));
    assert_eq!(told.header("mcp-session-id"), call.header("mcp-session-id"));
}

#[tokio::test]
async fn a_call_to_a_modern_server_is_cancelled_through_another_replica() {
    let (spec, mut held) = modern().tool("work").held("tools/call");
    let pair = Pair::start(spec).await;
    let client = pair.client().await;
    let calling = tokio::spawn({
        let client = client.twin();
        async move { client.open_as(json!("mine"), "tools/call", work()).await.texts().await }
    });
    let (_call, mut answer) = soon("the call", held.recv()).await.unwrap();
    pair.moved(&client).notify(CANCELLED, json!({"requestId": "mine"})).await;
    soon("the end of the exchange", answer.closed()).await;
    drop(calling);
}

#[tokio::test]
async fn a_level_that_is_set_at_one_replica_holds_at_all() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    works(&client.call("crm__work").await);
    // Known to the store alone when the other takes the session up.
    assert!(client.ask("logging/setLevel", json!({"level": "error"})).await["result"].is_object());
    works(&moved.call("crm__work").await);
    assert!(moved.ask("logging/setLevel", json!({"level": "debug"})).await["result"].is_object());
    let levels = || -> Vec<Value> { pair.crm().seen_of("logging/setLevel").iter().map(|call| call.params()["level"].clone()).collect() };
    pair.crm().arrives("the level", |call| call.params()["level"] == "debug").await;
    assert_eq!(levels().first(), Some(&json!("error")));
}

#[tokio::test]
async fn servers_hear_through_any_replica_that_roots_changed() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    // The other holds no session upstream.
    let moved = pair.moved(&client);
    assert_eq!(moved.notify("notifications/roots/list_changed", json!({})).await, StatusCode::ACCEPTED);
    pair.crm().arrives("the change", |call| call.method() == "notifications/roots/list_changed").await;
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_is_begun_again_at_another_replica() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let pair = Pair::start(spec).await;
    let params = |state: Value, responses: Value| {
        let mut params = json!({
            "name": "crm__work", "arguments": {},
            "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
        });
        if !state.is_null() {
            params["requestState"] = state;
            params["inputResponses"] = responses;
        }
        params
    };
    let ask = {
        let client = pair.one.modern();
        tokio::spawn(async move { client.ask("tools/call", params(Value::Null, Value::Null)).await })
    };
    let (_call, server) = soon("the call", streams.recv()).await.unwrap();
    server
        .event(
            question("q", "elicitation/create").replace("sure?\"", "sure?\",\"requestedSchema\":{\"type\":\"object\",\"properties\":{}}"),
        )
        .await;
    let waits = ask.await.unwrap();
    assert_eq!(waits["result"]["resultType"], "input_required", "{waits}");
    let elsewhere = Client::modern(pair.other.address);
    let key = waits["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let responses = json!({ key: {"action": "accept", "content": {}} });
    let refused = elsewhere.ask("tools/call", params(waits["result"]["requestState"].clone(), responses)).await;
    assert_eq!(refused["error"]["data"]["reason"], "invalid_request_state", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("make the call again without it"), "{refused}");
}
