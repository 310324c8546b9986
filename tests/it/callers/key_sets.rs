//! The identity provider's keys: fetched, exchanged, and gone on with when there are no better ones.

use std::time::Duration;

use nexus::clock::FixedClock;

use super::*;
use crate::support::{StillTime, in_time, pass, tls_peer::Peer, while_time_passes};

/// After an attempt nothing makes another one sooner.
const REST: Duration = Duration::from_secs(10);

async fn started(spec: GatewaySpec) -> Nexus {
    while_time_passes("the start", Box::pin(spec.start())).await
}

async fn in_still_time(client: &Client) -> u16 {
    while_time_passes("an answer", status(client)).await.as_u16()
}

#[tokio::test]
async fn a_key_that_is_not_known_yet_is_fetched_and_one_that_went_verifies_nothing() {
    let _still = StillTime::begin();
    let (old, new) = (SigningKey::es256("old"), SigningKey::es256("new"));
    let idp = Idp::serving(&[&old]).await;
    let nexus = started(idp.guarding(before_a_tool(), "poll_interval = \"30s\"")).await;
    let (before, after) = (old.token(&claims("ada", json!({}))), new.token(&claims("ada", json!({}))));
    assert_eq!(in_still_time(&bearing(&nexus, &before)).await, 200);
    idp.serves(&[&old, &new]);
    pass(REST).await;
    assert_eq!(in_still_time(&bearing(&nexus, &after)).await, 200);
    assert_eq!(in_still_time(&bearing(&nexus, &before)).await, 200, "both are served");
    idp.serves(&[&new]);
    pass(Duration::from_secs(31)).await;
    assert_eq!(in_still_time(&bearing(&nexus, &before)).await, 401, "its key is gone, although the token was good");
    assert_eq!(in_still_time(&bearing(&nexus, &after)).await, 200);
}

#[tokio::test]
async fn a_flood_of_invented_key_names_is_no_flood_of_requests() {
    let _still = StillTime::begin();
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = started(idp.guarding(before_a_tool(), "")).await;
    assert_eq!(in_still_time(&bearing(&nexus, &key.token(&claims("ada", json!({}))))).await, 200);
    let before = idp.asked();
    let began = tokio::time::Instant::now();
    for number in 0..50 {
        let invented = key.token_as(&json!({"alg": "ES256", "kid": format!("k{number}")}), &claims("eve", json!({})));
        assert_eq!(in_still_time(&bearing(&nexus, &invented)).await, 401);
    }
    let most = began.elapsed().as_secs() / REST.as_secs() + 1;
    assert!((idp.asked() - before) as u64 <= most, "{} requests in {:?}", idp.asked() - before, began.elapsed());
}

