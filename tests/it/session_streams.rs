//! What a server says in a session outside of any call, on the stream that the client opened for it.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use serde_json::{Value, json};

use crate::support::{
    client::{Client, text},
    fake::{legacy, modern, sse},
    nexus::{Nexus, gateway},
    soon, until,
};

async fn start() -> Nexus {
    gateway().upstream("up", legacy().get_stream().tool("x")).upstream("other", modern().tool("y")).start().await
}

/// The session in which the client's last call travelled.
async fn session_of(nexus: &Nexus, client: &Client) -> String {
    client.call("up__x").await;
    nexus.fake("up").last("tools/call").header("mcp-session-id").unwrap().to_owned()
}

fn updated(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
}

#[tokio::test]
async fn what_a_server_says_in_a_session_reaches_its_client_and_no_other() {
    let nexus = start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let (mut one_hears, mut two_hears) = (one.get().await, two.get().await);
    let (of_one, of_two) = (session_of(&nexus, &one).await, session_of(&nexus, &two).await);
    nexus.fake("up").stream_of(&of_one).await.event(updated("file:///one").to_string()).await;
    nexus.fake("up").stream_of(&of_two).await.event(updated("file:///two").to_string()).await;
    assert_eq!(one_hears.next().await.unwrap(), updated("file:///one"));
    assert_eq!(two_hears.next().await.unwrap(), updated("file:///two"));
}

#[tokio::test]
async fn a_servers_stream_is_open_as_long_as_the_clients() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let session = session_of(&nexus, &client).await;
    let gets = || nexus.fake("up").seen_of("GET").iter().filter(|call| call.header("mcp-session-id") == Some(&*session)).count();
    assert_eq!(gets(), 0, "the client has no stream for it");
    let hears = client.get().await;
    let stream = nexus.fake("up").stream_of(&session).await;
    drop(hears);
    soon("the end of the server's stream", stream.gone()).await;
    let mut again = client.get().await;
    nexus.fake("up").stream_of(&session).await.event(updated("file:///again").to_string()).await;
    assert_eq!(again.next().await.unwrap(), updated("file:///again"));
    assert_eq!(gets(), 2);
}

#[tokio::test]
async fn a_servers_stream_that_ends_is_opened_again() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let session = session_of(&nexus, &client).await;
    nexus.fake("up").stream_of(&session).await.break_off().await;
    let gets = || nexus.fake("up").seen_of("GET").iter().filter(|call| call.header("mcp-session-id") == Some(&*session)).count();
    until("another GET", || gets() == 2).await;
    nexus.fake("up").stream_of(&session).await.event(updated("file:///again").to_string()).await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///again"));
}

#[tokio::test]
async fn a_question_that_nobody_can_answer_any_more_is_answered_by_the_gateway() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let session = session_of(&nexus, &client).await;
    let stream = nexus.fake("up").stream_of(&session).await;
    stream.event(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list", "params": {}}).to_string()).await;
    assert_eq!(hears.next().await.unwrap()["method"], "roots/list");
    drop(hears);
    nexus.fake("up").arrives("an error", |call| call.json["id"] == 7 && call.json["error"]["code"] == -32603).await;
}

#[tokio::test]
async fn a_question_outside_of_any_call_finds_its_answer() {
    let nexus = start().await;
    let (client, thief) = (nexus.legacy().await, nexus.legacy().await);
    let mut hears = client.get().await;
    let session = session_of(&nexus, &client).await;
    let stream = nexus.fake("up").stream_of(&session).await;
    stream.event(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list", "params": {}}).to_string()).await;
    let asked = hears.next().await.unwrap();
    assert_eq!(asked["method"], "roots/list");
    assert_ne!(asked["id"], 7);
    thief.reply(&asked["id"], json!({"roots": "stolen"})).await;
    client.reply(&asked["id"], json!({"roots": []})).await;
    let answer = nexus.fake("up").arrives("the answer", |call| call.json["id"] == 7 && call.method().is_empty()).await;
    assert_eq!((&answer.json["result"], answer.header("mcp-session-id")), (&json!({"roots": []}), Some(&*session)));
}

#[tokio::test]
async fn nonsense_on_a_servers_stream_harms_nobody() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let session = session_of(&nexus, &client).await;
    let stream = nexus.fake("up").stream_of(&session).await;
    for junk in ["garbage", "[]", r#"{"jsonrpc":"2.0"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{"content":"forged"}}"#, "\"\\ud800\""] {
        stream.event(junk).await;
    }
    stream.event(updated("file:///fine").to_string()).await;
    let told = hears.next().await.unwrap();
    assert_eq!(told, updated("file:///fine"), "no answer comes on this stream, and nothing that is no message");
    assert_eq!(text(&client.call("up__x").await), "up:x");
}

#[tokio::test]
async fn on_the_gateways_own_stream_a_ping_is_answered_and_a_question_declined() {
    for server in [legacy().get_stream(), sse()] {
        let nexus = gateway().upstream("up", server.tool("x")).upstream("other", modern()).start().await;
        let fake = nexus.fake("up");
        let own = fake.last("notifications/initialized").header("mcp-session-id").unwrap().to_owned();
        let stream = fake.stream_of(&own).await;
        stream.event(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#).await;
        stream.event(r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}"#).await;
        let pong = fake.arrives("the pong", |call| call.json["id"] == "p").await;
        assert_eq!((&pong.json["result"], pong.header("mcp-session-id")), (&json!({}), Some(&*own)));
        let refusal = fake.arrives("the refusal", |call| call.json["id"] == "q").await;
        assert_eq!(refusal.json["error"]["code"], -32601);
    }
}
