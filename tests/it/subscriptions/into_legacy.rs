//! Modern clients that listen to a legacy server.

use serde_json::{Value, json};

use super::{listen, said, updated};
use crate::support::{
    child::child,
    fake::{Answer, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
};

async fn start() -> Nexus {
    let up = legacy().get_stream().tool("x").resource("file:///a").resource("file:///b");
    gateway().upstream("up", up).upstream("other", modern()).start().await
}

/// The session that modern clients' subscriptions share. Their calls have others, whose stream is listened to for questions.
async fn listening(nexus: &Nexus) -> String {
    nexus.modern().call("up__x").await;
    let session = |method| nexus.fake("up").last(method).header("mcp-session-id").unwrap().to_owned();
    assert_ne!(session("resources/subscribe"), session("tools/call"));
    session("resources/subscribe")
}

#[tokio::test]
async fn clients_who_listen_share_one_session_and_one_stream_and_hear_what_each_asked_for() {
    let nexus = start().await;
    let (one, two) = (nexus.modern(), nexus.modern());
    let (mut one_hears, honoured) = listen(&one, json!("s"), json!({"resourceSubscriptions": ["file:///a"]})).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///a"]}));
    let (mut two_hears, _) = listen(&two, json!(1), json!({"resourceSubscriptions": ["file:///a", "file:///b"]})).await;
    let session = listening(&nexus).await;
    let up = nexus.fake("up");
    let stream = up.stream_of(&session).await;
    assert!(up.seen_of("resources/subscribe").iter().all(|call| call.header("mcp-session-id") == Some(&*session)));
    stream.event(said("error")).await;
    stream.event(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}).to_string()).await;
    stream.event(updated("file:///b", &Value::Null).to_string()).await;
    stream.event(updated("file:///a", &Value::Null).to_string()).await;
    assert_eq!(one_hears.next().await.unwrap(), updated("file:///a", &json!("s")));
    assert_eq!(two_hears.next().await.unwrap(), updated("file:///b", &json!(1)));
    assert_eq!(two_hears.next().await.unwrap(), updated("file:///a", &json!(1)));
    let gets = || up.seen_of("GET").iter().filter(|call| call.header("mcp-session-id") == Some(&*session)).count();
    assert_eq!(gets(), 1);

    drop(two_hears);
    let ended = up.arrives("the end of a subscription", |call| call.method() == "resources/unsubscribe").await;
    assert_eq!(ended.params()["uri"], "file:///b", "the other is still wanted");
    stream.event(updated("file:///a", &Value::Null).to_string()).await;
    assert_eq!(one_hears.next().await.unwrap(), updated("file:///a", &json!("s")));
    drop(one_hears);
    soon("the end of the server's stream", stream.gone()).await;
    until("the end of the other subscription", || up.seen_of("resources/unsubscribe").len() == 2).await;
    assert_eq!(up.last("resources/unsubscribe").params()["uri"], "file:///a");
}

#[tokio::test]
async fn what_the_server_refuses_is_not_honoured() {
    let spec = legacy().get_stream().resource("file:///a").resource("file:///b").on("resources/subscribe", |call| {
        Answer::json(if call.params()["uri"] == "file:///a" { call.error(-32002) } else { call.response("") })
    });
    let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
    let (_stream, honoured) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///a", "file:///b"]})).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///b"]}));
}

#[tokio::test]
async fn a_question_on_the_shared_stream_is_declined_and_a_ping_answered() {
    let nexus = start().await;
    let (_hears, _) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///a"]})).await;
    let session = listening(&nexus).await;
    let stream = nexus.fake("up").stream_of(&session).await;
    stream.event(json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}).to_string()).await;
    nexus.fake("up").arrives("the refusal", |call| call.json["id"] == "q" && call.json["error"]["code"] == -32601).await;
    stream.event(json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}).to_string()).await;
    nexus.fake("up").arrives("the pong", |call| call.json["id"] == "p" && call.json["result"] == json!({})).await;
}

#[tokio::test]
async fn a_server_that_lost_the_session_is_subscribed_to_again() {
    let nexus = start().await;
    let (mut hears, _) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///a"]})).await;
    let before = listening(&nexus).await;
    let stream = nexus.fake("up").stream_of(&before).await;
    nexus.fake("up").forget_sessions();
    stream.break_off().await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &json!(1)), "what was missed is not known");
    let after = nexus.fake("up").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    assert_ne!(after, before);
    nexus.fake("up").stream_of(&after).await.event(updated("file:///a/x", &Value::Null).to_string()).await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///a/x", &json!(1)));
}

#[tokio::test]
async fn a_childs_update_reaches_the_modern_clients_that_asked_for_it() {
    let kid = child().env("CHILD_RESOURCES", "kid://one kid://two");
    let nexus = gateway().upstream("kid", kid).upstream("other", modern()).start().await;
    let client = nexus.modern();
    let (mut one, _) = listen(&client, json!(1), json!({"resourceSubscriptions": ["kid://one"]})).await;
    let (mut two, _) = listen(&client, json!(2), json!({"resourceSubscriptions": ["kid://two"]})).await;
    for uri in ["kid://two", "kid://one"] {
        client.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": uri}})).await;
    }
    client.ask("tools/call", json!({"name": "kid__later", "arguments": {"say": "secret"}})).await;
    client.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": "kid://one"}})).await;
    for _ in 0..2 {
        assert_eq!(one.next().await.unwrap(), updated("kid://one", &json!(1)), "log messages have no place here");
    }
    assert_eq!(two.next().await.unwrap(), updated("kid://two", &json!(2)));
}

#[tokio::test]
async fn a_single_legacy_upstream_is_listened_to_without_a_prefix_too() {
    let up = legacy().get_stream().tool("x").resource("file:///a").toml("prefix = \"\"");
    let nexus = gateway().upstream("up", up).start().await;
    let found = nexus.modern().ask("server/discover", json!({})).await;
    assert_eq!(found["result"]["capabilities"]["resources"]["subscribe"], true);
    let (mut hears, honoured) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///a"]})).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///a"]}));
    let session = nexus.fake("up").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    nexus.fake("up").stream_of(&session).await.event(updated("file:///a", &Value::Null).to_string()).await;
    assert_eq!(hears.next().await.unwrap(), updated("file:///a", &json!(1)));
}
