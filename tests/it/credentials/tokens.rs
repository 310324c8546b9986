//! Tokens that are fetched: for the gateway itself, and for callers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{SERVERS, Server, personal, token};
use crate::support::{
    StillTime,
    client::text,
    fake::{Answer, Call, Fake, FakeSpec, legacy, modern},
    nexus::gateway,
    pass,
    pki::{Authority, Leaf},
    tls_peer::server_config,
};

/// The fields of a request for a token.
fn form(call: &Call) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&call.raw).into_owned().collect()
}

/// A token endpoint that this answers.
async fn endpoint(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Fake {
    modern().before(move |call| Some(answer(call))).start("idp").await
}

/// A token endpoint whose tokens are `NAME-1`, `NAME-2` and so on; each lives so many seconds.
pub(super) async fn numbered(lifetime: u64) -> Fake {
    let next = AtomicUsize::new(1);
    endpoint(move |call| {
        let form = form(call);
        let whose = form.get("subject_token").map_or("own", String::as_str);
        let number = next.fetch_add(1, Ordering::SeqCst);
        Answer::json(json!({"access_token": format!("{whose}-{number}"), "token_type": "Bearer", "expires_in": lifetime}).to_string())
    })
    .await
}

/// A server that takes fetched tokens.
pub(super) fn fetching(server: Server, kind: &str, idp: &Fake, further: &str) -> FakeSpec {
    let mut spec = personal(server);
    spec.toml = format!("[.auth]\ntype = \"{kind}\"\ntoken_url = {:?}\nclient_id = \"nexus\"\n{further}\n", idp.url());
    spec
}

pub(super) const SECRET: &str = "client_secret = \"s3cr:t\"";

#[tokio::test]
async fn one_token_of_the_gateways_own_serves_everybody() {
    for server in SERVERS {
        let idp = numbered(3600).await;
        let further = format!("{SECRET}\nscope = \"read write\"\nresource = \"https://crm.test/mcp\"\naudience = \"crm\"");
        let nexus = gateway().upstream("crm", fetching(server, "client_credentials", &idp, &further)).start().await;
        for client in [nexus.legacy().await, nexus.modern(), nexus.modern().bearing("ann")] {
            assert_eq!(client.list("tools").await, ["crm__whoami", "crm__of_own-1"]);
            assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-1");
        }
        assert!(nexus.fake("crm").seen().iter().all(|call| token(call) == "own-1"), "in every request");
        let asked = idp.seen();
        assert_eq!(asked.len(), 1);
        let asked = asked.first().unwrap();
        assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
        // RFC 6749 §2.3.1: encoded before it is put together.
        assert_eq!(asked.header("authorization"), Some("Basic bmV4dXM6czNjciUzQXQ="));
        let wanted =
            [("grant_type", "client_credentials"), ("scope", "read write"), ("resource", "https://crm.test/mcp"), ("audience", "crm")];
        assert_eq!(form(asked), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}

#[tokio::test]
async fn a_secret_goes_into_the_body_where_the_endpoint_wants_it_there() {
    let idp = endpoint(|call| match form(call).get("client_secret").map(String::as_str) {
        Some("s3cr:t") => Answer::json(json!({"access_token": "t", "token_type": "Bearer", "expires_in": 3600}).to_string()),
        _ => Answer::new(401, "application/json", r#"{"error":"invalid_client"}"#),
    })
    .await;
    let nexus = gateway().upstream("crm", fetching(legacy, "client_credentials", &idp, SECRET)).start().await;
    assert_eq!(text(&nexus.modern().call("crm__whoami").await), "whoami for t");
    assert_eq!(form(&idp.seen()[1])["client_id"], "nexus");
    assert_eq!(idp.seen()[1].header("authorization"), None);
}

#[tokio::test]
async fn a_request_for_a_token_is_signed_with_the_private_key() {
    for (algorithm, name) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "ES256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ES384"),
        (&rcgen::PKCS_ED25519, "EdDSA"),
        (&rcgen::PKCS_RSA_SHA256, "RS256"),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let idp = numbered(3600).await;
        let spec = fetching(legacy, "client_credentials", &idp, "private_key_jwt = \"/keys/client.pem\"\nkey_id = \"2026-a\"");
        let nexus = gateway().file("/keys/client.pem", key.serialize_pem()).upstream("crm", spec).start().await;
        assert_eq!(text(&nexus.modern().call("crm__whoami").await), "whoami for own-1", "{name}");
        let form = form(&idp.seen()[0]);
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        let parts: Vec<&str> = form["client_assertion"].split('.').collect();
        let decoded = |part: &str| -> Value { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        let claims = decoded(parts[1]);
        let header = decoded(parts[0]);
        assert_eq!((&header["alg"], &header["kid"]), (&json!(name), &json!("2026-a")));
        assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("nexus"), &json!("nexus"), &json!(idp.url())));
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
        assert!(claims["jti"].as_str().unwrap().len() >= 20);
    }
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_the_upstreams_trouble_and_nothing_is_sent() {
    for (text, reason) in [("no key", "local_invalid"), ("", "local_invalid")] {
        let idp = numbered(3600).await;
        let spec = fetching(legacy, "client_credentials", &idp, "private_key_jwt = \"/keys/client.pem\"");
        let nexus = gateway().file("/keys/client.pem", text).upstream("crm", spec).start().await;
        assert_eq!(nexus.modern().call("crm__whoami").await["error"]["data"]["reason"], reason);
        assert_eq!((idp.seen().len(), nexus.fake("crm").seen().len()), (0, 0));
    }
    let idp = numbered(3600).await;
    let spec = fetching(legacy, "client_credentials", &idp, "private_key_jwt = \"/keys/other.pem\"");
    let nexus = gateway().upstream("crm", spec).start().await;
    assert_eq!(nexus.modern().call("crm__whoami").await["error"]["data"]["reason"], "local_missing");
}

#[tokio::test]
async fn a_callers_token_is_exchanged_for_one_of_its_own() {
    for server in SERVERS {
        let idp = numbered(3600).await;
        let nexus = gateway().upstream("crm", fetching(server, "token_exchange", &idp, SECRET)).start().await;
        assert_eq!(nexus.modern().call("crm__whoami").await["error"]["code"], -32600, "nobody's token can be exchanged");
        for (is_modern, who) in [(true, "ann"), (false, "ann"), (true, "bob"), (false, "bob")] {
            let client = nexus.bearing(is_modern, who).await;
            let expected = if who == "ann" { "ann-1" } else { "bob-2" };
            assert_eq!(client.list("tools").await, ["crm__whoami".to_owned(), format!("crm__of_{expected}")]);
            assert_eq!(text(&client.call("crm__whoami").await), format!("whoami for {expected}"));
        }
        assert_eq!(idp.seen().len(), 2, "one for each");
        let asked = form(&idp.seen()[0]);
        assert_eq!(asked["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
        assert_eq!(asked["subject_token"], "ann");
        assert_eq!(asked["subject_token_type"], "urn:ietf:params:oauth:token-type:access_token");
        let seen = nexus.fake("crm").seen();
        assert!(seen.iter().all(|call| ["ann-1", "bob-2"].contains(&token(call))), "the caller's own token stays here");
    }
}

#[tokio::test]
async fn many_calls_at_once_fetch_one_token() {
    let idp = numbered(3600).await;
    let nexus = gateway().upstream("crm", fetching(modern, "token_exchange", &idp, SECRET)).start().await;
    let ann = nexus.bearing(true, "ann").await;
    let answers = join_all((0..20).map(|_| ann.call("crm__whoami"))).await;
    assert!(answers.iter().all(|answer| text(answer) == "whoami for ann-1"));
    assert_eq!(idp.seen().len(), 1);
}

#[tokio::test]
async fn a_token_is_fetched_anew_before_it_ends() {
    let still = StillTime::begin();
    let idp = numbered(10).await;
    let nexus = gateway().upstream("crm", fetching(modern, "client_credentials", &idp, SECRET)).start().await;
    let client = nexus.modern();
    assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-1");
    pass(std::time::Duration::from_millis(7500)).await;
    assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-1");
    pass(std::time::Duration::from_secs(1)).await;
    // Nobody waits for it as long as the one before is good.
    client.call("crm__whoami").await;
    let fresh = || async { text(&client.call("crm__whoami").await) == "whoami for own-2" };
    crate::support::soon("another token", async { while !fresh().await {} }).await;
    assert_eq!(idp.seen().len(), 2);
    drop(still);
}

/// Refuses the tokens that this holds.
pub(super) fn refusing(spec: FakeSpec, refused: Arc<parking_lot::Mutex<Vec<String>>>) -> FakeSpec {
    spec.before(move |call| {
        let is_refused = refused.lock().iter().any(|refused| refused == token(call) || refused == "all");
        is_refused.then(|| Answer::new(401, "application/json", r#"{"error":"invalid_token"}"#))
    })
}

#[tokio::test]
async fn a_call_that_is_made_again_with_another_token_is_charged_once() {
    for server in SERVERS {
        let refused: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
        let idp = numbered(3600).await;
        let further = format!("{SECRET}\n[.rate_limits]\nlimit = 3\ninterval = \"1h\"");
        let spec = refusing(fetching(server, "client_credentials", &idp, &further), Arc::clone(&refused));
        let limits = "[server.rate_limits]\nglobal = { limit = 3, interval = \"1h\" }";
        let nexus = gateway().server(limits).mcp("").upstream("crm", spec).start().await;
        let client = nexus.modern();
        assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-1");
        refused.lock().push("own-1".to_owned());
        for _ in 0..2 {
            assert_eq!(text(&client.call("crm__whoami").await), "whoami for own-2");
        }
        assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 4, "one was made again");
        assert_eq!(client.call("crm__whoami").await["error"]["data"]["scope"], "global");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_call_is_made_again() {
    for server in SERVERS {
        for kind in ["client_credentials", "token_exchange"] {
            let refused: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
            let idp = numbered(3600).await;
            let nexus = gateway().upstream("crm", refusing(fetching(server, kind, &idp, SECRET), Arc::clone(&refused))).start().await;
            let whose = if kind == "token_exchange" { "ann" } else { "own" };
            for is_modern in [false, true] {
                refused.lock().clear();
                let client = nexus.bearing(is_modern, "ann").await;
                client.call("crm__whoami").await;
            }
            let ann = nexus.bearing(true, "ann").await;
            refused.lock().push(format!("{whose}-1"));
            let before = nexus.fake("crm").seen_of("tools/call").len();
            assert_eq!(text(&ann.call("crm__whoami").await), format!("whoami for {whose}-2"));
            assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), before + 2, "refused, and made again");
            // Whoever refuses every token has no more of them fetched.
            refused.lock().push("all".to_owned());
            let fetched = idp.seen().len();
            for _ in 0..5 {
                assert_eq!(ann.call("crm__whoami").await["error"]["data"]["reason"], "auth_required");
            }
            assert_eq!(idp.seen().len(), fetched, "the last one was fetched a moment ago");
        }
    }
}

#[tokio::test]
async fn a_token_endpoint_that_gives_no_token_is_told_in_our_words() {
    for answer in [
        || Answer::new(400, "application/json", r#"{"error":"invalid_grant","error_description":"hunter2 of ann@corp"}"#),
        || Answer::new(500, "text/html", "<h1>hunter2</h1>"),
        || Answer::json(r#"{"access_token":"","hunter2":1}"#),
        || Answer::new(302, "text/plain", "").header("location", "https://evil.test/hunter2"),
    ] {
        let idp = endpoint(move |_| answer()).await;
        let spec = fetching(legacy, "token_exchange", &idp, SECRET);
        let nexus = gateway().upstream("crm", spec).upstream("all", modern().tool("open")).start().await;
        let ann = nexus.bearing(true, "ann").await;
        let answer = ann.call("crm__whoami").await;
        assert_eq!(answer["error"]["code"], -32603);
        assert_eq!(answer["error"]["data"]["reason"], "auth_token_endpoint");
        let words = answer["error"]["message"].as_str().unwrap();
        assert!(words.contains("no token could be had for it (auth_token_endpoint)"), "{words}");
        assert!(!answer.to_string().contains("hunter2") && !answer.to_string().contains("s3cr"), "{answer}");
        assert_eq!(nexus.fake("crm").seen().len(), 0);
        assert_eq!(text(&ann.call("all__open").await), "all:open", "nobody else is concerned");
    }
}

#[tokio::test]
async fn the_endpoint_is_trusted_as_its_upstream_is_and_nobody_else() {
    let (ours, other) = (Authority::root("ours"), Authority::root("other"));
    for (ca, is_trusted) in [(&ours, true), (&other, false)] {
        let idp = modern()
            .https(server_config(&ca.sign(Leaf::server(&["localhost"]))))
            .before(|_| Some(Answer::json(r#"{"access_token":"t","token_type":"Bearer"}"#)))
            .start("idp")
            .await;
        let mut spec = fetching(legacy, "client_credentials", &idp, SECRET).https(server_config(&ours.sign(Leaf::server(&["localhost"]))));
        spec.toml.push_str("[.tls]\nroot_ca_cert_path = \"/ca.pem\"\n");
        let nexus = gateway().file("/ca.pem", ours.pem()).upstream("crm", spec).start().await;
        let answer = nexus.modern().call("crm__whoami").await;
        if is_trusted {
            assert_eq!(text(&answer), "whoami for t");
        } else {
            assert_eq!(answer["error"]["data"]["reason"], "auth_token_endpoint");
            let status = nexus.upstream("crm").status();
            let detail = status.borrow().state.explanation().unwrap().detail.clone();
            assert!(detail.contains("tls_unknown_ca"), "{detail}");
            assert_eq!((idp.seen().len(), nexus.fake("crm").seen().len()), (0, 0), "no secret went anywhere");
        }
    }
}
