//! Two principals, the same upstreams, thousands of calls between one another: nothing crosses.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{
    SERVERS, personal, token,
    tokens::{SECRET, fetching},
};
use crate::support::{
    client::Client,
    fake::{Answer, Call, Fake, legacy, modern},
    idp::{Idp, SigningKey, claims},
    nexus::gateway,
};

/// Calls of each client; two principals with a client of each era are four.
const CALLS: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_interleaved_calls_of_two_principals_never_cross() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).start().await;
        let mut clients: Vec<(&str, Client)> = Vec::new();
        for who in ["ann", "bob"] {
            for is_modern in [false, true] {
                clients.push((who, nexus.bearing(is_modern, who).await));
            }
        }
        let share = CALLS / SERVERS.len();
        let work = (0..share).flat_map(|n| clients.iter().map(move |(who, client)| (n, *who, client)));
        let checked = stream::iter(work).map(|(n, who, client)| async move {
            if n % 50 == 0 {
                assert_eq!(client.list("tools").await, ["crm__whoami".to_owned(), format!("crm__of_{who}")]);
            }
            let asked = json!({"name": format!("crm__of_{who}"), "arguments": {"n": n}});
            let answer = client.ask("tools/call", asked).await;
            assert_eq!(answer["result"]["content"][0]["text"], format!("of_{who} for {who}"), "{answer}");
        });
        checked.buffer_unordered(16).count().await;
        let seen = nexus.fake("crm").seen();
        let mut sessions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &seen {
            let who = token(call);
            assert!(["ann", "bob"].contains(&who), "{who:?} in {}", call.method());
            if let Some(session) = call.header("mcp-session-id") {
                sessions.entry(session).or_default().insert(who);
            }
            if call.method() == "tools/call" {
                assert_eq!(call.params()["name"], format!("of_{who}"), "a call went up in another's name");
            }
        }
        assert!(sessions.values().all(|of| of.len() == 1), "{sessions:?}");
        assert_eq!(seen.iter().filter(|call| call.method() == "tools/call").count(), share * clients.len());
    }
}

/// The same through this gateway's own identity provider: tokens that are validated and remembered, exchanged for others, and
/// with a header of the caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_interleaved_calls_of_two_holders_of_tokens_never_cross() {
    let key = SigningKey::es256("k");
    let (idp, exchange) = (Idp::serving(&[&key]).await, numbered_by_subject().await);
    let header = "headers = [{ rule = \"forward\", name = \"X-Tenant\" }]\n";
    let mut forwarding = personal(modern);
    forwarding.toml = format!("{header}{}", forwarding.toml);
    let mut exchanging = fetching(legacy, "token_exchange", &exchange, SECRET);
    exchanging.toml = format!("{header}{}", exchanging.toml);
    let nexus = idp.guarding(gateway().upstream("crm", forwarding).upstream("erp", exchanging), "").start().await;
    let mut clients = Vec::new();
    for who in ["ann", "bob"] {
        // Two tokens of each, so that one of them is the newer.
        for number in 0..2 {
            let token = key.token(&claims(who, json!({"jti": number})));
            let modern = nexus.modern().bearing(&token).header("x-tenant", who);
            let old = Client::stranger(nexus.address).bearing(&token).header("x-tenant", who).begin(json!({})).await;
            clients.extend([(who, token.clone(), modern), (who, token, old)]);
        }
    }
    let share = 2 * CALLS / clients.len();
    let work = (0..share).flat_map(|n| clients.iter().map(move |(who, token, client)| (n, *who, token, client)));
    let checked = stream::iter(work).map(|(n, who, token, client)| async move {
        let (tool, expected) = match n % 2 {
            0 => ("crm__whoami", format!("whoami for {token}")),
            _ => ("erp__whoami", format!("whoami for of-{who}")),
        };
        let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"n": n}})).await;
        assert_eq!(answer["result"]["content"][0]["text"], expected, "{answer}");
    });
    checked.buffer_unordered(16).count().await;
    let mut calls = 0;
    for up in ["crm", "erp"] {
        for call in nexus.fake(up).seen() {
            let of_token = clients.iter().find(|(_, known, _)| known == token(&call)).map(|(who, ..)| *who);
            let who =
                of_token.or_else(|| token(&call).strip_prefix("of-")).unwrap_or_else(|| panic!("a token of nobody's: {}", token(&call)));
            if let Some(tenant) = call.header("x-tenant") {
                assert_eq!(tenant, who, "a header went up beside another's token");
            }
            if call.method() == "tools/call" {
                assert_eq!(call.header("x-tenant"), Some(who));
                calls += 1;
            }
        }
    }
    assert_eq!(calls, share * clients.len());
}

/// A token endpoint whose tokens name whom they are for.
async fn numbered_by_subject() -> Fake {
    let subject = |call: &Call| {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(&call.raw).into_owned().collect();
        let claims = form["subject_token"].split('.').nth(1).unwrap().to_owned();
        let claims: serde_json::Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        claims["sub"].as_str().unwrap().to_owned()
    };
    let answer = move |call: &Call| {
        Answer::json(json!({"access_token": format!("of-{}", subject(call)), "token_type": "Bearer", "expires_in": 3600}).to_string())
    };
    modern().before(move |call| Some(answer(call))).start("exchange").await
}
