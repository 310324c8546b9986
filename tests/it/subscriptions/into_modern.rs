//! Legacy clients that subscribe at a modern server.

use http::StatusCode;
use serde_json::{Value, json};

use super::{asks_for, subscribe, updated};
use crate::support::{
    child::child,
    client::MODERN,
    fake::{Answer, legacy, modern},
    nexus::{Nexus, gateway},
    soon,
};

async fn start() -> Nexus {
    let up = modern().tool("x").resource("file:///a").resource("file:///b").resource("file:///c");
    gateway().upstream("up", up).upstream("other", legacy()).start().await
}

#[tokio::test]
async fn a_legacy_client_hears_of_a_modern_servers_resource_on_its_own_stream() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let answer = client.open_as(json!("s"), "resources/subscribe", json!({"uri": "file:///a"})).await.answer().await;
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "s", "result": {}}));
    let (id, sender) = nexus.fake("up").subscription("the gateway's own subscription", asks_for(&["file:///a"])).await;
    let asked = nexus.fake("up").last("subscriptions/listen");
    let meta = &asked.params()["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"], json!({"name": "test", "version": "1"}));
    assert_eq!((asked.header("mcp-protocol-version"), asked.header("mcp-method")), (Some(MODERN), Some("subscriptions/listen")));
    sender.event(super::said("error")).await;
    sender.event(updated("file:///elsewhere", &id).to_string()).await;
    sender.event(updated("file:///a", &id).to_string()).await;
    let mut expected = updated("file:///a", &Value::Null);
    expected["params"]["_meta"] = json!({});
    assert_eq!(hears.next().await.unwrap(), expected, "without the tag, which no legacy client knows");
    assert!(nexus.fake("up").seen_of("resources/subscribe").is_empty());
}

#[tokio::test]
async fn a_larger_set_is_subscribed_to_before_the_smaller_one_is_given_up() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    subscribe(&client, "file:///a").await;
    let (_, first) = nexus.fake("up").subscription("the first", asks_for(&["file:///a"])).await;
    // The first is open until the second was acknowledged, and the answer comes after that.
    assert_eq!(subscribe(&client, "file:///b").await["result"], json!({}));
    let (id, second) = nexus.fake("up").subscription("the second", asks_for(&["file:///a", "file:///b"])).await;
    soon("the end of the first", first.gone()).await;
    let mut hears = client.get().await;
    second.event(updated("file:///b", &id).to_string()).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "file:///b");
    client.ask("resources/unsubscribe", json!({"uri": "file:///a"})).await;
    let (_, third) = nexus.fake("up").subscription("the third", asks_for(&["file:///b"])).await;
    soon("the end of the second", second.gone()).await;
    client.ask("resources/unsubscribe", json!({"uri": "file:///b"})).await;
    soon("the end of the third", third.gone()).await;
}

#[tokio::test]
async fn what_cannot_be_added_leaves_the_subscription_as_it_is() {
    let spec = modern().resource("file:///a").resource("file:///b");
    let (spec, mut streams) = spec.streamed("subscriptions/listen");
    let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let (asked, answered) = tokio::join!(next_part(&mut streams), subscribe(&client, "file:///a"));
    assert_eq!(answered["result"], json!({}));
    let (refused, answered) = tokio::join!(next_part(&mut streams), subscribe(&client, "file:///b"));
    assert_eq!(answered["error"]["code"], -32002, "{answered}: acknowledged without it");
    soon("the end of the second", refused.1.gone()).await;
    let mut hears = client.get().await;
    asked.1.event(updated("file:///a", &asked.0).to_string()).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "file:///a");
}

/// The next subscription to resources, acknowledged for the first of them only; the gateway's own is let be.
async fn next_part(streams: &mut crate::support::fake::Streams) -> (Value, crate::support::wire::Sender) {
    loop {
        let (call, sender) = soon("a subscription", streams.recv()).await.unwrap();
        let uris = &call.params()["notifications"]["resourceSubscriptions"];
        if uris.is_array() {
            let params = json!({"_meta": {super::TAG: call.id()}, "notifications": {"resourceSubscriptions": [uris[0]]}});
            let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params});
            sender.event(acknowledged.to_string()).await;
            return (call.id().clone(), sender);
        }
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_subscribed_to_again() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    subscribe(&client, "file:///a").await;
    let (_, lost) = nexus.fake("up").subscription("the subscription", asks_for(&["file:///a"])).await;
    nexus.fake("up").go_down();
    soon("its end", lost.gone()).await;
    nexus.fake("up").come_back();
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &Value::Null), "what was missed is not known");
    let (id, sender) = nexus.fake("up").subscription("the subscription again", asks_for(&["file:///a"])).await;
    sender.event(updated("file:///a", &id).to_string()).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "file:///a");
}

#[tokio::test]
async fn the_end_of_the_session_ends_its_subscription() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    subscribe(&client, "file:///a").await;
    let (_, sender) = nexus.fake("up").subscription("the subscription", asks_for(&["file:///a"])).await;
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    soon("its end", sender.gone()).await;
}

#[tokio::test]
async fn one_clients_subscription_is_no_other_clients() {
    let nexus = start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let (mut one_hears, mut two_hears) = (one.get().await, two.get().await);
    subscribe(&one, "file:///a").await;
    subscribe(&two, "file:///b").await;
    // Each of them hears of both from the server.
    for uris in [["file:///a"], ["file:///b"]] {
        let (id, sender) = nexus.fake("up").subscription("a subscription", asks_for(&uris)).await;
        for uri in ["file:///a", "file:///b", "file:///c"] {
            sender.event(updated(uri, &id).to_string()).await;
        }
    }
    for (hears, uri) in [(&mut one_hears, "file:///a"), (&mut two_hears, "file:///b")] {
        assert_eq!(hears.next().await.unwrap()["params"]["uri"], uri);
    }
    nexus.gateway.begin_drain();
    assert_eq!((one_hears.next().await, two_hears.next().await), (None, None), "nothing else had come");
}

#[tokio::test]
async fn a_refusal_is_an_error_that_names_the_upstream() {
    let refuses =
        modern().resource("file:///a").on("subscriptions/listen", |call| Answer::new(404, "application/json", call.error(-32601)));
    let nexus = gateway().upstream("up", refuses).upstream("other", legacy()).start().await;
    let answer = subscribe(&nexus.legacy().await, "file:///a").await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["upstream"]), (&json!(-32603), &json!("up")), "{answer}");
}

#[tokio::test]
async fn a_modern_child_is_followed_for_a_legacy_client() {
    let kid = child().modern().env("CHILD_RESOURCES", "kid://one").toml("isolation = \"shared\"");
    let nexus = gateway().upstream("kid", kid).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    assert_eq!(subscribe(&client, "kid://one").await["result"], json!({}));
    client.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": "kid://one"}})).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "kid://one");
}
