//! What belongs to one caller is nobody else's, whoever knows its name.

use super::*;
use crate::support::{client::send, wire::full};

async fn session_of(nexus: &Nexus, token: &str) -> Client {
    let client = Client::stranger(nexus.address).header("authorization", &format!("Bearer {token}"));
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let session = header(&response.headers, "mcp-session-id").to_owned();
    response.answer().await;
    client.header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25")
}

#[tokio::test]
async fn a_session_answers_its_own_principal_only() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool().mcp("sse_path = \"/sse\""), "").start().await;
    let token = |subject: &str, changes: Value| key.token(&claims(subject, changes));
    let ada = session_of(&nexus, &token("ada", json!({}))).await;
    assert_eq!(ada.ask("ping", json!({})).await["result"], json!({}));
    let refreshed = ada.twin().header("authorization", &format!("Bearer {}", token("ada", json!({"jti": "2"}))));
    assert_eq!(refreshed.ask("ping", json!({})).await["result"], json!({}), "another token of the same user");
    let eve = ada.twin().header("authorization", &format!("Bearer {}", token("eve", json!({}))));
    assert_eq!(eve.open("ping", json!({})).await.status, 404);
    assert_eq!(eve.get().await.status, 404);
    assert_eq!(eve.delete().await, 404);
    assert_eq!(ada.ask("ping", json!({})).await["result"], json!({}), "it is still there");
    assert_eq!(ada.delete().await, 204);
}

#[tokio::test]
async fn an_event_stream_takes_messages_of_its_own_principal_only() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool().mcp("sse_path = \"/sse\""), "").start().await;
    let bearer = |subject: &str| format!("Bearer {}", key.token(&claims(subject, json!({}))));
    let request = |method: http::Method, path: &str, subject: &str| {
        let request = http::Request::builder().method(method).uri(path).header("authorization", bearer(subject));
        request.header("content-type", "application/json").body(full(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)).unwrap()
    };
    let mut stream = send(nexus.address, request(http::Method::GET, "/sse", "ada")).await;
    let messages = stream.next_text().await.unwrap();
    assert_eq!(send(nexus.address, request(http::Method::POST, &messages, "eve")).await.status, 404);
    assert_eq!(send(nexus.address, request(http::Method::POST, &messages, "ada")).await.status, 202);
}
