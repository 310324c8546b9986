//! A recording upstream: of what a client sends in headers, nothing goes up that is not the protocol's or configured.

use std::collections::BTreeSet;

use super::{
    SERVERS, personal,
    tokens::{SECRET, fetching, numbered},
};
use crate::support::{
    child::child,
    client::{Client, send, text},
    fake::{Call, FakeSpec, PROTOCOL_HEADERS, legacy, modern, sse},
    nexus::{Nexus, gateway},
    wire,
};
use serde_json::json;

/// What may go up here: the protocol's, and the credential that is configured.
fn allowed() -> BTreeSet<String> {
    PROTOCOL_HEADERS.into_iter().chain(["authorization"]).map(str::to_owned).collect()
}

/// Headers that a client, its browser, or a front before the gateway may send.
const CANARIES: [&str; 34] = [
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
    "connection",
    "keep-alive",
    "te",
    "upgrade",
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
    let argument = json!({"name": "a", "value": "b"});
    client.ask("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "crm__greet"}, "argument": argument})).await;
    match client.is_modern() {
        true => {
            let filter = json!({"resourceSubscriptions": ["crm://item"], "toolsListChanged": true});
            let mut stream = client.open("subscriptions/listen", json!({"notifications": filter})).await;
            assert_eq!(stream.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
        }
        false => {
            let stream = client.get().await;
            client.ask("resources/subscribe", json!({"uri": "crm://item"})).await;
            client.ask("resources/unsubscribe", json!({"uri": "crm://item"})).await;
            client.ask("logging/setLevel", json!({"level": "debug"})).await;
            client.ask("tasks/list", json!({})).await;
            client.ask("tools/call", json!({"name": "crm__whoami", "arguments": {}, "task": {"ttl": 1000}})).await;
            client.notify("notifications/roots/list_changed", json!({})).await;
            drop(stream);
            assert_eq!(client.delete().await, 204);
        }
    }
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
    let declared = json!({"logging": {}, "completions": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}});
    spec.tool("whoami").resource("crm://item").prompt("greet").get_stream().declares(declared)
}

/// Servers of every transport.
const ALL: [super::Server; 3] = [legacy, modern, sse];

/// The same by an old client, and in a batch of one of 2025-03-26.
async fn work_otherwise(nexus: &Nexus) {
    let initialize = |version: &str| {
        let params = json!({"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    };
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "crm__whoami", "arguments": {}}});
    let change = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let noise = noisy(Client::stranger(nexus.address).bearing("ann"));
    let session = noise.post(initialize("2025-03-26").to_string()).await.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let batching = noise.twin().header("mcp-session-id", &session);
    let answers = batching.post(json!([call, change]).to_string()).await.text().await;
    assert!(answers.contains("result"), "{answers}");
    let mut old = noisy(Client::stranger(nexus.address).bearing("ann"));
    old.path = "/sse";
    let mut stream = old.get().await;
    let messages = stream.next_text().await.unwrap();
    for message in [initialize("2024-11-05"), call] {
        let mut request = old.request(http::Method::POST, wire::full(message.to_string()));
        *request.uri_mut() = messages.parse().unwrap();
        assert_eq!(send(nexus.address, request).await.status, 202);
        assert!(stream.next().await.unwrap()["result"].is_object());
    }
}

#[tokio::test]
async fn nothing_inbound_goes_up_that_is_not_the_protocols() {
    for server in ALL {
        for is_modern in [false, true] {
            let nexus = gateway().mcp("sse_path = \"/sse\"").upstream("crm", with_items(server())).start().await;
            work(&both(&nexus, is_modern).await).await;
            work_otherwise(&nexus).await;
            let mut allowed = allowed();
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
            let nexus = gateway().mcp("sse_path = \"/sse\"").upstream("crm", with_items(personal(server))).start().await;
            work(&both(&nexus, is_modern).await).await;
            work_otherwise(&nexus).await;
            let recorded = recorded(&nexus);
            let allowed = allowed();
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

#[tokio::test]
async fn of_a_caller_for_whom_tokens_are_fetched_nothing_else_goes_anywhere() {
    for server in SERVERS {
        for kind in ["client_credentials", "token_exchange"] {
            for is_modern in [false, true] {
                let idp = numbered(3600).await;
                let nexus =
                    gateway().mcp("sse_path = \"/sse\"").upstream("crm", with_items(fetching(server, kind, &idp, SECRET))).start().await;
                work(&both(&nexus, is_modern).await).await;
                work_otherwise(&nexus).await;
                let recorded = recorded(&nexus);
                let allowed = allowed();
                assert!(recorded.is_subset(&allowed), "{:?}", recorded.difference(&allowed).collect::<Vec<_>>());
                assert!(nexus.fake("crm").seen().iter().all(|call| call.header("authorization") != Some("Bearer ann")));
                for call in idp.seen() {
                    let named: BTreeSet<&str> = call.headers.keys().map(http::HeaderName::as_str).collect();
                    let usual = ["host", "content-length", "content-type", "accept", "accept-encoding", "authorization"];
                    assert!(named.is_subset(&usual.into()), "{named:?}");
                    assert!(!call.text().contains("canary") && !format!("{:?}", call.headers).contains("canary"));
                    assert_eq!(call.text().contains("ann"), kind == "token_exchange", "{}", call.text());
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_of_a_callers_headers_reaches_a_child() {
    let kid = child().env("CHILD_RESOURCES", "kid://one");
    let nexus = gateway().upstream("kid", kid).upstream("crm", personal(modern)).start().await;
    for is_modern in [false, true] {
        let client = both(&nexus, is_modern).await;
        client.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": "kid://one"}})).await;
        client.ask("resources/read", json!({"uri": "kid://one"})).await;
    }
    let heard = serde_json::Value::from(nexus.notes("kid").lines()).to_string();
    assert!(heard.contains("tools/call"), "{heard}");
    assert!(!heard.contains("canary") && !heard.contains("Bearer") && !heard.contains("\"ann\""), "{heard}");
}
