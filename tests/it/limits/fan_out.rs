//! One request of a client that becomes several at upstreams: each of those is charged.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::Client,
    fake::{Answer, Call, FakeSpec, legacy},
    nexus::{GatewaySpec, Nexus, gateway},
    until,
};

const TWO: &str = "[.rate_limits]\nlimit = 2\ninterval = \"1h\"";

fn with_resources(spec: FakeSpec) -> FakeSpec {
    (0..6).fold(spec.get_stream(), |spec, n| spec.resource(&format!("file:///{n}")))
}

fn all() -> Value {
    json!({"notifications": {"resourceSubscriptions": (0..6).map(|n| format!("file:///{n}")).collect::<Vec<_>>()}})
}

fn is_limited(answer: &Value, scope: &str) {
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["scope"]), (&json!(-32000), &json!(scope)), "{answer}");
    assert!(answer["error"]["data"]["retryAfterMs"].as_u64().unwrap() > 0, "{answer}");
}

fn guarded(spec: FakeSpec) -> GatewaySpec {
    gateway().upstream("up", spec).upstream("free", tools(""))
}

#[tokio::test]
async fn each_resource_that_is_listened_to_at_a_legacy_server_is_charged() {
    let nexus = guarded(with_resources(legacy()).toml(TWO)).start().await;
    let client = nexus.modern();
    let mut stream = client.open("subscriptions/listen", all()).await;
    let told = stream.next().await.unwrap();
    assert_eq!(told["method"], "notifications/subscriptions/acknowledged", "{told}");
    let honoured = told["params"]["notifications"]["resourceSubscriptions"].as_array().unwrap().len();
    assert_eq!((honoured, nexus.fake("up").seen_of("resources/subscribe").len()), (2, 2));
    // Hanging up gives nothing back.
    drop(stream);
    until("the end of the subscriptions", || nexus.fake("up").seen_of("resources/unsubscribe").len() == 2).await;
    is_limited(&client.ask("subscriptions/listen", all()).await, "server");
    assert_eq!(nexus.fake("up").seen_of("resources/subscribe").len(), 2);
}

#[tokio::test]
async fn what_one_client_may_counts_what_it_listens_to() {
    let limits = "[server.rate_limits]\nper_client = { limit = 3, interval = \"1h\" }";
    let nexus = guarded(with_resources(legacy())).server(limits).mcp("").start().await;
    let mut stream = nexus.modern().open("subscriptions/listen", all()).await;
    let told = stream.next().await.unwrap();
    assert_eq!(told["params"]["notifications"]["resourceSubscriptions"].as_array().unwrap().len(), 3, "{told}");
    is_limited(&nexus.modern().call("free__work").await, "client");
}

#[tokio::test]
async fn a_server_that_asked_to_wait_is_left_alone_whatever_is_wanted_of_it() {
    let busy = |call: &Call| Answer::new(429, "application/json", call.error(-32050)).header("retry-after", "60");
    let tasks = json!({"tasks": {"list": {}, "cancel": {}}});
    let spec = with_resources(legacy()).tool("busy").declares(tasks).on("tools/call", busy);
    let nexus = guarded(spec).start().await;
    let client = nexus.legacy().await;
    client.call("up__busy").await;
    let before = nexus.fake("up").seen().len();
    is_limited(&nexus.modern().ask("subscriptions/listen", all()).await, "upstream");
    is_limited(&client.ask("tasks/list", json!({})).await, "upstream");
    is_limited(&client.ask("logging/setLevel", json!({"level": "debug"})).await, "upstream");
    assert_eq!(client.notify("notifications/roots/list_changed", json!({})).await, StatusCode::ACCEPTED);
    let after: Vec<String> = nexus.fake("up").seen().into_iter().skip(before).map(|call| call.method().to_owned()).collect();
    assert!(after.iter().all(String::is_empty), "a stream may be opened, but nothing is asked: {after:?}");
}

