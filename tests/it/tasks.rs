//! Tasks of several servers under ids that name one task each, in the era of their own.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    StillTime,
    client::{Client, Response},
    fake::{Answer, Call, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    pass, soon,
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const RELATED: &str = "io.modelcontextprotocol/related-task";

fn working(id: &str) -> Value {
    json!({"taskId": id, "status": "working", "createdAt": "2026-01-01T00:00:00Z", "ttl": 1.0, "more": {"taskId": "not an id"}})
}

/// A legacy server that gives every task the id `1`.
fn old() -> FakeSpec {
    let task = |call: &Call| {
        let known = call.params()["taskId"] == "1";
        Answer::json(if known {
            json!({"jsonrpc": "2.0", "id": call.id(), "result": working("1")}).to_string()
        } else {
            call.error(-32602)
        })
    };
    legacy()
        .declares(json!({"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}))
        .tool("work")
        .get_stream()
        .on("tools/call", |call| {
            assert_eq!(call.params()["task"], json!({"ttl": 60000}));
            Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": {"task": working("1")}}).to_string())
        })
        .on("tasks/get", task)
        .on("tasks/cancel", task)
        .on("tasks/list", |call| {
            // Two pages.
            let result = match call.params()["cursor"].as_str() {
                None => json!({"tasks": [working("1")], "nextCursor": "n"}),
                Some(_) => json!({"tasks": [working("2"), {"status": "nameless"}]}),
            };
            Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
        })
}

async fn two_old() -> Nexus {
    gateway().upstream("a", old()).upstream("b", old()).start().await
}

/// Begins a task and gives its id.
async fn begin(client: &Client, tool: &str) -> String {
    let answer = client.ask("tools/call", json!({"name": tool, "task": {"ttl": 60000}})).await;
    let task = &answer["result"]["task"];
    assert_eq!((&task["status"], &task["more"]["taskId"]), (&json!("working"), &json!("not an id")), "{answer}");
    task["taskId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_legacy_task_finds_its_server_though_another_has_one_of_the_same_id() {
    let nexus = two_old().await;
    let client = nexus.legacy().await;
    let (of_a, of_b) = (begin(&client, "a__work").await, begin(&client, "b__work").await);
    assert_ne!(of_a, of_b);
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = client.ask(method, json!({"taskId": of_b})).await;
        assert_eq!(answer["result"]["taskId"], json!(of_b), "{answer}");
        assert_eq!(nexus.fake("b").last(method).params()["taskId"], "1");
        assert!(nexus.fake("a").seen_of(method).is_empty());
    }
}

#[tokio::test]
async fn the_tasks_of_all_legacy_servers_are_one_list() {
    let broken = old().on("tasks/list", |call| Answer::json(call.error(-32603)));
    let nexus = gateway().upstream("a", old()).upstream("broken", broken).upstream("b", old()).upstream("plain", legacy()).start().await;
    let client = nexus.legacy().await;
    let (of_a, of_b) = (begin(&client, "a__work").await, begin(&client, "b__work").await);
    let answer = client.ask("tasks/list", json!({})).await;
    let ids: Vec<_> =
        answer["result"]["tasks"].as_array().unwrap().iter().map(|task| task["taskId"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), &ids[0], &ids[2]), (4, &of_a, &of_b), "{answer}");
    assert_eq!(client.ask("tasks/get", json!({"taskId": ids[1]})).await["error"]["code"], -32602, "the server's own answer");
    assert_eq!(nexus.fake("a").last("tasks/get").params()["taskId"], "2");
    assert!(nexus.fake("plain").seen_of("tasks/list").is_empty());
    assert_eq!(client.ask("tasks/list", json!({"cursor": "n"})).await["error"]["code"], -32602);
}

#[tokio::test]
async fn a_task_that_was_not_shown_to_the_caller_looks_unknown() {
    let nexus = two_old().await;
    let client = nexus.legacy().await;
    let shown = begin(&client, "a__work").await;
    let (digest, rest) = shown.split_once('.').unwrap();
    let guesses = ["1".to_owned(), "a:1".to_owned(), format!("{digest}.b:1"), format!("{digest}.a:2"), format!("A{}.{rest}", &digest[1..])];
    for guess in guesses.into_iter().chain([String::new()]).filter(|guess| *guess != shown) {
        for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
            let answer = client.ask(method, json!({"taskId": guess})).await;
            assert_eq!(answer["error"]["code"], -32602, "{guess}: {answer}");
        }
    }
    // A legacy task does not exist for a modern client.
    let capabilities = json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}});
    let answer = nexus.modern().ask("tasks/get", json!({"taskId": shown, "_meta": capabilities})).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert!(["a", "b"].iter().all(|up| ["tasks/get", "tasks/cancel", "tasks/result"].iter().all(|m| nexus.fake(up).seen_of(m).is_empty())));
}

