//! A task is its creator's alone, behind several upstreams and behind a single one.

use super::*;
use crate::support::{
    client::Response,
    fake::{Answer, Call},
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

fn task(id: &str) -> Value {
    json!({"taskId": id, "status": "working", "createdAt": "2026-01-01T00:00:00Z", "ttl": null})
}

fn answer(call: &Call, result: Value) -> Answer {
    Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
}

/// A server that lists everybody's tasks: it takes all who come through the gateway for one.
fn crowded() -> FakeSpec {
    legacy()
        .declares(json!({"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}))
        .tool("work")
        .on("tools/call", |call| answer(call, json!({"task": task(call.params()["arguments"]["id"].as_str().unwrap())})))
        .on("tasks/list", |call| match call.params()["cursor"].as_str() {
            None => answer(call, json!({"tasks": [task("1"), task("2")], "nextCursor": "n"})),
            Some(_) => answer(call, json!({"tasks": [task("3"), task("4")]})),
        })
        .on("tasks/get", |call| answer(call, task(call.params()["taskId"].as_str().unwrap())))
        .on("tasks/cancel", |call| answer(call, task(call.params()["taskId"].as_str().unwrap())))
}

async fn begin(client: &Client, tool: &str, id: &str) -> String {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"id": id}, "task": {"ttl": 60000}})).await;
    answer["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn listed(client: &Client) -> Vec<String> {
    let answer = client.ask("tasks/list", json!({})).await;
    assert_eq!(answer["result"]["nextCursor"], Value::Null);
    let tasks = answer["result"]["tasks"].as_array().unwrap_or_else(|| panic!("{answer}"));
    tasks.iter().map(|task| task["taskId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everybody_lists_own_tasks_only() {
    for (prefix, tool) in [("", "work"), ("up", "up__work")] {
        let nexus = guarded().upstream("old", crowded().toml(&format!("prefix = \"{prefix}\""))).start().await;
        let (ada, eve) = (old(&nexus, "pro").await, old(&nexus, "other_pro").await);
        assert_eq!(listed(&ada).await, [""; 0]);
        assert!(nexus.fake("old").seen_of("tasks/list").is_empty(), "who has none needs no list");
        let (first, last, hers) = (begin(&ada, tool, "1").await, begin(&ada, tool, "4").await, begin(&eve, tool, "2").await);
        assert_eq!(listed(&ada).await, [&*first, &*last]);
        assert_eq!(listed(&eve).await, [hers]);
        // Of the same principal in another session, too.
        assert_eq!(listed(&old(&nexus, "pro").await).await.len(), 2);
        let found = ada.ask("tasks/get", json!({"taskId": first})).await;
        assert_eq!(found["result"]["taskId"], json!(first), "{found}");
    }
}

#[tokio::test]
async fn nobody_elses_task_can_be_looked_at_cancelled_or_waited_for() {
    for (prefix, tool) in [("", "work"), ("up", "up__work")] {
        let nexus = guarded().upstream("old", crowded().toml(&format!("prefix = \"{prefix}\""))).start().await;
        let (ada, eve) = (old(&nexus, "pro").await, old(&nexus, "other_pro").await);
        let hers = begin(&ada, tool, "1").await;
        for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
            // Her id, and the server's own.
            for id in [&*hers, "1"] {
                let (one, other) = (json!({"taskId": id}), json!({"taskId": "absent"}));
                assert_eq!(said(&eve, method, &one, id).await, said(&eve, method, &other, "absent").await, "{method} {id}");
            }
            assert!(nexus.fake("old").seen_of(method).is_empty(), "{method}");
        }
    }
}

async fn open(client: &Client, method: &str, mut params: Value) -> Response {
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"extensions": {EXTENSION: {}}});
    client.open(method, params).await
}

#[tokio::test]
async fn behind_a_single_modern_server_too_a_task_is_its_creators_alone() {
    let found = |call: &Call| {
        let mut result = task(call.params()["taskId"].as_str().unwrap());
        result["resultType"] = "complete".into();
        answer(call, result)
    };
    let spec = modern()
        .declares(json!({"extensions": {EXTENSION: {}}}))
        .tool("work")
        .on("tools/call", |call| {
            let mut result = task("1");
            result["resultType"] = "task".into();
            answer(call, result)
        })
        .on("tasks/get", found)
        .on("tasks/update", found)
        .on("tasks/cancel", found);
    let nexus = guarded().upstream("new", spec.toml("prefix = \"\"")).start().await;
    let (ada, eve) = (new(&nexus, "pro"), new(&nexus, "other_pro"));
    let begun = open(&ada, "tools/call", json!({"name": "work", "arguments": {}})).await.answer().await;
    let hers = begun["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{begun}"));
    assert_eq!(open(&ada, "tasks/get", json!({"taskId": hers})).await.answer().await["result"]["taskId"], hers);
    let before = nexus.fake("new").seen().len();
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        for id in [hers, "1"] {
            let answer = open(&eve, method, json!({"taskId": id, "inputResponses": {}})).await.answer().await;
            assert_eq!(answer["error"]["code"], -32602, "{method} {id}: {answer}");
        }
    }
    assert_eq!(nexus.fake("new").seen().len(), before);
    // Nor does anybody else hear of it.
    let mut stream = open(&eve, "subscriptions/listen", json!({"notifications": {"taskIds": [hers, "1"]}})).await;
    assert_eq!(stream.next().await.unwrap()["params"]["notifications"], json!({}));
    let mut stream = open(&ada, "subscriptions/listen", json!({"notifications": {"taskIds": [hers]}})).await;
    let (id, sender) = nexus.fake("new").subscription("hers", |filter| filter["taskIds"] == json!(["1"])).await;
    assert_eq!(stream.next().await.unwrap()["params"]["notifications"], json!({"taskIds": [hers]}));
    let mut params = task("1");
    params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
    sender.event(json!({"jsonrpc": "2.0", "method": "notifications/tasks", "params": params}).to_string()).await;
    assert_eq!(stream.next().await.unwrap()["params"]["taskId"], hers);
}

#[tokio::test]
async fn a_task_of_a_server_that_is_denied_by_now_is_unknown() {
    let nexus = guarded().upstream("old", crowded()).start().await;
    let ada = old(&nexus, "pro").await;
    let hers = begin(&ada, "old__work", "1").await;
    assert_eq!(listed(&ada).await, std::slice::from_ref(&hers));
    nexus.reload(&nexus.toml.replace("[mcp.servers.old]", "[mcp.servers.old]\ndeny = [\"pro\"]"));
    assert_eq!(listed(&ada).await, [""; 0]);
    let (one, other) = (json!({"taskId": hers}), json!({"taskId": "absent"}));
    assert_eq!(said(&ada, "tasks/get", &one, &hers).await, said(&ada, "tasks/get", &other, "absent").await);
    assert!(nexus.fake("old").seen_of("tasks/get").is_empty());
}
