//! Legacy clients and legacy servers.

use serde_json::json;

use super::{subscribe, updated};
use crate::support::{
    child::child,
    client::text,
    fake::{Answer, legacy},
    nexus::{Nexus, gateway},
    until,
};

async fn two() -> Nexus {
    let a = legacy().get_stream().tool("x").resource("file:///a");
    gateway().upstream("a", a).upstream("b", legacy().get_stream().tool("y").resource("file:///b")).start().await
}

#[tokio::test]
async fn a_subscription_goes_to_the_owner_in_the_clients_own_session() {
    let nexus = two().await;
    let client = nexus.legacy().await;
    let answer = client.open_as(json!("sub"), "resources/subscribe", json!({"uri": "file:///b", "x": 1.0})).await.answer().await;
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": "sub", "result": {}}));
    client.call("b__y").await;
    let b = nexus.fake("b");
    let arrived = b.last("resources/subscribe");
    assert_eq!(arrived.header("mcp-session-id"), b.last("tools/call").header("mcp-session-id"));
    assert!(arrived.text().contains(r#""uri":"file:///b""#) && arrived.text().contains(r#""x":1.0"#), "{}", arrived.text());
    client.ask("resources/unsubscribe", json!({"uri": "file:///b"})).await;
    assert_eq!(b.last("resources/unsubscribe").params()["uri"], "file:///b");
    assert!(nexus.fake("a").seen_of("resources/subscribe").is_empty() && nexus.fake("a").seen_of("resources/unsubscribe").is_empty());
    assert_eq!(subscribe(&client, "nowhere://x").await["error"]["code"], -32002);
}

#[tokio::test]
async fn a_servers_refusal_is_the_clients_answer() {
    let spec = legacy().resource("file:///a").on("resources/subscribe", |call| Answer::json(call.error(-32099)));
    let nexus = gateway().upstream("a", spec).upstream("b", legacy()).start().await;
    let client = nexus.legacy().await;
    let answer = client.open_as(json!(5), "resources/subscribe", json!({"uri": "file:///a"})).await.answer().await;
    let error = json!({"code": -32099, "message": "no", "data": {"kept": 1}});
    assert_eq!((&answer["id"], &answer["error"]), (&json!(5), &error));
    nexus.fake("a").forget_sessions();
    client.ask("resources/read", json!({"uri": "file:///a"})).await;
    assert_eq!(nexus.fake("a").seen_of("resources/subscribe").len(), 1, "a refused subscription is not remembered");
}

#[tokio::test]
async fn what_a_session_followed_is_subscribed_again_in_the_next_one() {
    let nexus = two().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    for uri in ["file:///a", "file:///a/gone"] {
        assert_eq!(subscribe(&client, uri).await["result"].is_object(), uri == "file:///a");
    }
    let a = nexus.fake("a");
    let before = a.last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    a.forget_sessions();
    assert_eq!(text(&client.call("a__x").await), "a:x");
    let again = a
        .arrives("the subscription in the new session", |call| {
            call.method() == "resources/subscribe" && call.header("mcp-session-id") != Some(&*before)
        })
        .await;
    assert_eq!(again.params()["uri"], "file:///a");
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &json!(null)), "what was missed is not known");
    let session = again.header("mcp-session-id").unwrap();
    a.stream_of(session).await.event(updated("file:///a", &json!(null)).to_string()).await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &json!(null)));
}

#[tokio::test]
async fn a_server_that_lost_the_session_is_asked_again_before_the_client_says_anything() {
    let nexus = two().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    subscribe(&client, "file:///a").await;
    let a = nexus.fake("a");
    let session = a.last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    let stream = a.stream_of(&session).await;
    a.forget_sessions();
    stream.break_off().await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &json!(null)));
    assert_ne!(a.last("resources/subscribe").header("mcp-session-id"), Some(&*session));
}

#[tokio::test]
async fn of_those_who_share_a_process_only_the_subscribers_hear_of_a_resource() {
    let kid = child().env("CHILD_RESOURCES", "kid://one kid://two");
    let nexus = gateway().upstream("kid", kid).upstream("other", legacy()).start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let (mut one_hears, mut two_hears) = (one.get().await, two.get().await);
    for (client, uri) in [(&one, "kid://one"), (&two, "kid://two"), (&two, "kid://one"), (&one, "kid://two")] {
        assert_eq!(subscribe(client, uri).await["result"], json!({}));
    }
    one.ask("resources/unsubscribe", json!({"uri": "kid://two"})).await;
    two.ask("resources/unsubscribe", json!({"uri": "kid://one"})).await;
    assert!(nexus.notes("kid").of("resources/unsubscribe").is_empty(), "somebody else still wants either");
    assert_eq!(nexus.notes("kid").pids().len(), 4, "the gateway's own process and the one that both share");
    for uri in ["kid://one", "kid://two"] {
        one.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": uri}})).await;
    }
    assert_eq!(two_hears.next().await.unwrap(), updated("kid://two", &json!(null)));
    assert_eq!(one_hears.next().await.unwrap(), updated("kid://one", &json!(null)));
    two.ask("resources/unsubscribe", json!({"uri": "kid://two"})).await;
    assert_eq!(nexus.notes("kid").arrives("resources/unsubscribe").await["params"]["uri"], "kid://two");
}

#[tokio::test]
async fn a_child_that_died_is_started_and_subscribed_again() {
    let kid = child().env("CHILD_RESOURCES", "kid://one");
    let nexus = gateway().upstream("kid", kid).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    subscribe(&client, "kid://one").await;
    client.call("kid__die").await;
    until("another subscription", || nexus.notes("kid").of("resources/subscribe").len() == 2).await;
    assert_eq!(hears.next().await.unwrap(), updated("kid://one", &json!(null)));
}