#[tokio::test]
async fn a_tasks_result_is_waited_for_without_a_limit_and_its_questions_name_the_clients_task() {
    let (spec, mut results) = old().toml("call_timeout = \"1s\"").streamed("tasks/result");
    let nexus = gateway().upstream("a", spec).upstream("b", old()).start().await;
    let client = nexus.legacy().await;
    let task = begin(&client, "a__work").await;
    let mut response = client.open("tasks/result", json!({"taskId": task})).await;
    let (call, stream) = soon("the request", results.recv()).await.unwrap();
    assert_eq!(call.params()["taskId"], "1");
    let time = StillTime::begin();
    pass(std::time::Duration::from_secs(3)).await;
    let meta = json!({RELATED: {"taskId": "1"}});
    stream.event(json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"_meta": meta}}).to_string()).await;
    drop(time);
    tokio::time::resume();
    let asked = response.next().await.unwrap();
    assert_eq!(asked["params"]["_meta"][RELATED]["taskId"], json!(task));
    client.reply(&asked["id"], json!({"action": "accept", "_meta": {RELATED: {"taskId": task}}})).await;
    let given = nexus.fake("a").arrives("the answer", |call| call.json["id"] == "q").await;
    assert_eq!(given.json["result"], json!({"action": "accept", "_meta": meta}));
    stream.event(json!({"jsonrpc": "2.0", "id": call.id(), "result": {"content": [], "_meta": meta}}).to_string()).await;
    let answer = response.next().await.unwrap();
    assert_eq!(answer["result"], json!({"content": [], "_meta": {RELATED: {"taskId": task}}}));
}

#[tokio::test]
async fn a_legacy_tasks_status_comes_under_the_id_that_the_client_knows() {
    let nexus = two_old().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let task = begin(&client, "b__work").await;
    let session = nexus.fake("b").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let status = |id: &str| json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": working(id)});
    nexus.fake("b").stream_of(&session).await.event(status("1").to_string()).await;
    assert_eq!(hears.next().await.unwrap(), status(&task));
}

/// A modern server that gives every task the id `1`.
fn new() -> FakeSpec {
    let task = |call: &Call| {
        assert_eq!((call.header("mcp-name"), &call.params()["taskId"]), (Some("1"), &json!("1")));
        let mut result = working("1");
        result["resultType"] = "complete".into();
        Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
    };
    modern()
        .declares(json!({"extensions": {EXTENSION: {}}}))
        .tool("work")
        .on("tools/call", |call| {
            let mut result = working("1");
            result["resultType"] = "task".into();
            Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
        })
        .on("tasks/get", task)
        .on("tasks/update", task)
        .on("tasks/cancel", task)
}

/// As a client that declares the extension.
async fn open(client: &Client, id: Value, method: &str, mut params: Value) -> Response {
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"extensions": {EXTENSION: {}}});
    client.open_as(id, method, params).await
}

async fn ask(client: &Client, method: &str, params: Value) -> Value {
    open(client, json!("t"), method, params).await.answer().await
}

async fn begin_new(client: &Client, tool: &str) -> String {
    let answer = ask(client, "tools/call", json!({"name": tool})).await;
    assert_eq!((&answer["result"]["resultType"], &answer["result"]["more"]["taskId"]), (&json!("task"), &json!("not an id")), "{answer}");
    answer["result"]["taskId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_modern_task_finds_its_server_though_another_has_one_of_the_same_id() {
    let nexus = gateway().upstream("a", new()).upstream("b", new()).start().await;
    let client = nexus.modern();
    let (of_a, of_b) = (begin_new(&client, "a__work").await, begin_new(&client, "b__work").await);
    assert_ne!(of_a, of_b);
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let answer = ask(&client, method, json!({"taskId": of_b, "inputResponses": {}})).await;
        assert_eq!(answer["result"]["taskId"], json!(of_b), "{answer}");
        assert_eq!((nexus.fake("a").seen_of(method).len(), nexus.fake("b").seen_of(method).len()), (0, 1));
    }
    for guess in ["1", "b:1", &of_b.replace(".b:", ".a:")] {
        let answer = ask(&client, "tasks/get", json!({"taskId": guess})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    let list = open(&client, json!(1), "tasks/list", json!({})).await;
    assert_eq!(list.status, StatusCode::NOT_FOUND, "2026-07-28 has no such method");
}

#[tokio::test]
async fn a_modern_client_hears_of_its_tasks_under_the_ids_that_it_knows() {
    let nexus = gateway().upstream("a", new()).upstream("b", new()).start().await;
    let client = nexus.modern();
    let (of_a, of_b) = (begin_new(&client, "a__work").await, begin_new(&client, "b__work").await);
    let filter = json!({"taskIds": [of_a, of_b, "1", "unknown"]});
    let mut stream = open(&client, json!("s"), "subscriptions/listen", json!({"notifications": filter})).await;
    let first = stream.next().await.unwrap();
    let mut both = [of_a.clone(), of_b.clone()];
    both.sort();
    assert_eq!(first["params"]["notifications"], json!({"taskIds": both}));
    for (up, shown) in [("b", &of_b), ("a", &of_a)] {
        let (id, sender) = nexus.fake(up).subscription("the part", |filter| filter["taskIds"] == json!(["1"])).await;
        let status = |task: &str, tag: &Value| {
            let mut params = working(task);
            params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": tag});
            json!({"jsonrpc": "2.0", "method": "notifications/tasks", "params": params})
        };
        sender.event(status("2", &id).to_string()).await;
        sender.event(status("1", &id).to_string()).await;
        assert_eq!(stream.next().await.unwrap(), status(shown, &json!("s")), "of no other task");
    }
    let undeclared = client.open("subscriptions/listen", json!({"notifications": {"taskIds": [of_a]}})).await;
    assert_eq!(undeclared.status, StatusCode::BAD_REQUEST);
    let answer = undeclared.answer().await;
    let required = json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}});
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]), (&json!(-32021), &required));
}

