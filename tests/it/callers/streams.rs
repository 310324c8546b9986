//! A stream lasts no longer than the credential of whoever opened it.

use super::*;
use crate::support::{client::send, soon, wire::full};

const KEYS: &str = "[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
                    [[server.api_keys]]\nid = \"cd\"\nkey = \"fedcba9876543210fedcba9876543210\"\n";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Every kind of stream that has no end of its own: of a modern client, of a legacy one, and of an old one.
async fn streams(nexus: &Nexus, name: &'static str, credential: &str) -> Vec<(&'static str, Response)> {
    let listening = nexus.modern().header(name, credential);
    let mut listens = listening.open("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await;
    assert_eq!(listens.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    let session = Client::stranger(nexus.address).header(name, credential).begin(json!({})).await;
    let hears = session.get().await;
    assert_eq!(hears.status, 200);
    let request = http::Request::get("/sse").header(name, credential).body(full("")).unwrap();
    let mut old = send(nexus.address, request).await;
    assert!(old.next_text().await.unwrap().starts_with("/sse/messages"));
    vec![("listen", listens), ("GET", hears), ("/sse", old)]
}

/// Reads to the end, which is bound to come.
async fn ends(what: &str, mut stream: Response) {
    soon(&format!("the end of the stream of {what}"), async { while stream.next_bytes().await.is_some() {} }).await;
}

/// Two upstreams, and one of which everything is relayed.
fn gateways() -> [GatewaySpec; 2] {
    [before_a_tool().upstream("b", modern()), gateway().upstream("a", modern().tool("x").toml("prefix = \"\""))]
}

#[tokio::test]
async fn streams_end_with_the_token_that_opened_them() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    for spec in gateways() {
        let nexus = idp.guarding(spec.mcp("sse_path = \"/sse\""), "").start().await;
        // It has ended, but for the time that clocks may be apart.
        let short = format!("Bearer {}", key.token(&claims("ada", json!({"exp": now() - 27}))));
        let long = format!("Bearer {}", key.token(&claims("ada", json!({}))));
        let others = streams(&nexus, "authorization", &long).await;
        let began = std::time::Instant::now();
        for (what, stream) in streams(&nexus, "authorization", &short).await {
            ends(what, stream).await;
        }
        assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
        for (what, mut stream) in others {
            let is_over = tokio::time::timeout(std::time::Duration::from_millis(50), stream.next_bytes()).await;
            assert!(!matches!(is_over, Ok(None)), "{what} of a token that goes on");
        }
    }
}

#[tokio::test]
async fn streams_end_when_the_file_says_anew_who_may_call() {
    let server = |toml: &str| {
        let sources = nexus::sources::MemorySources::default();
        nexus::config::load_text(toml, std::path::Path::new("/n.toml"), None, &sources).config.unwrap().server
    };
    for spec in gateways() {
        let nexus = spec.mcp("sse_path = \"/sse\"").tables(KEYS).start().await;
        let mut streams = streams(&nexus, "x-api-key", KEY).await;
        // Another value of something else ends nothing.
        nexus.server.set(server(&format!("[server]\nmax_connections = 7\n{KEYS}")));
        for (what, stream) in &mut streams {
            let is_over = tokio::time::timeout(std::time::Duration::from_millis(50), stream.next_bytes()).await;
            assert!(!matches!(is_over, Ok(None)), "{what}");
        }
        nexus.server.set(server(&KEYS[KEYS.len() / 2..]));
        for (what, stream) in streams {
            ends(what, stream).await;
        }
        assert_eq!(status(&nexus.modern().header("x-api-key", KEY)).await, 401);
    }
}

#[tokio::test]
async fn streams_end_when_the_key_that_signed_their_token_is_withdrawn() {
    let (old, new) = (SigningKey::es256("old"), SigningKey::es256("new"));
    let idp = Idp::serving(&[&old, &new]).await;
    let _still = crate::support::StillTime::begin();
    let spec = idp.guarding(before_a_tool().upstream("b", modern()).mcp("sse_path = \"/sse\""), "poll_interval = \"1m\"");
    let nexus = spec.start().await;
    let streams = streams(&nexus, "authorization", &format!("Bearer {}", old.token(&claims("ada", json!({}))))).await;
    idp.serves(&[&new]);
    let asked = idp.asked();
    crate::support::in_time("another reading of the keys", || idp.asked() > asked).await;
    for (what, stream) in streams {
        crate::support::while_time_passes(what, ends(what, stream)).await;
    }
}
