//! A recording upstream: of what a client sends in headers, nothing goes up that is not the protocol's or configured.

use std::collections::BTreeSet;

use super::{SERVERS, personal};
use crate::support::{
    client::{Client, text},
    fake::{Call, FakeSpec},
    nexus::{Nexus, gateway},
};
use serde_json::json;

/// What may go up: of HTTP itself, and of MCP (2025-11-25 and 2026-07-28, basic/transports).
const ALLOWED: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "accept",
    "accept-encoding",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "mcp-session-id",
    "last-event-id",
    "authorization",
];

/// Headers that a client, its browser, or a front before the gateway may send.
const CANARIES: [&str; 30] = [
    "cookie",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "forwarded",
    "via",
    "user-agent",
    "referer",
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "proxy-authorization",
    "x-client-id",
    "x-group-id",
    "x-ssl-client-cert",
    "x-forwarded-client-cert",
    "x-amzn-oidc-data",
    "cf-access-jwt-assertion",
    "x-csrf-token",
    "if-none-match",
    "cache-control",
    "pragma",
    "accept-language",
    "dnt",
    "sec-fetch-mode",
    "x-custom",
    "mcp-custom",
];

fn noisy(mut client: Client) -> Client {
    for name in CANARIES {
        client = client.header(name, "canary");
    }
    client
}

/// Does one of everything.
async fn work(client: &Client) {
    client.list("tools").await;
    client.call("crm__whoami").await;
    client.ask("resources/read", json!({"uri": "crm://item"})).await;
    client.ask("prompts/get", json!({"name": "crm__greet"})).await;
    client.notify("notifications/cancelled", json!({"requestId": 99})).await;
}

fn recorded(nexus: &Nexus) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in nexus.fake("crm").seen() {
        for (name, value) in &call.headers {
            assert!(!String::from_utf8_lossy(value.as_bytes()).contains("canary"), "{name} in {}", call.method());
            names.insert(name.as_str().to_owned());
        }
    }
    names
}

async fn both(nexus: &Nexus, is_modern: bool) -> Client {
    let client = if is_modern { nexus.modern() } else { Client::stranger(nexus.address) };
    let client = noisy(client.bearing("ann"));
    if is_modern { client } else { client.begin(json!({})).await }
}

fn with_items(spec: FakeSpec) -> FakeSpec {
    spec.tool("whoami").resource("crm://item").prompt("greet")
}

#[tokio::test]
async fn nothing_inbound_goes_up_that_is_not_the_protocols() {
    for server in SERVERS {
        for is_modern in [false, true] {
            let nexus = gateway().upstream("crm", with_items(server())).start().await;
            work(&both(&nexus, is_modern).await).await;
            let mut allowed: BTreeSet<String> = ALLOWED.map(str::to_owned).into();
            allowed.remove("authorization");
            let recorded = recorded(&nexus);
            assert!(recorded.is_subset(&allowed), "{:?}", recorded.difference(&allowed).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn of_a_caller_whose_token_is_forwarded_only_the_token_goes_up() {
    for server in SERVERS {
        for is_modern in [false, true] {
            let nexus = gateway().upstream("crm", with_items(personal(server))).start().await;
            work(&both(&nexus, is_modern).await).await;
            let recorded = recorded(&nexus);
            let allowed: BTreeSet<String> = ALLOWED.map(str::to_owned).into();
            assert!(recorded.is_subset(&allowed), "{:?}", recorded.difference(&allowed).collect::<Vec<_>>());
            let tokens: BTreeSet<String> =
                nexus.fake("crm").seen().iter().map(|call| call.header("authorization").unwrap().to_owned()).collect();
            assert_eq!(tokens, ["Bearer ann".to_owned()].into(), "in every request, and no other");
        }
    }
}

#[tokio::test]
async fn the_callers_token_stays_here_where_the_gateway_has_one_of_its_own() {
    for server in SERVERS {
        for is_modern in [false, true] {
            let fixed = with_items(server()).toml("[.auth]\ntoken = \"fixed\"");
            let nexus = gateway().upstream("crm", fixed).upstream("other", personal(server)).start().await;
            work(&both(&nexus, is_modern).await).await;
            let is_fixed = |call: &Call| call.header("authorization") == Some("Bearer fixed");
            assert!(nexus.fake("crm").seen().iter().all(is_fixed));
            assert_eq!(text(&both(&nexus, is_modern).await.call("other__whoami").await), "whoami for ann");
        }
    }
}