#[tokio::test]
async fn a_single_upstreams_task_ids_are_its_own() {
    let nexus = gateway().upstream("a", old().toml("prefix = \"\"")).start().await;
    let client = nexus.legacy().await;
    assert_eq!(begin(&client, "work").await, "1");
    assert_eq!(client.ask("tasks/get", json!({"taskId": "1"})).await["result"]["taskId"], "1");
    assert_eq!(client.ask("tasks/list", json!({})).await["result"]["nextCursor"], "n");

    let nexus = gateway().upstream("a", new().toml("prefix = \"\"")).start().await;
    assert_eq!(begin_new(&nexus.modern(), "work").await, "1");
    assert_eq!(ask(&nexus.modern(), "tasks/get", json!({"taskId": "1"})).await["result"]["taskId"], "1");
}

#[tokio::test]
async fn tasks_and_extensions_are_declared_to_those_who_can_use_them() {
    let ui = |settings: Value| json!({"extensions": {"x/ui": settings, "x/same": {"n": 1.0}}});
    let nexus = gateway()
        .upstream("a", old())
        .upstream("b", legacy().declares(json!({"tasks": {"list": {}}, "extensions": {"x/ui": {"v": 1}}})))
        .upstream("c", new())
        .upstream("d", modern().declares(ui(json!({"v": 2}))))
        .upstream("e", modern().declares(ui(json!({"v": 2}))))
        .start()
        .await;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeting = Client::stranger(nexus.address).ask("initialize", params).await;
    let capabilities = &greeting["result"]["capabilities"];
    assert_eq!(capabilities["tasks"], json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}));
    assert_eq!(capabilities["extensions"], json!({"x/same": {"n": 1.0}}), "one that is set in two ways is left out");
    let found = nexus.modern().ask("server/discover", json!({})).await;
    let capabilities = &found["result"]["capabilities"];
    assert_eq!(capabilities["tasks"], Value::Null);
    assert_eq!(capabilities["extensions"], json!({"x/same": {"n": 1.0}, EXTENSION: {}}));
}

#[tokio::test]
async fn a_single_upstreams_tasks_are_not_declared_to_the_other_era() {
    let nexus = gateway().upstream("a", old().toml("prefix = \"\"")).start().await;
    let found = nexus.modern().ask("server/discover", json!({})).await;
    assert_eq!(found["result"]["capabilities"]["tasks"], Value::Null, "{found}");
    let nexus = gateway().upstream("a", new().toml("prefix = \"\"")).start().await;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeting = Client::stranger(nexus.address).ask("initialize", params).await;
    assert_eq!(greeting["result"]["capabilities"]["extensions"], json!({}), "{greeting}");
}

#[tokio::test]
async fn with_a_secret_of_the_operators_a_task_outlives_the_gateway() {
    let start = |list: &str| {
        let tables = format!("[state]\nsecrets = [{list}]");
        let spec = gateway().upstream("a", old()).upstream("b", old()).env("OLD", &"o".repeat(32)).env("NEW", &"n".repeat(32));
        async move { spec.tables(&tables).start().await }
    };
    let (old, new) = ("\"{{ env.OLD }}\"", "\"{{ env.NEW }}\"");
    let id = begin(&start(old).await.legacy().await, "b__work").await;
    let after = start(&format!("{new}, {old}")).await;
    let found = after.legacy().await.ask("tasks/get", json!({"taskId": id})).await;
    assert_eq!(found["result"]["status"], "working", "{found}");
    let forgotten = start(new).await.legacy().await.ask("tasks/get", json!({"taskId": id})).await;
    assert_eq!(forgotten["error"]["code"], -32602, "{forgotten}");
}
