//! How many sessions one may have.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::Client,
    nexus::{GatewaySpec, Nexus, gateway},
};

const KEYS: &str = "[[server.api_keys]]\nid = \"ann\"\nkey = \"the-key-of-ann-and-nobody-else\"\n\
                    [[server.api_keys]]\nid = \"bob\"\nkey = \"the-key-of-bob-and-nobody-else\"\n";

fn start(spec: GatewaySpec) -> GatewaySpec {
    spec.tables(KEYS).upstream("up", tools("")).upstream("other", tools(""))
}

async fn opened(nexus: &Nexus, who: &str) -> Result<Client, (StatusCode, Value)> {
    let client = Client::stranger(nexus.address).header("x-api-key", &format!("the-key-of-{who}-and-nobody-else"));
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let (status, session) = (response.status, response.headers.get("mcp-session-id").cloned());
    let answer = response.answer().await;
    match session {
        Some(session) => Ok(client.header("mcp-session-id", session.to_str().unwrap()).header("mcp-protocol-version", "2025-11-25")),
        None => Err((status, answer)),
    }
}

async fn is_there(client: &Client) -> bool {
    client.open("ping", json!({})).await.status == StatusCode::OK
}

#[tokio::test]
async fn whoever_opens_too_many_sessions_loses_those_that_rested_longest() {
    let nexus = start(gateway().mcp("max_sessions_per_principal = 3")).start().await;
    let others = opened(&nexus, "bob").await.unwrap();
    let (first, second, third) =
        (opened(&nexus, "ann").await.unwrap(), opened(&nexus, "ann").await.unwrap(), opened(&nexus, "ann").await.unwrap());
    // The first is used again, so that the second is the one that rested longest.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert!(is_there(&first).await);
    let fourth = opened(&nexus, "ann").await.unwrap();
    assert!(!is_there(&second).await, "it made room");
    for (what, client) in [("first", &first), ("third", &third), ("fourth", &fourth), ("bob's", &others)] {
        assert!(is_there(client).await, "{what}");
    }
    assert_eq!(first.delete().await, StatusCode::NO_CONTENT);
    let fifth = opened(&nexus, "ann").await.unwrap();
    assert!(is_there(&third).await && is_there(&fifth).await, "one that was ended makes room, too");
}

#[tokio::test]
async fn a_session_that_somebody_reads_makes_no_room() {
    let nexus = start(gateway().mcp("max_sessions_per_principal = 2")).start().await;
    let (one, two) = (opened(&nexus, "ann").await.unwrap(), opened(&nexus, "ann").await.unwrap());
    let streams = (one.get().await, two.get().await);
    let (status, answer) = opened(&nexus, "ann").await.unwrap_err();
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(-32000)), "{answer}");
    assert!(opened(&nexus, "bob").await.is_ok(), "nobody else is concerned");
    drop(streams);
}

#[tokio::test]
async fn to_open_a_session_is_charged_to_its_client() {
    let limits = "[server.rate_limits]\nper_client = { limit = 2, interval = \"1h\" }";
    let nexus = start(gateway().server(limits).mcp("")).start().await;
    assert!(opened(&nexus, "ann").await.is_ok() && opened(&nexus, "ann").await.is_ok());
    let (_, answer) = opened(&nexus, "ann").await.unwrap_err();
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["scope"]), (&json!(-32000), &json!("client")), "{answer}");
    assert!(opened(&nexus, "bob").await.is_ok());
}
