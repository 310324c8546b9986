//! Who was not let in, held up, or denied what others have.

use serde_json::{Value, json};

use super::Log;
use crate::support::{
    client::Client,
    fake::{legacy, modern},
    idp::{Idp, SigningKey, claims},
    old_client::OldClient,
    soon,
};

const KEYS: &str = "[[server.api_keys]]\nid = \"ada\"\nkey = \"the-key-of-ada\"\ngroup = \"pro\"\n\
                    [[server.api_keys]]\nid = \"bob\"\nkey = \"the-key-of-bob\"\ngroup = \"free\"";

fn fields<'a>(line: &'a Value, keys: &[&str]) -> Vec<&'a Value> {
    keys.iter().map(|key| &line[*key]).collect()
}

#[tokio::test]
async fn a_request_without_a_good_credential_leaves_a_line_without_a_name() {
    let log = Log::new();
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(log.of_a_gateway().upstream("a", modern().tool("x")), "required_scopes = [\"mcp\"]").start().await;
    let of = |more: Value| format!("Bearer {}", key.token(&claims("ada", more)));
    for (count, header, status, reason) in [
        (1, None, 401, "credential_missing"),
        (2, Some("Bearer hush-no-jwt".to_owned()), 401, "credential_invalid"),
        (3, Some(of(json!({"scope": "mcp", "aud": "another"}))), 401, "credential_invalid"),
        (4, Some(of(json!({"scope": "other"}))), 403, "scope"),
    ] {
        let client = header.iter().fold(nexus.modern(), |client, header| client.header("authorization", header));
        let response = client.open("tools/call", json!({"name": "a__x"})).await;
        assert_eq!(response.status, status);
        let header = response.headers["x-request-id"].to_str().unwrap().to_owned();
        let line = log.last(count).await;
        let expected = json!(["refusal", "denied", status, reason, null, "127.0.0.1", header]);
        assert_eq!(json!(fields(&line, &["kind", "outcome", "status", "reason", "who", "address", "request_id"])), expected);
    }
    let good = nexus.modern().header("authorization", &of(json!({"scope": "mcp"})));
    assert!(good.call("a__x").await["result"].is_object());
    let who = &log.last(5).await["who"];
    assert_eq!((&who["method"], &who["subject"], &who["client"]), (&json!("jwt"), &json!("ada"), &json!("ada")));
    assert!(who["issuer"].is_string(), "{who}");
    assert!(!log.text().contains("hush"));
}

#[tokio::test]
async fn names_pages_and_missing_intent_are_refused_with_a_line() {
    let log = Log::new();
    let spec = log.of_a_gateway().tables("[server.csrf]\nenabled = true").upstream("a", modern().tool("x"));
    let nexus = spec.start().await;
    for (count, header, value, reason) in
        [(1, "host", "evil.test", "host"), (2, "origin", "https://evil.test", "origin"), (3, "origin", "http://localhost", "csrf")]
    {
        let response = nexus.modern().header(header, value).open("tools/call", json!({"name": "a__x"})).await;
        assert_eq!(response.status, 403);
        let line = log.last(count).await;
        assert_eq!(json!(fields(&line, &["kind", "outcome", "reason", "status"])), json!(["refusal", "denied", reason, 403]));
    }
}

#[tokio::test]
async fn what_a_group_may_not_use_is_denied_in_the_trail_and_unknown_to_the_client() {
    let log = Log::new();
    let secret = || modern().tool("x").prompt("p").resource("file:///s").toml("allow = [\"pro\"]");
    let spec = log.of_a_gateway().tables(KEYS).upstream("a", secret());
    let nexus = spec.upstream("b", legacy().tool("y")).upstream("c", modern().tool("z")).start().await;
    let (ada, bob) = (nexus.modern().header("x-api-key", "the-key-of-ada"), nexus.modern().header("x-api-key", "the-key-of-bob"));
    assert!(ada.call("a__x").await["result"].is_object());
    let line = log.last(1).await;
    assert_eq!(line["who"], json!({"method": "api_key", "subject": "ada", "client": "ada", "groups": ["pro"]}));
    let calls = [
        ("tools/call", json!({"name": "a__x"}), "tool", "a__x"),
        ("prompts/get", json!({"name": "a__p"}), "prompt", "a__p"),
        ("resources/read", json!({"uri": "file:///s"}), "resource", "file:///s"),
    ];
    for (count, (method, params, key, name)) in calls.into_iter().enumerate() {
        let answer = bob.ask(method, params).await;
        let line = log.last(count + 2).await;
        assert_eq!(json!(fields(&line, &["kind", "outcome", "reason", key])), json!(["call", "denied", "access", name]), "{line}");
        assert_eq!(line["code"], answer["error"]["code"]);
        assert_eq!(line["who"]["subject"], "bob");
    }
    bob.call("a__nobody_has_it").await;
    let line = log.last(5).await;
    assert_eq!(json!(fields(&line, &["outcome", "reason"])), json!(["error", "unknown"]));
}

