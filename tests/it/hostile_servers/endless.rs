//! Servers that never come to an end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::support::{fake::Call, wire};

/// Bytes of memory that this process holds now.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const GIGABYTE: usize = 1 << 30;
const PIECE: usize = 256 << 10;

/// Writes a gigabyte, or what of it the gateway takes.
async fn pour(server: &Sender, begin: &str, piece: &str) {
    server.bytes(begin.to_owned()).await;
    let piece = Bytes::from(piece.repeat(PIECE / piece.len()));
    for _ in 0..GIGABYTE / PIECE {
        if !server.bytes(piece.clone()).await {
            return;
        }
    }
}

/// The most that is held until `work` is done.
async fn most_memory(work: impl Future<Output = ()>) -> usize {
    let mut work = std::pin::pin!(work);
    let mut most = 0;
    loop {
        most = most.max(memory());
        tokio::select! {
            () = &mut work => return most,
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}

#[tokio::test]
async fn a_gigabyte_without_the_end_of_an_event_takes_no_memory() {
    let comment = format!(":{}\n", "x".repeat(8190));
    let shapes = [("data: ", "x"), ("", "data: x\n"), ("", "data\n"), ("", "id: 1\n"), ("event: ", "x"), ("", ":"), ("", &comment)];
    for evil in [legacy as fn() -> FakeSpec, modern] {
        let (nexus, mut streams) = beside(evil).await;
        for (begin_with, piece) in shapes {
            for client in clients(&nexus).await {
                // What is not cut off is read to its end, which takes long: once is enough.
                if piece == comment && (client.is_modern() || !evil().is_modern()) {
                    continue;
                }
                let before = memory();
                let called = client.open("tools/call", json!({"name": "evil__work"}));
                let poured = async {
                    let (_, server) = soon("the call", streams.recv()).await.unwrap();
                    pour(&server, begin_with, piece).await;
                };
                let (mut most, mut response) = (0, None);
                tokio::join!(async { most = most_memory(poured).await }, async { response = Some(called.await) });
                // The event that grows, once more while it grows, and what lies in sockets.
                assert!(most < before + (80 << 20), "{piece:.10?}: {} MiB more", (most - before) >> 20);
                let answer = response.unwrap().answer().await;
                assert_eq!(answer["error"]["code"], -32603, "{piece:.10?}: {answer}");
            }
        }
        nexus.is_unharmed("good__x").await;
    }
}

#[tokio::test]
async fn messages_for_nobody_do_not_prolong_a_call() {
    let (spec, mut streams) = legacy().tool("work").toml("call_timeout = \"1s\"").streamed("tools/call");
    let nexus = gateway().mcp("call_timeout_max = \"2s\"").upstream("evil", spec).upstream("good", modern().tool("x")).start().await;
    for client in clients(&nexus).await {
        let called = client.call("evil__work");
        let chatter = async {
            let (_, server) = soon("the call", streams.recv()).await.unwrap();
            let update = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x"}}).to_string();
            while server.event(&update).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (answer, ()) = soon("the end of the call", async { tokio::join!(called, chatter) }).await;
        assert_eq!(answer["error"]["data"]["reason"], "call_timeout", "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_again_and_again_is_given_up() {
    let hanging_up = |id: &AtomicUsize| {
        let id = id.fetch_add(1, Ordering::Relaxed);
        Answer::new(200, "text/event-stream", format!("id: {id}\nretry: 1\ndata:\n\n"))
    };
    let (first, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1_000_000)));
    let gets = Arc::clone(&others);
    let spec = legacy().tool("work").toml("call_timeout = \"1s\"").on("tools/call", move |_| hanging_up(&first));
    let spec = spec.on("GET", move |call| match call.header("last-event-id") {
        Some(_) => hanging_up(&others),
        None => Answer::status(405),
    });
    let nexus = gateway().mcp("call_timeout_max = \"2s\"").upstream("evil", spec).upstream("good", modern().tool("x")).start().await;
    let [_, client] = clients(&nexus).await;
    let answer = soon("the end of the call", client.call("evil__work")).await;
    assert_eq!(answer["error"]["data"]["reason"], "call_timeout", "{answer}");
    let gets = gets.load(Ordering::Relaxed) - 1_000_000;
    assert!((2..60).contains(&gets), "{gets} in two seconds");
}

#[tokio::test]
async fn the_stream_of_a_session_that_was_lost_is_let_go_of() {
    let nexus = gateway().upstream("evil", legacy().get_stream().tool("x")).upstream("good", modern()).start().await;
    let asked = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let (old, new) = (nexus.legacy().await, nexus.modern());
    let _hears = old.get().await;
    for client in [&old, &new] {
        let call = async || client.ask("tools/call", json!({"name": "evil__x", "_meta": asked})).await;
        for _ in 0..3 {
            call().await;
            let session = nexus.fake("evil").last("tools/call").header("mcp-session-id").unwrap().to_owned();
            let stream = nexus.fake("evil").stream_of(&session).await;
            nexus.fake("evil").forget_sessions();
            assert!(call().await["result"].is_object(), "in another session");
            soon("the end of the stream that the server kept", stream.gone()).await;
        }
    }
}

#[tokio::test]
async fn calls_do_not_wait_one_after_the_other_for_a_session_that_never_opens() {
    let first = AtomicUsize::new(0);
    let spec = legacy().tool("x").toml("list_timeout = \"2s\"\ncall_timeout = \"3s\"").on("initialize", move |call| {
        // The gateway's own session opens, and no other.
        if first.fetch_add(1, Ordering::Relaxed) == 0 {
            let result = r#""protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"evil","version":"1"}"#;
            return Answer::json(call.response(result)).header("mcp-session-id", "own");
        }
        let (sender, body) = wire::stream();
        tokio::spawn(async move { sender.gone().await });
        Answer::of(200, "text/event-stream", body)
    });
    let nexus = gateway().upstream("evil", spec.unchecked_sessions()).upstream("good", modern().tool("x")).start().await;
    let clients: Vec<_> = (0..12).map(|_| nexus.modern()).collect();
    let answers = soon("all answers", futures_util::future::join_all(clients.iter().map(|client| client.call("evil__x")))).await;
    assert!(answers.iter().all(|answer| answer["error"]["code"] == -32603), "{answers:?}");
    nexus.is_unharmed("good__x").await;
}

#[tokio::test]
async fn a_subscription_that_is_answered_with_half_a_document_is_given_up() {
    let spec = modern().resource("evil://r").toml("list_timeout = \"1s\"").on("subscriptions/listen", |call| {
        if !call.params()["notifications"]["resourceSubscriptions"].is_array() {
            return Answer::json(call.error(-32601));
        }
        let (sender, body) = wire::stream();
        tokio::spawn(async move {
            sender.bytes("{").await;
            sender.gone().await;
        });
        Answer::of(200, "application/json", body)
    });
    let nexus = gateway().upstream("evil", spec).upstream("good", legacy()).start().await;
    let client = nexus.legacy().await;
    let answer = client.ask("resources/subscribe", json!({"uri": "evil://r"})).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
}

#[tokio::test]
async fn tasks_without_end_are_listed_up_to_a_limit() {
    let pages = Arc::new(AtomicUsize::new(0));
    let looping: fn(&Call, usize) -> String = |call, _| call.response(r#""tasks":[],"nextCursor":"again""#);
    let growing: fn(&Call, usize) -> String =
        |call, page| call.response(&format!(r#""tasks":[{{"taskId":"{page}","status":"working"}}],"nextCursor":"{page}""#));
    for (answer, most) in [(looping, 3), (growing, 51)] {
        let count = Arc::clone(&pages);
        pages.store(0, Ordering::Relaxed);
        let spec = legacy().declares(json!({"tasks": {"list": {}}}));
        let spec = spec.on("tasks/list", move |call| Answer::json(answer(call, count.fetch_add(1, Ordering::Relaxed))));
        let nexus = gateway().upstream("evil", spec).upstream("good", legacy().tool("x")).start().await;
        let listed = soon("the list", nexus.legacy().await.ask("tasks/list", json!({}))).await;
        assert!(listed["result"]["tasks"].as_array().unwrap().len() < most, "{listed}");
        assert!(pages.load(Ordering::Relaxed) < most, "{pages:?} pages");
        nexus.is_unharmed("good__x").await;
    }
}