#[tokio::test]
async fn the_last_good_keys_stay_when_the_provider_gives_none() {
    let _still = StillTime::begin();
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = started(idp.guarding(before_a_tool(), "poll_interval = \"10s\"")).await;
    let token = |subject: &str| key.token(&claims(subject, json!({})));
    assert_eq!(in_still_time(&bearing(&nexus, &token("ada"))).await, 200);
    let ten_thousand: Vec<Value> = std::iter::repeat_n(key.jwk(), 10_000).collect();
    let three_hundred: Vec<Value> = std::iter::repeat_n(json!({"kty": "oct", "k": "AA"}), 300).collect();
    let shared = json!({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0"}]});
    for (what, status, body) in [
        ("an error", 500, String::new()),
        ("a page", 200, "<html>".to_owned()),
        ("nothing", 200, String::new()),
        ("no keys", 200, json!({"keys": []}).to_string()),
        ("shared secrets", 200, shared.to_string()),
        ("too many keys", 200, json!({"keys": three_hundred}).to_string()),
        ("ten thousand keys", 200, json!({"keys": ten_thousand}).to_string()),
        ("deep nesting", 200, "[".repeat(100_000)),
        ("a redirect", 302, String::new()),
    ] {
        let asked = idp.asked();
        idp.says(status, body);
        in_time(what, || idp.asked() >= asked + 2).await;
        assert_eq!(in_still_time(&bearing(&nexus, &token(what))).await, 200, "{what}");
    }
}

#[tokio::test]
async fn the_last_good_keys_stay_when_the_provider_hangs() {
    let _still = StillTime::begin();
    let key = SigningKey::es256("k");
    let document = json!({"keys": [key.jwk()]}).to_string();
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let provider = Peer::start(move |mut stream, _| {
        let is_first = answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{document}", document.len());
        async move {
            if is_first {
                let mut request = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
            } else {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let tables = format!(
        "[server.oauth]\nurl = \"http://{}/jwks\"\npoll_interval = \"10s\"\nexpected_issuer = \"{ISSUER}\"\nexpected_audience = \"{AUDIENCE}\"",
        provider.address
    );
    let nexus = started(before_a_tool().tables(&tables)).await;
    let token = |subject: &str| key.token(&claims(subject, json!({})));
    assert_eq!(in_still_time(&bearing(&nexus, &token("ada"))).await, 200);
    in_time("an attempt that hangs", || provider.connections() >= 2).await;
    for subject in ["ada", "bob"] {
        let began = tokio::time::Instant::now();
        assert_eq!(in_still_time(&bearing(&nexus, &token(subject))).await, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    // A key that nobody knows is waited for, a bounded time.
    let began = tokio::time::Instant::now();
    let unknown = key.token_as(&json!({"alg": "ES256", "kid": "other"}), &claims("eve", json!({})));
    assert_eq!(in_still_time(&bearing(&nexus, &unknown)).await, 401);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_provider_that_never_answers_costs_a_bounded_wait_and_says_nothing_of_the_token() {
    let _still = StillTime::begin();
    let hanging = Peer::start(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let tables = format!(
        "[server.oauth]\nurl = \"http://{}/jwks\"\nexpected_issuer = \"{ISSUER}\"\nexpected_audience = \"{AUDIENCE}\"",
        hanging.address
    );
    let nexus = started(before_a_tool().tables(&tables)).await;
    let token = SigningKey::es256("k").token(&claims("ada", json!({})));
    let began = tokio::time::Instant::now();
    let (status, headers, answer) = while_time_passes("an answer", called(&bearing(&nexus, &token))).await;
    assert_eq!(status, 503);
    assert_eq!(header(&headers, "retry-after"), "5");
    assert_eq!(header(&headers, "www-authenticate"), "", "a client must not throw its token away");
    assert!(!answer.to_string().contains("127.0.0.1"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_provider_with_another_certificate_gives_no_keys() {
    let key = SigningKey::es256("k");
    let (idp, other) = (Idp::serving(&[&key]).await, Idp::serving(&[&key]).await);
    let nexus = idp.guarding(before_a_tool(), "").file("/idp/ca.pem", other.ca()).start().await;
    assert_eq!(status(&bearing(&nexus, &key.token(&claims("ada", json!({}))))).await, 503);
    assert_eq!(idp.asked(), 0, "it was not even asked");
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_left_out_and_the_others_are_good() {
    let (key, weak) = (SigningKey::es256("k"), SigningKey::rsa("short", jsonwebtoken::Algorithm::RS256));
    let idp = Idp::serving(&[]).await;
    let mut for_encryption = key.jwk();
    for_encryption["use"] = "enc".into();
    for_encryption["kid"] = "e".into();
    let mut short = weak.jwk();
    short["n"] = short["n"].as_str().unwrap()[..170].into();
    let keys = json!({"keys": [for_encryption, short, {"kty": "EC", "crv": "P-256", "kid": "b", "x": "!", "y": "!"}, 7, null, key.jwk()]});
    idp.says(200, keys.to_string());
    let nexus = idp.guarding(before_a_tool().clock(FixedClock(Duration::from_secs(now()))), "").start().await;
    assert_eq!(status(&bearing(&nexus, &key.token(&claims("ada", json!({}))))).await, 200);
    let for_encryption = key.token_as(&json!({"alg": "ES256", "kid": "e"}), &claims("ada", json!({})));
    assert_eq!(status(&bearing(&nexus, &for_encryption)).await, 401);
    assert_eq!(status(&bearing(&nexus, &weak.token(&claims("ada", json!({}))))).await, 401);
}
