//! Who may stop a call, how the upstream is told, and how long it may take.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::advance};

use crate::support::{
    StillTime,
    child::child,
    client::Client,
    fake::{Answer, Call, FakeSpec, Held, Streams, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
};

const CANCELLED: &str = "notifications/cancelled";

async fn held(server: fn() -> FakeSpec, toml: &str) -> (Nexus, Held) {
    let (spec, held) = server().tool("work").toml(toml).held("tools/call");
    (gateway().upstream("up", spec).upstream("other", legacy().tool("x")).start().await, held)
}

async fn streamed(server: fn() -> FakeSpec, toml: &str) -> (Nexus, Streams) {
    let (spec, streams) = server().tool("work").toml(toml).streamed("tools/call");
    (gateway().upstream("up", spec).upstream("other", legacy().tool("x")).mcp("call_timeout_max = \"5s\"").start().await, streams)
}

/// Sends a call in a task of its own; aborting that hangs up.
fn in_background(client: Client, id: Value) -> JoinHandle<(Client, Value)> {
    tokio::spawn(async move {
        let answer = client.open_as(id, "tools/call", json!({"name": "up__work"})).await.answer().await;
        (client, answer)
    })
}

fn cancelled(nexus: &Nexus) -> Vec<Call> {
    nexus.fake("up").seen_of(CANCELLED)
}

#[tokio::test]
async fn a_legacy_clients_cancellation_names_the_upstreams_own_id() {
    let (nexus, mut streams) = streamed(legacy, "").await;
    let client = nexus.legacy().await;
    let _others = [client.open_as(json!("other"), "tools/call", json!({"name": "up__work"})).await];
    streams.recv().await.unwrap();
    let _response = client.open_as(json!("mine"), "tools/call", json!({"name": "up__work"})).await;
    let (call, _stream) = streams.recv().await.unwrap();
    client.notify(CANCELLED, json!({"requestId": "mine", "reason": "enough", "z": 1})).await;
    let told = nexus.fake("up").arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!(told.params(), &json!({"requestId": call.id(), "reason": "enough", "z": 1}));
    assert_eq!(told.header("mcp-session-id"), call.header("mcp-session-id"));
}

#[tokio::test]
async fn a_cancellation_that_fits_no_call_of_this_session_goes_nowhere() {
    let (nexus, mut held) = held(legacy, "").await;
    let (victim, other) = (nexus.legacy().await, nexus.legacy().await);
    let calling = in_background(victim, json!(7));
    let (call, reply) = held.recv().await.unwrap();
    for id in [json!(7), call.id().clone(), json!("7"), Value::Null, json!([7])] {
        other.notify(CANCELLED, json!({"requestId": id})).await;
    }
    other.notify(CANCELLED, json!({})).await;
    let _ = reply.send(Answer::json(call.response(r#""content":[]"#)));
    let (victim, answer) = calling.await.unwrap();
    assert!(answer["result"].is_object());
    victim.notify(CANCELLED, json!({"requestId": 7})).await;
    assert!(cancelled(&nexus).is_empty(), "the call had ended");
}

#[tokio::test]
async fn a_cancellation_that_could_mean_two_calls_is_ignored() {
    let (nexus, mut streams) = streamed(legacy, "").await;
    let client = nexus.legacy().await;
    let _open = [
        client.open_as(json!(1), "tools/call", json!({"name": "up__work"})).await,
        client.open_as(json!(1), "tools/call", json!({"name": "up__work"})).await,
    ];
    let (_first, _second) = (streams.recv().await.unwrap(), streams.recv().await.unwrap());
    client.notify(CANCELLED, json!({"requestId": 1})).await;
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
    assert!(cancelled(&nexus).is_empty());
}

#[tokio::test]
async fn a_legacy_clients_cancellation_closes_a_modern_exchange() {
    let (nexus, mut streams) = streamed(modern, "").await;
    let client = nexus.legacy().await;
    let mut response = client.open_as(json!(1), "tools/call", json!({"name": "up__work"})).await;
    let (_, stream) = streams.recv().await.unwrap();
    client.notify(CANCELLED, json!({"requestId": 1})).await;
    soon("the end of the upstream's exchange", stream.gone()).await;
    assert_eq!(response.next().await, None, "a cancelled call is not answered");
    assert!(cancelled(&nexus).is_empty(), "2026-07-28 over HTTP has no such notification");
}

#[tokio::test]
async fn a_legacy_clients_cancellation_closes_a_modern_exchange_that_is_not_answered_yet() {
    let (nexus, mut held) = held(modern, "").await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let calling = tokio::spawn(async move { twin.open_as(json!(1), "tools/call", json!({"name": "up__work"})).await.texts().await });
    let (_, mut reply) = held.recv().await.unwrap();
    client.notify(CANCELLED, json!({"requestId": 1})).await;
    soon("the end of the upstream's exchange", reply.closed()).await;
    assert_eq!(soon("the end of the call", calling).await.unwrap(), [""; 0], "a cancelled call is not answered");
}

#[tokio::test]
async fn a_modern_client_that_hangs_up_closes_the_modern_exchange() {
    let (nexus, mut streams) = streamed(modern, "").await;
    let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
    let (_, stream) = streams.recv().await.unwrap();
    drop(response);
    soon("the end of the upstream's stream", stream.gone()).await;

    let (nexus, mut held) = held(modern, "").await;
    let calling = in_background(nexus.modern(), json!(1));
    let (_, mut reply) = held.recv().await.unwrap();
    calling.abort();
    soon("the end of the upstream's exchange", reply.closed()).await;
}

#[tokio::test]
async fn a_modern_client_that_hangs_up_cancels_the_call_of_a_legacy_server() {
    let (nexus, mut streams) = streamed(legacy, "").await;
    let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
    let (call, _stream) = streams.recv().await.unwrap();
    drop(response);
    let told = nexus.fake("up").arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!((&told.params()["requestId"], told.header("mcp-session-id")), (call.id(), call.header("mcp-session-id")));

    let (nexus, mut held) = held(legacy, "").await;
    let calling = in_background(nexus.modern(), json!(1));
    let (call, _reply) = held.recv().await.unwrap();
    calling.abort();
    let told = nexus.fake("up").arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!(told.params()["requestId"], *call.id());
}

#[tokio::test]
async fn a_modern_client_that_hangs_up_cancels_the_call_of_a_child() {
    for spec in [child(), child().modern()] {
        let nexus = gateway().upstream("kid", spec).upstream("other", legacy()).start().await;
        let client = nexus.modern();
        let calling = tokio::spawn(async move { client.call("kid__hang").await });
        let call = nexus.notes("kid").arrives("tools/call").await;
        calling.abort();
        assert_eq!(nexus.notes("kid").arrives(CANCELLED).await["params"]["requestId"], call["id"]);
    }
}

#[tokio::test]
async fn a_legacy_clients_cancellation_reaches_a_child_and_ends_the_wait_for_it() {
    for spec in [child(), child().modern()] {
        let nexus = gateway().upstream("kid", spec).upstream("other", legacy()).start().await;
        let client = nexus.legacy().await;
        for (n, id) in ["c", "d"].into_iter().enumerate() {
            let twin = client.twin();
            let calling =
                tokio::spawn(async move { twin.open_as(json!(id), "tools/call", json!({"name": "kid__hang"})).await.texts().await });
            until("the call", || nexus.notes("kid").of("tools/call").len() == 2 * n + 1).await;
            client.notify(CANCELLED, json!({"requestId": id})).await;
            assert_eq!(soon("the end of the wait", calling).await.unwrap(), [""; 0], "a cancelled call is not answered");
            // Whatever the child is told on top of it comes before the answer to a later call.
            assert!(client.call("kid__echo").await["result"].is_object());
            let told: Vec<_> = nexus.notes("kid").of(CANCELLED).iter().map(|told| told["params"]["requestId"].clone()).collect();
            let calls = nexus.notes("kid").of("tools/call");
            assert_eq!((told.len(), &told[n]), (n + 1, &calls[2 * n]["id"]), "told once");
        }
    }
}

#[tokio::test]
async fn a_legacy_client_that_hangs_up_has_not_cancelled() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let complete = |call: &Call| call.response(r#""resultType":"complete","content":[]"#);
        // In the middle of a stream,
        let (nexus, mut streams) = streamed(server, "").await;
        let client = nexus.legacy().await;
        let response = client.open("tools/call", json!({"name": "up__work"})).await;
        let (call, stream) = streams.recv().await.unwrap();
        drop(response);
        client.ask("ping", json!({})).await;
        for progress in 0..30 {
            assert!(stream.event(call.progress(progress)).await, "the exchange goes on");
        }
        stream.event(complete(&call)).await;
        soon("the end that the answer brings", stream.gone()).await;
        assert!(cancelled(&nexus).is_empty());

        // and while the upstream has said nothing yet.
        let (nexus, mut held) = held(server, "").await;
        let client = nexus.legacy().await;
        let twin = client.twin();
        let calling = in_background(twin, json!(1));
        let (call, mut reply) = held.recv().await.unwrap();
        calling.abort();
        let _ = calling.await;
        for _ in 0..20 {
            client.ask("ping", json!({})).await;
        }
        let gone = futures_util::FutureExt::now_or_never(reply.closed());
        assert!(gone.is_none(), "the exchange goes on");
        assert!(reply.send(Answer::json(complete(&call))).is_ok());
        client.ask("ping", json!({})).await;
        assert!(cancelled(&nexus).is_empty());
    }
}

#[tokio::test]
async fn a_legacy_client_that_hangs_up_has_not_cancelled_the_call_of_a_child() {
    let nexus = gateway().upstream("kid", child()).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let calling = tokio::spawn(async move { twin.call("kid__hang").await });
    nexus.notes("kid").arrives("tools/call").await;
    calling.abort();
    let _ = calling.await;
    for _ in 0..20 {
        client.call("kid__echo").await;
    }
    assert!(nexus.notes("kid").of(CANCELLED).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_time_out_and_the_server_is_told() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let (nexus, mut held) = held(server, "call_timeout = \"3s\"").await;
        for client in [nexus.legacy().await, nexus.modern()] {
            let began = tokio::time::Instant::now();
            let answer = client.call("up__work").await;
            assert_eq!(answer["error"]["data"]["reason"], "call_timeout", "{answer}");
            assert!((3..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
            let (call, mut reply) = held.recv().await.unwrap();
            soon("the end of the exchange", reply.closed()).await;
            if call.header("mcp-session-id").is_some() {
                nexus.fake("up").arrives("the cancellation", |told| told.params()["requestId"] == *call.id()).await;
            }
        }
    }
}

#[tokio::test]
async fn progress_moves_the_time_out_but_not_the_last_one() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        for is_modern in [false, true] {
            let (nexus, mut streams) = streamed(server, "call_timeout = \"3s\"").await;
            let client = if is_modern { nexus.modern() } else { nexus.legacy().await };
            let mut response = client.open("tools/call", json!({"name": "up__work", "_meta": {"progressToken": 1}})).await;
            let _still = StillTime::begin();
            let (call, stream) = streams.recv().await.unwrap();
            for progress in 1..=2 {
                advance(Duration::from_secs(2)).await;
                stream.event(call.progress(progress)).await;
                let message = response.next().await.unwrap();
                assert_eq!(message["params"]["progress"], progress, "{message}");
            }
            // Two seconds since the last progress, six since the start: call_timeout_max is five.
            advance(Duration::from_secs(2)).await;
            let answer = response.next().await.unwrap();
            assert_eq!(answer["error"]["data"]["reason"], "call_timeout", "{answer}");
            soon("the end of the exchange", stream.gone()).await;
            if call.header("mcp-session-id").is_some() {
                nexus.fake("up").arrives("the cancellation", |told| told.params()["requestId"] == *call.id()).await;
            }
            tokio::time::resume();
        }
    }
}

#[tokio::test]
async fn a_child_that_does_not_answer_is_told_at_the_time_out() {
    let spec = child().toml("call_timeout = \"1s\"");
    let nexus = gateway().upstream("kid", spec).upstream("other", legacy()).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        // Its start counts too, so that comes first.
        while client.call("kid__echo").await["result"].is_null() {}
        assert_eq!(client.call("kid__hang").await["error"]["data"]["reason"], "call_timeout");
    }
    until("both cancellations", || nexus.notes("kid").of(CANCELLED).len() == 2).await;
    let ids = |method: &str, pointer: &str| -> Vec<Value> {
        nexus.notes("kid").of(method).iter().map(|line| line.pointer(pointer).unwrap().clone()).collect()
    };
    let calls = ids("tools/call", "/id");
    assert!(ids(CANCELLED, "/params/requestId").iter().all(|id| calls.contains(id)));
}

/// Begins calls in a session, waits for them upstream, and hangs up.
async fn abandon(nexus: &Nexus, client: &Client, count: usize) {
    let notes = nexus.notes("kid");
    for batch in (0..count).collect::<Vec<_>>().chunks(100) {
        let before = notes.of("tools/call").len();
        let calls: Vec<_> = batch
            .iter()
            .map(|id| {
                let (client, id) = (client.twin(), json!(id));
                tokio::spawn(async move { client.open_as(id, "tools/call", json!({"name": "kid__hang"})).await })
            })
            .collect();
        until("the calls' arrival", || notes.of("tools/call").len() >= before + batch.len()).await;
        calls.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test]
async fn a_thousand_calls_outlive_their_connections_and_no_client_has_more_than_a_quarter_of_them() {
    const OF_ONE: usize = 250;
    let nexus = gateway().upstream("kid", child()).start().await;
    let notes = nexus.notes("kid");
    let mut clients = Vec::new();
    for n in 0..4 {
        let client = nexus.legacy().await;
        abandon(&nexus, &client, OF_ONE).await;
        assert_eq!(notes.of(CANCELLED).len(), usize::from(n > 0), "there is room for each client");
        if n == 0 {
            abandon(&nexus, &client, 1).await;
            until("the end of one too many", || notes.of(CANCELLED).len() == 1).await;
        }
        clients.push(client);
    }
    let last = nexus.legacy().await;
    abandon(&nexus, &last, 1).await;
    until("the end of one too many of all", || notes.of(CANCELLED).len() == 2).await;
    assert!(last.call("kid__echo").await["result"].is_object(), "the session goes on");
    for client in &clients {
        assert_eq!(client.delete().await, http::StatusCode::NO_CONTENT);
    }
    until("the end of the others with their sessions", || notes.of(CANCELLED).len() == 4 * OF_ONE + 2).await;
}
