//! What is in Redis, and what becomes of sessions when it is not there or holds nonsense.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;

use super::{Pair, connected, spec, works};
use crate::support::{client::Client, fake::legacy, soon, until};

#[tokio::test]
async fn without_the_store_unknown_sessions_are_to_be_tried_again_and_those_that_are_here_go_on() {
    let mut pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    pair.redis.kill().await;
    until("the loss of the connection", || pair.other.gateway.is_store_connected() == Some(false)).await;
    let began = Instant::now();
    for refused in [
        pair.moved(&client).open("tools/list", json!({})).await,
        Client::stranger(pair.other.address)
            .open("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "new", "version": "1"}}))
            .await,
    ] {
        assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
        let answer = refused.answer().await;
        assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["retryAfterMs"]), (&json!(-32000), &json!(1000)), "{answer}");
    }
    assert_eq!(client.delete().await, StatusCode::SERVICE_UNAVAILABLE, "the others would not hear of it");
    works(&client.call("crm__work").await);
    works(&client.call("erp__idle").await);
    assert!(client.ask("logging/setLevel", json!({"level": "error"})).await["result"].is_object());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let metrics = pair.one.operator().get("/metrics").await.text().await;
    assert!(!metrics.contains("nexus_session_store_errors_total{} 0"), "{metrics}");
    assert!(metrics.contains("nexus_session_store_errors_total"), "{metrics}");
    pair.redis.restart().await;
    until("another connection", || pair.other.gateway.is_store_connected() == Some(true)).await;
    let moved = pair.moved(&client);
    soon("the session at the other", async {
        while moved.open("tools/list", json!({})).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_store_that_only_lets_itself_be_read_keeps_nobody_from_an_upstream() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    // What is told to the session with the upstream when it is taken up shows that it is lost.
    assert!(client.ask("logging/setLevel", json!({"level": "error"})).await["result"].is_object());
    let moved = pair.moved(&client);
    assert_eq!(moved.open("ping", json!({})).await.status, StatusCode::OK);
    pair.crm().forget_sessions();
    // As a master that has become a copy.
    pair.redis.cli(&["REPLICAOF", "127.0.0.1", "1"]).await;
    works(&moved.call("crm__work").await);
}

#[tokio::test]
async fn what_is_unsubscribed_while_the_store_is_silent_is_written_when_it_speaks_again() {
    let pair = Pair::with(legacy().tool("work").resource("file:///a"), "session_idle_timeout = \"20s\"").await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    assert!(client.ask("resources/subscribe", json!({"uri": "file:///a"})).await["result"].is_object());
    assert_eq!(moved.open("ping", json!({})).await.status, StatusCode::OK);
    let key = pair.key().await;
    let kept = || async { pair.redis.cli(&["HKEYS", &key]).await.lines().filter(|field| field.starts_with("w:")).count() };
    assert_eq!(kept().await, 1);
    pair.redis.freeze();
    assert!(client.ask("resources/unsubscribe", json!({"uri": "file:///a"})).await["result"].is_object());
    pair.redis.wake();
    soon("the end of the subscription", async {
        while kept().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_request_waits_long_for_a_store_that_says_nothing() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    pair.redis.freeze();
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(pair.moved(&client).open("tools/list", json!({})).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    pair.redis.wake();
}

#[tokio::test]
async fn nothing_of_a_client_can_be_read_in_the_store() {
    let redis = crate::support::redis::RedisServer::start().await;
    let forwards = legacy().tool("work").resource("telltale://resource").toml("[.auth]\ntype = \"forward\"");
    let one = connected(spec(&redis, "").upstream("crm", forwards).upstream("erp", legacy().tool("x"))).await;
    let client = Client::stranger(one.address).bearing("telltale-token").begin(json!({"experimental": {"telltale": {}}})).await;
    works(&client.call("crm__work").await);
    client.ask("resources/subscribe", json!({"uri": "telltale://resource"})).await;
    client.ask("logging/setLevel", json!({"level": "warning"})).await;
    let keys = redis.cli(&["KEYS", "*"]).await;
    let session_upstream = one.fake("crm").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let mut everything = keys.clone();
    let mut sealed = 0;
    for key in keys.lines().filter(|key| key.contains("session:")) {
        // Raw, because of the escapes that are shown otherwise.
        everything += &String::from_utf8_lossy(&raw(&redis, &["HGETALL", key]).await);
        sealed += 1;
    }
    assert_eq!(sealed, 1, "{keys}");
    for secret in ["telltale", client.session(), &session_upstream, "warning", "\"test\"", "2025-11-25"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    assert!(everything.contains("u:crm") && everything.contains("at:"), "it is the right key");
}

async fn raw(redis: &crate::support::redis::RedisServer, arguments: &[&str]) -> Vec<u8> {
    tokio::process::Command::new("redis-cli").args(["-p", &redis.port.to_string()]).args(arguments).output().await.unwrap().stdout
}

#[tokio::test]
async fn nonsense_in_the_store_counts_as_nothing() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let key = pair.key().await;
    let moved = pair.moved(&client);
    for field in ["u:crm", "l", "w:x", "at:", "k:crm", "", "u:", "zzz"] {
        pair.redis.cli(&["HSET", &key, field, "garbage"]).await;
    }
    works(&moved.call("crm__work").await);
    works(&client.call("crm__work").await);
    assert_eq!(pair.opened(), 2, "the session that could not be read was opened anew");
    // A list where replicas leave notices, and notices that are none.
    let inboxes = pair.redis.cli(&["HKEYS", &key]).await;
    for replica in inboxes.lines().filter_map(|field| field.strip_prefix("at:")).filter(|replica| !replica.is_empty()) {
        for notice in ["", "garbage"] {
            pair.redis.cli(&["RPUSH", &format!("nexus:inbox:{replica}"), notice]).await;
        }
    }
    works(&moved.call("crm__work").await);
    // A record that does not open, and a key of another type.
    let third = Pair::beside(&pair.redis, &pair.one, "").await;
    let third = client.at(third.address);
    pair.redis.cli(&["HSET", &key, "r", "garbage"]).await;
    assert_eq!(third.open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
    pair.redis.cli(&["SET", &key, "garbage"]).await;
    assert_eq!(third.open("ping", json!({})).await.status, StatusCode::SERVICE_UNAVAILABLE);
    works(&client.call("crm__work").await);
}

#[tokio::test]
async fn other_secrets_open_nothing_and_replaced_ones_everything() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    let lines = |name: &str| format!("url = {:?}", pair.one.fake(name).url());
    let with = |secrets: &str| {
        let state = format!("[state]\nstore = \"redis\"\nredis_url = \"{}\"\nsecrets = [{secrets}]", pair.redis.url());
        connected(crate::support::nexus::gateway().tables(&state).upstream("crm", lines("crm")).upstream("erp", lines("erp")))
    };
    let new = format!("{:?}", "n".repeat(32));
    let (stranger, heir) = (with(&new).await, with(&format!("{new}, {:?}", super::SECRET)).await);
    let at = |address| client.at(address);
    assert_eq!(at(stranger.address).open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
    works(&at(heir.address).call("crm__work").await);
}

#[tokio::test]
async fn a_session_here_costs_the_store_nothing() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    // Whatever asks it now waits in vain.
    pair.redis.freeze();
    for _ in 0..20 {
        works(&client.call("crm__work").await);
    }
    pair.redis.wake();
}
