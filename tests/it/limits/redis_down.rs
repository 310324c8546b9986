//! Limits that replicas share, and what becomes of requests while nobody answers for them.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tools;
use crate::support::{
    client::Client,
    nexus::{Nexus, gateway},
    redis::RedisServer,
    tls_peer::Peer,
    until,
};

/// A replica that has its connection. `limits`: lines of `[server.rate_limits]`, `storage`: of the Redis.
async fn start(server: &RedisServer, limits: &str, storage: &str) -> Nexus {
    let storage = format!("[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"{}\"\n{storage}", server.url());
    let server = format!("[server.rate_limits]\n{limits}\n{storage}");
    let nexus = gateway().server(&server).mcp("").upstream("up", tools("")).admin("metrics = \"open\"").start().await;
    until("a connection to redis-server", || nexus.gateway.limiter().is_connected() == Some(true)).await;
    nexus
}

const THREE: &str = "per_client = { limit = 3, interval = \"1h\" }";

async fn admitted(client: &Client, count: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..count {
        admitted += usize::from(client.call("up__work").await["result"].is_object());
    }
    admitted
}

#[tokio::test]
async fn replicas_share_one_limit_and_a_restarted_one_has_no_more() {
    let server = RedisServer::start().await;
    let (one, other) = (start(&server, THREE, "").await, start(&server, THREE, "").await);
    assert_eq!((admitted(&one.modern(), 2).await, admitted(&other.modern(), 4).await), (2, 1));
    drop(one);
    let restarted = start(&server, THREE, "").await;
    assert_eq!(admitted(&restarted.modern(), 4).await, 0);
    let refused = restarted.modern().call("up__work").await;
    assert_eq!((&refused["error"]["code"], &refused["error"]["data"]["scope"]), (&json!(-32000), &json!("client")));
    let strangers = start(&server, THREE, "key_prefix = \"other:\"").await;
    assert_eq!(admitted(&strangers.modern(), 4).await, 3, "another prefix is another gateway");
}

#[tokio::test]
async fn without_redis_requests_go_on_or_are_refused_as_the_file_says() {
    for (on_error, goes_on) in [("", true), ("on_error = \"allow\"", true), ("on_error = \"deny\"", false)] {
        let mut server = RedisServer::start().await;
        let nexus = start(&server, THREE, on_error).await;
        server.kill().await;
        let answer = nexus.modern().call("up__work").await;
        assert_eq!(answer["result"].is_object(), goes_on, "{answer}");
        if !goes_on {
            let error = &answer["error"];
            assert_eq!((&error["code"], &error["data"]), (&json!(-32000), &json!({"retryAfterMs": 1000, "scope": "storage"})));
        }
        let metrics = nexus.operator().get("/metrics").await.text().await;
        assert!(metrics.contains("nexus_rate_limit_storage_errors_total{} 1"), "{metrics}");
        assert!(metrics.contains(&format!("nexus_rate_limited_total{{scope=\"storage\"}} {}", u8::from(!goes_on))), "{metrics}");
    }
}

