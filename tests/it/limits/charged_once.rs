//! A call is charged once, whatever becomes of it on its way.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::Client,
    fake::{Answer, FakeSpec, Held, legacy, modern},
    nexus::{Nexus, gateway},
};

/// Four tokens at each bucket that a call of `up` asks.
async fn start(up: FakeSpec) -> Nexus {
    let four = "limit = 4, interval = \"1h\"";
    let limits = format!("[server.rate_limits]\nglobal = {{ {four} }}\nper_ip = {{ {four} }}\nper_client = {{ {four} }}");
    let up = up.toml("[.rate_limits]\nlimit = 4\ninterval = \"1h\"");
    gateway().server(&limits).mcp("").upstream("up", up).upstream("free", tools("")).start().await
}

/// How many calls more are admitted.
async fn left(client: &Client, tool: &str) -> usize {
    let mut admitted = 0;
    while client.call(tool).await["result"].is_object() {
        admitted += 1;
        assert!(admitted < 20, "nothing is limited");
    }
    admitted
}

fn in_background(client: Client) -> tokio::task::JoinHandle<Value> {
    tokio::spawn(async move { client.ask("tools/call", json!({"name": "up__work", "arguments": {}})).await })
}

async fn held(server: fn() -> FakeSpec) -> (Nexus, Held) {
    let (up, held) = server().tool("work").held("tools/call");
    (start(up).await, held)
}

#[tokio::test]
async fn whoever_hangs_up_during_a_call_has_paid_for_one() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let (nexus, mut held) = held(server).await;
        let calling = in_background(nexus.modern());
        let (_, reply) = held.recv().await.unwrap();
        calling.abort();
        let _ = calling.await;
        let client = nexus.modern();
        assert_eq!(left(&client, "free__work").await, 3, "at the door and for its client");
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 1);
        drop(reply);
    }
}

#[tokio::test]
async fn a_legacy_clients_call_that_goes_on_without_it_is_charged_once() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let (nexus, mut held) = held(server).await;
        // Initialize and its notification are two requests at the door; the one is charged to the client, too.
        let client = nexus.legacy().await;
        let calling = in_background(client.twin());
        let (call, reply) = held.recv().await.unwrap();
        calling.abort();
        let _ = calling.await;
        let _ = reply.send(Answer::json(call.response(r#""resultType":"complete","content":[]"#)));
        assert_eq!(left(&client, "free__work").await, 1);
    }
}
