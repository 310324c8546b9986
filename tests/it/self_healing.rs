//! Upstreams that are busy, restarted or cut off: what is sent again by itself, and what never is.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;

use crate::support::{
    child::child,
    client::{names, text},
    fake::{Answer, Call, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    until, wire,
};

async fn start(spec: FakeSpec) -> Nexus {
    gateway().upstream("up", spec).upstream("other", legacy().tool("x")).start().await
}

/// A document that breaks off.
fn broken() -> Answer {
    let (sender, body) = wire::stream();
    tokio::spawn(async move {
        sender.bytes("{\"jsonrpc\":").await;
        sender.break_off().await;
    });
    Answer::of(200, "application/json", body).header("content-length", "100")
}

/// Breaks off the first `times` answers to a method.
fn breaking(spec: FakeSpec, method: &str, times: usize, answer: &'static str) -> FakeSpec {
    let left = Arc::new(AtomicUsize::new(times));
    spec.on(method, move |call| {
        let breaks = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if breaks { broken() } else { Answer::json(call.response(answer)) }
    })
}

#[tokio::test]
async fn a_busy_servers_retry_after_reaches_the_client() {
    for status in [429, 503] {
        for server in [legacy, modern] {
            let busy = move |_: &Call| Answer::new(status, "text/html", "<html>busy</html>").header("retry-after", "7");
            let nexus = start(server().tool("work").on("tools/call", busy)).await;
            let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
            assert_eq!((response.status.as_u16(), response.headers["retry-after"].to_str().unwrap()), (status, "7"));
            let error = response.answer().await["error"].clone();
            assert_eq!(
                (&error["code"], &error["data"]["retryAfterMs"], &error["data"]["upstream"]),
                (&json!(-32000), &json!(7000), &json!("up"))
            );

            let response = nexus.legacy().await.open("tools/call", json!({"name": "up__work"})).await;
            assert_eq!(
                (response.status, response.headers["retry-after"].to_str().unwrap()),
                (StatusCode::OK, "7"),
                "404 and the like end sessions"
            );
            let left = response.answer().await["error"]["data"]["retryAfterMs"].as_u64().unwrap();
            assert!((6000..=7000).contains(&left), "{left}");
            // Whose limit is reached is not asked again before; whoever is down for maintenance may be back sooner.
            assert_eq!(nexus.fake("up").seen_of("tools/call").len(), if status == 429 { 1 } else { 2 }, "each was sent once");
            assert_eq!(nexus.upstream("up").status().borrow().state.word(), "up");
        }
    }
}

#[tokio::test]
async fn a_status_without_retry_after_is_an_error_like_any_other() {
    let nexus = start(modern().tool("work").on("tools/call", |_| Answer::status(503))).await;
    let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
    assert!(response.headers.get("retry-after").is_none());
    assert_eq!(response.answer().await["error"]["code"], -32603);
}

#[tokio::test]
async fn a_busy_servers_own_error_is_relayed_as_it_is_and_says_when_to_come_again() {
    for status in [429, 503] {
        for server in [legacy, modern] {
            let busy = move |call: &Call| Answer::new(status, "application/json", call.error(-32050)).header("retry-after", "7");
            let nexus = start(server().tool("work").on("tools/call", busy)).await;
            let (modern, legacy) = (nexus.modern(), nexus.legacy().await);
            let response = modern.open("tools/call", json!({"name": "up__work"})).await;
            assert_eq!(response.headers["retry-after"], "7", "{status}");
            assert_eq!(response.answer().await["error"]["code"], -32050);
            if status == 503 {
                let response = legacy.open("tools/call", json!({"name": "up__work"})).await;
                assert_eq!(response.headers["retry-after"], "7", "{status}");
                assert_eq!(response.answer().await["error"]["code"], -32050);
            }
        }
    }
    let nexus = start(modern().tool("work").on("tools/call", |call| Answer::new(429, "application/json", call.error(-32050)))).await;
    let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
    assert_eq!((response.status.as_u16(), response.headers.get("retry-after")), (429, None));
    assert_eq!(response.answer().await["error"]["code"], -32050);
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_left_alone_until_then() {
    let (first, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let greeting = r#""resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["2026-07-28"],
        "capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}"#;
    let busy = move |call: &Call| match first.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(503).header("retry-after", "2"),
        _ => Answer::json(call.response(greeting)),
    };
    let nexus = start(modern().tool("work").on("server/discover", busy)).await;
    nexus.state("up", "down").await;
    assert_eq!(nexus.fake("up").seen().len(), 1, "not even another protocol is tried");
    nexus.legacy().await.call("up__work").await;
    nexus.state("up", "up").await;
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn lists_that_cannot_be_read_for_the_moment_take_nothing_down() {
    let calls = Arc::new(AtomicUsize::new(0));
    let spec = legacy().get_stream().tool("work").on("tools/list", move |call| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::json(call.response(&format!(r#""tools":[{}]"#, crate::support::offer::tool("work")))),
        1 => Answer::status(429).header("retry-after", "1"),
        _ => Answer::json(call.response(&format!(r#""tools":[{}]"#, crate::support::offer::tool("new")))),
    });
    let nexus = start(spec).await;
    nexus.fake("up").tools_changed().await;
    let client = nexus.legacy().await;
    until("the list that was busy", || nexus.fake("up").seen_of("tools/list").len() >= 2).await;
    assert_eq!(nexus.upstream("up").status().borrow().state.word(), "up");
    assert_eq!(text(&client.call("up__work").await), "up:work");
    until("the list's second reading", || nexus.fake("up").seen_of("tools/list").len() >= 3).await;
    until("the new tool", || nexus.upstream("up").offer().is_some_and(|offer| offer.tools.iter().any(|tool| tool.name() == "new"))).await;
    let listed = client.ask("tools/list", json!({})).await;
    assert_eq!(names(&listed["result"]["tools"]), ["up__new", "other__x"]);
}

#[tokio::test]
async fn what_only_reads_is_sent_once_more_when_its_connection_breaks() {
    for server in [legacy, modern] {
        let spec = server().tool("work").prompt("ask").resource("file:///a");
        let spec = breaking(spec, "resources/read", 1, r#""resultType":"complete","contents":[{"uri":"file:///a","text":"t"}]"#);
        let spec = breaking(spec, "prompts/get", 2, r#""resultType":"complete","messages":[]"#);
        let nexus = start(spec).await;
        let client = nexus.modern();
        let read = client.ask("resources/read", json!({"uri": "file:///a"})).await;
        assert_eq!(read["result"]["contents"][0]["text"], "t", "{read}");
        assert_eq!(nexus.fake("up").seen_of("resources/read").len(), 2);
        let prompt = client.ask("prompts/get", json!({"name": "up__ask"})).await;
        assert_eq!(prompt["error"]["code"], -32603, "once, and not again and again");
        assert_eq!(nexus.fake("up").seen_of("prompts/get").len(), 2);
    }
}

#[tokio::test]
async fn a_tool_is_never_called_twice_whatever_breaks() {
    for server in [legacy, modern] {
        let nexus = start(breaking(server().tool("work"), "tools/call", 1, r#""resultType":"complete","content":[]"#)).await;
        for (client, answered) in [(nexus.modern(), false), (nexus.legacy().await, true)] {
            let answer = client.call("up__work").await;
            assert_eq!(answer["result"].is_object(), answered, "the next call works: {answer}");
        }
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 2);
    }
}

#[tokio::test]
async fn a_restarted_server_gets_new_sessions_and_each_call_once() {
    let nexus = start(legacy().tool("work").resource("file:///a")).await;
    let (old, new) = (nexus.legacy().await, nexus.modern());
    for client in [&old, &new] {
        assert_eq!(text(&client.call("up__work").await), "up:work");
    }
    nexus.fake("up").forget_sessions();
    for client in [&old, &new] {
        assert_eq!(text(&client.call("up__work").await), "up:work");
    }
    let calls = nexus.fake("up").seen_of("tools/call");
    let refused = calls.iter().filter(|call| call.header("mcp-session-id").unwrap() == calls[0].header("mcp-session-id").unwrap()).count();
    assert_eq!((calls.len(), refused), (6, 2), "those with a forgotten session were not executed");
}

#[tokio::test]
async fn a_child_that_died_is_replaced_and_its_last_call_is_not_repeated() {
    let nexus = gateway().upstream("kid", child()).upstream("other", legacy().tool("x")).start().await;
    let client = nexus.legacy().await;
    let died = client.call("kid__die").await;
    assert_eq!(died["error"]["data"]["reason"], "exited", "{died}");
    assert!(client.call("kid__echo").await["result"].is_object(), "its process was its own");
    // This one uses the gateway's own process, without which the upstream is down for a moment.
    let died = nexus.modern().call("kid__die").await;
    assert_eq!(died["error"]["data"]["reason"], "exited", "{died}");
    nexus.state("kid", "up").await;
    until("another process", || nexus.upstream("kid").generation().is_ok()).await;
    let lines = nexus.notes("kid").lines();
    let died = lines.iter().filter(|line| line["params"]["name"] == "die").count();
    assert_eq!(died, 2, "one for each call");
}
