//! Who hears of which resource, in all four pairs of eras.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod fan_in;
mod into_legacy;
mod into_modern;
mod legacy;

use serde_json::{Value, json};

use crate::support::client::{Client, Response};

const TAG: &str = "io.modelcontextprotocol/subscriptionId";

/// An update as a server says it, under a subscription's tag if there is one.
fn updated(uri: &str, tag: &Value) -> Value {
    let mut message = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
    if !tag.is_null() {
        message["params"]["_meta"] = json!({ TAG: tag });
    }
    message
}

fn said(level: &str) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": "said"}}).to_string()
}

/// Listens and gives the stream with what is honoured.
async fn listen(client: &Client, id: Value, filter: Value) -> (Response, Value) {
    let mut stream = client.open_as(id.clone(), "subscriptions/listen", json!({"notifications": filter})).await;
    let mut first = stream.next().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "the acknowledgement is the first message");
    assert_eq!(first["params"]["_meta"], json!({ TAG: id }));
    (stream, first["params"]["notifications"].take())
}

async fn subscribe(client: &Client, uri: &str) -> Value {
    client.ask("resources/subscribe", json!({"uri": uri})).await
}

fn asks_for<'a>(uris: &'a [&'a str]) -> impl Fn(&Value) -> bool + 'a {
    move |filter| filter["resourceSubscriptions"] == json!(uris)
}
