//! A client's stream is at one replica; what servers say in its session comes there, whoever the client speaks to.

use serde_json::{Value, json};

use super::{Pair, works};
use crate::support::{
    fake::{Fake, legacy, modern},
    soon, until,
};

fn updated(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
}

fn session_of(crm: &Fake) -> String {
    crm.last("tools/call").header("mcp-session-id").unwrap().to_owned()
}

#[tokio::test]
async fn what_a_server_says_in_a_session_that_another_replica_opened_reaches_the_clients_stream() {
    let pair = Pair::start(legacy().get_stream().tool("work")).await;
    let client = pair.client().await;
    let mut stream = client.get().await;
    works(&pair.moved(&client).call("crm__work").await);
    let session = session_of(pair.crm());
    pair.crm().stream_of(&session).await.event(updated("file:///a").to_string()).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///a"));
    assert_eq!(pair.opened(), 1);
}

#[tokio::test]
async fn a_stream_that_is_opened_elsewhere_later_brings_what_the_session_has() {
    let pair = Pair::start(legacy().get_stream().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let session = session_of(pair.crm());
    let mut stream = pair.moved(&client).get().await;
    pair.crm().stream_of(&session).await.event(updated("file:///a").to_string()).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///a"));
}

#[tokio::test]
async fn a_client_has_one_stream_and_the_last_one_counts_wherever_it_is() {
    let pair = Pair::start(legacy().get_stream().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let mut first = client.get().await;
    let session = session_of(pair.crm());
    let upstream = pair.crm().stream_of(&session).await;
    let mut second = pair.moved(&client).get().await;
    assert_eq!(first.next().await, None);
    soon("the end of the first stream upstream", upstream.gone()).await;
    pair.crm().stream_of(&session).await.event(updated("file:///a").to_string()).await;
    assert_eq!(second.next().await.unwrap(), updated("file:///a"));
}

#[tokio::test]
async fn a_question_outside_of_any_call_is_answered_through_any_replica() {
    let pair = Pair::start(legacy().get_stream().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let mut stream = client.get().await;
    let session = session_of(pair.crm());
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
    pair.crm().stream_of(&session).await.event(question.to_string()).await;
    let asked = stream.next().await.unwrap();
    pair.moved(&client).reply(&asked["id"], json!({"roots": []})).await;
    let answer = pair.crm().arrives("the answer", |call| call.json["result"]["roots"].is_array()).await;
    assert_eq!(answer.id(), "q");
}

#[tokio::test]
async fn a_subscription_at_one_replica_reaches_the_stream_at_another() {
    let pair = Pair::start(legacy().get_stream().tool("work").resource("file:///a")).await;
    let client = pair.client().await;
    let mut stream = client.get().await;
    let moved = pair.moved(&client);
    assert!(moved.ask("resources/subscribe", json!({"uri": "file:///a"})).await["result"].is_object());
    let subscribed = pair.crm().arrives("the subscription", |call| call.method() == "resources/subscribe").await;
    let session = subscribed.header("mcp-session-id").unwrap().to_owned();
    pair.crm().stream_of(&session).await.event(updated("file:///a").to_string()).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///a"));
}

#[tokio::test]
async fn a_subscription_at_a_modern_server_follows_the_clients_stream() {
    let pair = Pair::start(modern().tool("work").resource("file:///a").resource("file:///b")).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    assert!(moved.ask("resources/subscribe", json!({"uri": "file:///a"})).await["result"].is_object());
    let mut stream = client.get().await;
    assert!(moved.ask("resources/subscribe", json!({"uri": "file:///b"})).await["result"].is_object());
    // Both replicas listen for both.
    let listens = || {
        pair.crm()
            .seen_of("subscriptions/listen")
            .iter()
            .filter(|call| call.params()["notifications"]["resourceSubscriptions"] == json!(["file:///a", "file:///b"]))
            .count()
    };
    until("both replicas' subscriptions", || listens() >= 2).await;
    assert!(moved.ask("resources/unsubscribe", json!({"uri": "file:///a"})).await["result"].is_object());
    let fewer = || {
        pair.crm()
            .seen_of("subscriptions/listen")
            .iter()
            .filter(|call| call.params()["notifications"]["resourceSubscriptions"] == json!(["file:///b"]))
            .count()
    };
    until("both replicas' fewer subscriptions", || fewer() >= 2).await;
    drop(stream.next_bytes());
}