#[tokio::test]
async fn at_the_door_a_limit_that_cannot_be_checked_is_a_service_that_is_unavailable() {
    let mut server = RedisServer::start().await;
    let nexus = start(&server, "global = { limit = 100, interval = \"1h\" }", "on_error = \"deny\"").await;
    let client = nexus.modern();
    assert_eq!(admitted(&client, 2).await, 2);
    server.kill().await;
    let refused = client.open("tools/list", json!({})).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    server.restart().await;
    until("another connection", || nexus.gateway.limiter().is_connected() == Some(true)).await;
    assert_eq!(client.open("tools/list", json!({})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn no_request_waits_longer_for_redis_than_the_file_says() {
    let server = RedisServer::start().await;
    let nexus = start(&server, THREE, "response_timeout = \"200ms\"").await;
    server.freeze();
    let began = Instant::now();
    assert_eq!(admitted(&nexus.modern(), 20).await, 20);
    // A few find out; the others do not wait.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    server.wake();
}

#[tokio::test]
async fn a_reload_takes_another_store() {
    let server = RedisServer::start().await;
    let nexus = gateway().server(&format!("[server.rate_limits]\n{THREE}")).mcp("").upstream("up", tools("")).start().await;
    let client = nexus.modern();
    assert_eq!((admitted(&client, 4).await, nexus.gateway.limiter().is_connected()), (3, None));
    let storage = format!("{THREE}\nstorage = {{ type = \"redis\", url = \"{}\" }}", server.url());
    nexus.reload(&nexus.toml.replace(THREE, &storage));
    until("a connection to redis-server", || nexus.gateway.limiter().is_connected() == Some(true)).await;
    assert_eq!(admitted(&client, 4).await, 3);
    nexus.reload(&nexus.toml);
    assert_eq!((admitted(&client, 1).await, nexus.gateway.limiter().is_connected()), (0, None), "the tokens in memory are as they were");
}

#[tokio::test]
async fn the_waits_of_one_request_together_are_no_longer_than_the_file_says() {
    let server = RedisServer::start().await;
    let limits = format!("global = {{ limit = 1000, interval = \"1h\" }}\nper_ip = {{ limit = 1000, interval = \"1h\" }}\n{THREE}");
    let nexus = start(&server, &limits, "response_timeout = \"1s\"").await;
    let client = nexus.modern();
    assert_eq!(admitted(&client, 1).await, 1);
    server.freeze();
    let began = Instant::now();
    assert_eq!(admitted(&client, 1).await, 1);
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    server.wake();
}

/// A Redis that is well, but for what it answers to scripts.
async fn lying(answer: &'static str) -> Peer {
    Peer::start(move |mut stream, _| async move {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            heard.extend_from_slice(&buffer[..count]);
            while let Some((command, length)) = command(&heard) {
                heard.drain(..length);
                let says = match command.to_ascii_uppercase().as_str() {
                    "EVALSHA" | "EVAL" => answer.to_owned(),
                    "INFO" => {
                        let info = "redis_version:7.2.4\r\n";
                        format!("${}\r\n{info}\r\n", info.len())
                    }
                    "PING" => "+PONG\r\n".to_owned(),
                    _ => "+OK\r\n".to_owned(),
                };
                if stream.write_all(says.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// The first command and its length (RESP: an array of bulk strings).
fn command(heard: &[u8]) -> Option<(String, usize)> {
    let line = |from: usize| heard[from..].windows(2).position(|two| two == b"\r\n").map(|end| (&heard[from..from + end], from + end + 2));
    let number = |text: &[u8]| std::str::from_utf8(&text[1..]).unwrap().parse::<usize>().unwrap();
    let (head, mut at) = line(0)?;
    let mut name = None;
    for _ in 0..number(head) {
        let (length, begin) = line(at)?;
        let end = begin + number(length);
        let word = heard.get(begin..end)?;
        name.get_or_insert_with(|| String::from_utf8_lossy(word).into_owned());
        at = end + 2;
        heard.get(..at)?;
    }
    Some((name.unwrap_or_default(), at))
}

#[tokio::test]
async fn what_redis_answers_wrongly_is_no_answer() {
    for answer in [
        "*2\r\n:7\r\n:-1\r\n",
        "*2\r\n:1\r\n:0\r\n",
        "*2\r\n:-1\r\n:5\r\n",
        "*2\r\n:4\r\n:5\r\n",
        "*2\r\n:3\r\n:5\r\n",
        "*2\r\n$1\r\n0\r\n$1\r\n0\r\n",
        "*3\r\n:0\r\n:0\r\n:0\r\n",
        "*0\r\n",
        "$-1\r\n",
        ":0\r\n",
        "+OK\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
        "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        "-ERR hunter2\r\n",
    ] {
        for (on_error, goes_on) in [("allow", true), ("deny", false)] {
            let liar = lying(answer).await;
            let storage = format!("type = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\non_error = \"{on_error}\"", liar.address.port());
            let server = format!("[server.rate_limits]\n{THREE}\n[server.rate_limits.storage]\n{storage}");
            let nexus = gateway().server(&server).mcp("").upstream("up", tools("")).start().await;
            until("a connection", || nexus.gateway.limiter().is_connected() == Some(true)).await;
            let said = nexus.modern().call("up__work").await;
            assert_eq!(said["result"].is_object(), goes_on, "{answer:?} {on_error}: {said}");
            assert!(goes_on || said["error"]["data"] == json!({"retryAfterMs": 1000, "scope": "storage"}), "{answer:?}: {said}");
            assert!(!said.to_string().contains("hunter2"), "{said}");
        }
    }
}
