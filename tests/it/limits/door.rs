//! What is limited before anything of a request is read.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::{Client, send},
    nexus::{Nexus, gateway},
    wire,
};

const PROXIED: &str = "client_ip = { x_forwarded_for_trusted_hops = 0, trusted_proxies = [\"127.0.0.1\"] }";

async fn start(limits: &str) -> Nexus {
    gateway().server(&format!("{PROXIED}\n[server.rate_limits]\n{limits}")).mcp("").upstream("up", tools("")).start().await
}

fn from(nexus: &Nexus, address: &str) -> Client {
    nexus.modern().header("x-forwarded-for", address)
}

async fn status(client: &Client) -> u16 {
    client.open("tools/call", json!({"name": "up__work", "arguments": {}})).await.status.as_u16()
}

#[tokio::test]
async fn a_request_too_many_is_refused_before_its_body_is_read() {
    let nexus = start("per_ip = { limit = 2, interval = \"1h\" }").await;
    let client = from(&nexus, "192.0.2.1");
    assert_eq!([status(&client).await, status(&client).await], [200, 200]);
    // The body is announced and never sent.
    let (_sender, body) = wire::stream();
    let refused = send(nexus.address, client.request(Method::POST, body)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&seconds), "{seconds}");
    let error = refused.answer().await["error"].clone();
    assert_eq!((&error["code"], &error["message"], &error["data"]["scope"]), (&json!(-32000), &json!("Rate limit exceeded"), &json!("ip")));
    let millis = error["data"]["retryAfterMs"].as_u64().unwrap();
    assert!((1_790_000..=1_800_000).contains(&millis), "{millis}");
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn each_address_has_its_own_tokens_and_an_ipv6_customer_one_share() {
    let nexus = start("per_ip = { limit = 1, interval = \"1h\" }").await;
    for (address, expected) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("::ffff:192.0.2.2", 429),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        assert_eq!(status(&from(&nexus, address)).await, expected, "{address}");
    }
}

#[tokio::test]
async fn what_everybody_may_together_is_not_spent_by_one_who_is_refused() {
    let nexus = start("global = { limit = 4, interval = \"1h\" }\nper_ip = { limit = 2, interval = \"1h\" }").await;
    let (greedy, other, third) = (from(&nexus, "192.0.2.1"), from(&nexus, "192.0.2.2"), from(&nexus, "192.0.2.3"));
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(status(&greedy).await == 429);
    }
    assert_eq!(refused, 18);
    assert_eq!([status(&other).await, status(&other).await], [200, 200]);
    let response = third.open("tools/list", json!({})).await;
    assert_eq!((response.status.as_u16(), response.answer().await["error"]["data"]["scope"].clone()), (429, json!("global")));
}

#[tokio::test]
async fn streams_ends_and_old_transports_go_through_the_same_door() {
    let nexus = gateway()
        .server("[server.rate_limits]\nglobal = { limit = 3, interval = \"1h\" }")
        .mcp("sse_path = \"/sse\"")
        .upstream("up", tools(""))
        .start()
        .await;
    // Initialize and its notification.
    let client = nexus.legacy().await;
    assert_eq!(client.get().await.status, StatusCode::OK);
    assert_eq!(client.get().await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(client.delete().await, StatusCode::TOO_MANY_REQUESTS);
    for path in ["/sse", "/sse/messages?sessionId=x"] {
        let mut request = client.request(if path == "/sse" { Method::GET } else { Method::POST }, wire::full("{}"));
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(send(nexus.address, request).await.status, StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    let mut health = client.request(Method::GET, wire::full(""));
    *health.uri_mut() = "/health".parse().unwrap();
    assert_eq!(send(nexus.address, health).await.status, StatusCode::OK, "who watches it is not limited");
}

#[tokio::test]
async fn a_page_that_may_not_call_spends_nothing() {
    let nexus = start("global = { limit = 1, interval = \"1h\" }").await;
    let page = nexus.modern().header("origin", "https://elsewhere.test");
    for _ in 0..3 {
        assert_eq!(status(&page).await, 403);
    }
    assert_eq!([status(&nexus.modern()).await, status(&nexus.modern()).await], [200, 429]);
}

#[tokio::test]
async fn a_batch_costs_what_its_messages_cost_alone() {
    let nexus = start("global = { limit = 9, interval = \"1h\" }").await;
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeted = client.open("initialize", params).await;
    let session = greeted.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = client.header("mcp-session-id", &session);
    // Nobody asked, and nobody can read it: they cost their way in all the same.
    let others = json!([{"jsonrpc": "2.0", "id": "x", "result": {}}, {"jsonrpc": "2.0", "id": "y", "result": {}}, {"jsonrpc": 1, "id": 7}]);
    client.post(others.to_string()).await.text().await;
    let ping = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let batch = json!([ping(0), ping(1), ping(2), ping(3), ping(4), ping(5), ping(6)]);
    let answers: Value = serde_json::from_str(&client.post(batch.to_string()).await.text().await).unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 7);
    let refused: Vec<_> = answers.iter().filter(|answer| answer["error"]["code"] == -32000).collect();
    assert_eq!(refused.len(), 2, "one token went to initialize, three to the first batch, five to the second: {answers:?}");
    assert!(refused.iter().all(|answer| answer["error"]["data"]["scope"] == "global"), "{refused:?}");
}