#[tokio::test]
async fn a_session_of_somebody_else_is_refused_to_a_caller_with_a_name() {
    let log = Log::new();
    let nexus = log.of_a_gateway().tables(KEYS).upstream("a", modern().tool("x")).start().await;
    let ada = Client::stranger(nexus.address).header("x-api-key", "the-key-of-ada").begin(json!({})).await;
    let thief = ada.twin().header("x-api-key", "the-key-of-bob");
    assert_eq!(thief.open("tools/call", json!({"name": "a__x"})).await.status, 404);
    let line = log.last(1).await;
    assert_eq!(json!(fields(&line, &["kind", "outcome", "reason"])), json!(["refusal", "denied", "session"]));
    assert_eq!(line["who"]["subject"], "bob");
    assert!(!log.text().contains(ada.session()));
}

#[tokio::test]
async fn a_limit_that_refuses_is_named_with_the_wait() {
    let log = Log::new();
    let limits = "[server.rate_limits]\nenabled = true\n[server.rate_limits.global]\nlimit = 2\ninterval = \"1h\"";
    let limited = modern().tool("x").toml("[.rate_limits]\nlimit = 1\ninterval = \"1h\"");
    let nexus = log.of_a_gateway().tables(limits).upstream("a", limited).upstream("b", modern().tool("y")).start().await;
    let client = nexus.modern();
    assert!(client.call("a__x").await["result"].is_object());
    for count in 2..=4 {
        let answer = client.call("a__x").await;
        let line = log.last(count).await;
        let expected = json!(["call", "limited", -32000, "server", answer["error"]["data"]["retryAfterMs"], "a__x", "a"]);
        assert_eq!(json!(fields(&line, &["kind", "outcome", "code", "scope", "retry_after_ms", "tool", "upstream"])), expected);
    }
    assert!(client.call("b__y").await["result"].is_object(), "what was refused has cost nothing");
    assert_eq!(client.open("tools/call", json!({"name": "a__x"})).await.status, 429);
    let line = log.last(6).await;
    assert_eq!(json!(fields(&line, &["kind", "outcome", "scope", "status"])), json!(["refusal", "limited", "global", 429]));
    assert!(line["retry_after_ms"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn one_request_more_than_are_answered_at_once_is_limited_with_a_line() {
    const AT_ONCE: usize = 256;
    let log = Log::new();
    let (spec, mut held) = modern().tool("x").held("tools/call");
    let nexus = log.of_a_gateway().mcp("sse_path = \"/sse\"").upstream("a", spec).upstream("b", legacy().tool("y")).start().await;
    let mut client = OldClient::open(nexus.address, "2024-11-05").await;
    let mut waiting = Vec::new();
    for _ in 0..AT_ONCE {
        client.begin("tools/call", json!({"name": "a__x"})).await;
        waiting.push(soon("the call", held.recv()).await.unwrap());
    }
    let refused = client.ask("tools/call", json!({"name": "a__x"})).await;
    assert_eq!(refused["error"]["code"], -32000, "{refused}");
    let line = log.last(1).await;
    let expected = json!(["refusal", "limited", "too_many_at_once", "127.0.0.1", {"method": "local"}]);
    assert_eq!(json!(fields(&line, &["kind", "outcome", "reason", "address", "who"])), expected);
    assert!(line["request_id"].is_string());
}

#[tokio::test]
async fn a_greeting_is_told_with_the_session_that_it_opened_or_why_it_opened_none() {
    let log = Log::new();
    let spec = log.of_a_gateway().mcp("max_sessions = 1").tables(KEYS).upstream("a", legacy().tool("x"));
    let nexus = spec.upstream("b", modern().tool("y")).start().await;
    let stranger = || Client::stranger(nexus.address).header("x-api-key", "the-key-of-ada");
    let client = stranger().begin(json!({})).await;
    let greeted = log.greetings(&nexus).await;
    let [line] = greeted.as_slice() else { panic!("{greeted:#?}") };
    let expected = json!(["call", "initialize", "legacy", "ok", null, "127.0.0.1"]);
    assert_eq!(json!(fields(line, &["kind", "method", "era", "outcome", "tool", "address"])), expected);
    assert_eq!(line["who"]["subject"], "ada");
    client.call("a__x").await;
    assert_eq!(log.last(1).await["session"], line["session"], "by which its calls are found");
    assert!(line["session"].is_string() && !log.text().contains(client.session()));

    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    for (params, expected) in [
        (params, json!(["limited", "too_many_sessions", -32000, null])),
        (json!({"protocolVersion": "2025-11-25"}), json!(["error", "invalid_params", -32602, null])),
    ] {
        let response = stranger().open("initialize", params).await;
        let request_id = response.headers["x-request-id"].to_str().unwrap().to_owned();
        response.answer().await;
        let greeted = log.greetings(&nexus).await;
        let line = greeted.last().unwrap();
        assert_eq!(json!(fields(line, &["outcome", "reason", "code", "session"])), expected, "{line}");
        assert_eq!(line["request_id"], request_id);
    }
}

#[tokio::test]
async fn an_upstream_that_asks_to_wait_is_told_with_its_wait() {
    let log = Log::new();
    let busy = modern().tool("x").on("tools/call", |_| crate::support::fake::Answer::status(429).header("retry-after", "7"));
    let nexus = log.of_a_gateway().upstream("a", busy).upstream("b", modern().tool("y")).start().await;
    soon("the answer", nexus.modern().call("a__x")).await;
    let line = log.last(1).await;
    assert_eq!(json!(fields(&line, &["outcome", "code", "retry_after_ms", "upstream"])), json!(["error", -32000, 7000, "a"]), "{line}");
}
