//! How long sessions live.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::{Pair, works};
use crate::support::{client::Client, fake::legacy, soon, until};

#[tokio::test]
async fn a_key_outlives_the_session_by_a_tenth_of_its_idle_time() {
    let pair = Pair::with(legacy().tool("work"), "session_idle_timeout = \"100s\"").await;
    let client = pair.client().await;
    works(&pair.moved(&client).call("crm__work").await);
    let left: u64 = pair.redis.cli(&["PTTL", &pair.key().await]).await.parse().unwrap();
    assert!((100_000..=110_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_session_that_was_refused_leaves_nothing_in_the_store() {
    let pair = Pair::with(legacy().tool("work"), "max_sessions = 1").await;
    let _client = pair.client().await;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let refused = Client::stranger(pair.one.address).open("initialize", params).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pair.keys().await.len(), 1, "nobody knows its id, so that nobody has to be told of its end");
}

#[tokio::test]
async fn a_session_that_is_used_somewhere_lives_on_everywhere_and_ends_when_nobody_uses_it() {
    let pair = Pair::with(legacy().tool("work").get_stream(), "session_idle_timeout = \"1s\"").await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let moved = pair.moved(&client);
    let stream = moved.get().await;
    // Kept alive by its stream alone, far beyond the idle time.
    let key = pair.key().await;
    let marks = || async { last_mark(&pair.redis.cli(&["HGETALL", &key]).await) };
    let first = marks().await;
    soon("further signs of life", async {
        while marks().await < first + 2500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(client.open("ping", json!({})).await.status, StatusCode::OK);
    drop(stream);
    soon("the end of the session", async {
        while !pair.keys().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// When a replica last said that it holds the session.
fn last_mark(fields: &str) -> u64 {
    let lines: Vec<_> = fields.lines().collect();
    let marks = lines.windows(2).filter_map(|pair| match pair {
        [field, value] if field.starts_with("at:") => value.parse().ok(),
        _ => None,
    });
    marks.max().unwrap_or(0)
}

#[tokio::test]
async fn a_store_that_has_lost_everything_is_told_again() {
    let mut pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    assert!(client.ask("logging/setLevel", json!({"level": "error"})).await["result"].is_object());
    let first_epoch = epoch(&pair).await;
    pair.redis.restart().await;
    assert!(pair.keys().await.is_empty());
    soon("the session in the store", async {
        while pair.keys().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_ne!(epoch(&pair).await, first_epoch);
    until("another connection", || pair.other.gateway.is_store_connected() == Some(true)).await;
    works(&pair.moved(&client).call("crm__work").await);
    assert_eq!(pair.opened(), 1, "with its session upstream");
}

/// Once there is one.
async fn epoch(pair: &Pair) -> String {
    soon("an epoch", async {
        loop {
            let epoch = pair.redis.cli(&["GET", "nexus:epoch"]).await;
            if !epoch.is_empty() {
                return epoch;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn one_that_was_ended_is_not_written_again() {
    let pair = Pair::with(legacy().tool("work"), "session_idle_timeout = \"1s\"").await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    let _stream = client.get().await;
    works(&moved.call("crm__work").await);
    let key = pair.key().await;
    // As if the notice of the end had been lost. In one piece: it is written again in between otherwise.
    pair.redis.cli(&["EVAL", "redis.call('DEL', KEYS[1]) return redis.call('HSET', KEYS[1], 'end', '1')", "1", &key]).await;
    soon("the end here", async {
        while client.open("ping", json!({})).await.status != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(pair.redis.cli(&["HKEYS", &key]).await, "end");
}