#[tokio::test]
async fn each_page_of_a_list_of_tasks_is_charged() {
    let endless = |call: &Call| {
        let next = call.params()["cursor"].as_str().map_or(0, |cursor| cursor.parse::<u32>().unwrap()) + 1;
        Answer::json(call.response(&format!(r#""tasks":[],"nextCursor":"{next}""#)))
    };
    let spec = legacy().tool("work").declares(json!({"tasks": {"list": {}}})).on("tasks/list", endless).toml(TWO);
    let nexus = guarded(spec).start().await;
    let client = nexus.legacy().await;
    is_limited(&client.ask("tasks/list", json!({})).await, "server");
    assert_eq!(nexus.fake("up").seen_of("tasks/list").len(), 2);
    is_limited(&client.ask("tasks/list", json!({})).await, "server");
    assert_eq!(nexus.fake("up").seen_of("tasks/list").len(), 2);
}

#[tokio::test]
async fn a_log_level_and_a_change_of_roots_are_charged_where_they_go() {
    let limit = "[.rate_limits]\nlimit = 4\ninterval = \"1h\"";
    let spec = legacy().tool("work").declares(json!({"logging": {}})).toml(limit);
    let nexus = guarded(spec).start().await;
    let client = nexus.legacy().await;
    client.call("up__work").await;
    assert_eq!(client.ask("logging/setLevel", json!({"level": "debug"})).await["result"], json!({}));
    for _ in 0..5 {
        client.notify("notifications/roots/list_changed", json!({})).await;
    }
    let heard = || nexus.fake("up").seen_of("notifications/roots/list_changed").len();
    assert_eq!(heard(), 2);
    is_limited(&client.ask("logging/setLevel", json!({"level": "info"})).await, "server");
    assert_eq!(nexus.fake("up").seen_of("logging/setLevel").len(), 1);
}

#[tokio::test]
async fn each_notification_of_a_batch_goes_through_the_door() {
    let limits = "[server.rate_limits]\nglobal = { limit = 4, interval = \"1h\" }";
    let nexus = guarded(legacy().tool("work")).server(limits).mcp("").start().await;
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
    let greeted = client.open("initialize", params).await;
    let session = greeted.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = client.header("mcp-session-id", &session);
    client.call("up__work").await;
    let change = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let batch: Vec<Value> = std::iter::repeat_n(change, 50).collect();
    assert_eq!(client.post(Value::from(batch).to_string()).await.status, StatusCode::ACCEPTED);
    assert_eq!(nexus.fake("up").seen_of("notifications/roots/list_changed").len(), 2, "the batch's own way in, and one more");
}

/// A call costs a token, however often it has to be sent.
#[tokio::test]
async fn a_call_that_is_made_again_is_charged_once() {
    let spec = |limit: u32| legacy().tool("work").toml(&format!("[.rate_limits]\nlimit = {limit}\ninterval = \"1h\""));
    let nexus: Nexus = guarded(spec(3)).start().await;
    let client = nexus.legacy().await;
    let mut admitted = 0;
    for _ in 0..6 {
        nexus.fake("up").forget_sessions();
        admitted += usize::from(client.call("up__work").await["result"].is_object());
    }
    assert_eq!(admitted, 3);
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 5, "all but the first were refused before, and made again");
}

/// What becomes several requests is admitted whole, or costs nobody anything.
#[tokio::test]
async fn what_one_of_several_servers_refuses_costs_the_others_nothing() {
    let limit = |limit: u32| format!("[.rate_limits]\nlimit = {limit}\ninterval = \"1h\"");
    let spec = |limits: String| {
        let tasks = json!({"tasks": {"list": {}, "cancel": {}}, "logging": {}});
        legacy().get_stream().tool("work").declares(tasks).toml(&limits)
    };
    let per_client = "[server.rate_limits]\nper_client = { limit = 8, interval = \"1h\" }";
    for (method, params) in [
        ("logging/setLevel", json!({"level": "debug"})),
        ("tasks/list", json!({})),
        ("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": ["file:///rich", "file:///poor"]}})),
    ] {
        let (rich, poor) = (spec(limit(3)).resource("file:///rich"), spec(limit(1)).resource("file:///poor"));
        let nexus = gateway().server(per_client).mcp("").upstream("a", rich).upstream("b", poor).start().await;
        let client = if method == "subscriptions/listen" { nexus.modern() } else { nexus.legacy().await };
        // Each has a session for this client then, and the second no token.
        assert!(client.call("a__work").await["result"].is_object() && client.call("b__work").await["result"].is_object());
        for _ in 0..5 {
            is_limited(&client.ask(method, params.clone()).await, "server");
        }
        assert_eq!((nexus.fake("a").seen_of(method).len(), nexus.fake("b").seen_of(method).len()), (0, 0), "{method}");
        let mut left = 0;
        while client.call("a__work").await["result"].is_object() {
            left += 1;
        }
        assert_eq!(left, 2, "{method} has taken nothing of three");
    }
}
