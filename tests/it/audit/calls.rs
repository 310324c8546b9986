//! What a line says of a call.

use serde_json::{Value, json};

use super::Log;
use crate::support::{
    client::Client,
    fake::{Answer, FakeSpec, dual, legacy, modern},
    nexus::Nexus,
    old_client::OldClient,
};

const BIG: usize = 200_000;

/// A server whose tools end in every way.
fn server(kind: fn() -> FakeSpec) -> FakeSpec {
    kind()
        .tool("good")
        .tool("bad")
        .tool("refused")
        .tool("long")
        .tool("long_bad")
        .tool("streamed")
        .prompt("ask")
        .resource("file:///a")
        .on("tools/call", |call| {
            let filler = "x\\\"".repeat(BIG);
            match call.params()["name"].as_str().unwrap() {
                "bad" => Answer::json(call.response(r#""content":[{"type":"text","text":"\"isError\":false"}],"isError":true"#)),
                "refused" => Answer::json(call.error(-32050)),
                "long" => Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":"{filler}"}}]"#))),
                "long_bad" => Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":"{filler}"}}],"isError":true"#))),
                "streamed" => Answer::events([call.progress(1), call.response(r#""content":[],"isError":true"#)]),
                _ => Answer::json(call.response(r#""content":[{"type":"text","text":"fine"}]"#)),
            }
        })
        .on("completion/complete", |call| Answer::json(call.response(r#""completion":{"values":[]}"#)))
}

async fn start(log: &Log) -> Nexus {
    log.of_a_gateway().upstream("old", server(legacy)).upstream("new", server(modern)).upstream("both", server(dual)).start().await
}

/// What must stand in a line; the rest may be as it is.
#[track_caller]
fn holds(line: &Value, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&line[key], value, "{key} of {line:#}");
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.as_bytes()[19] == b'.'
}

#[tokio::test]
async fn each_call_of_either_era_at_servers_of_either_era_has_one_line() {
    let log = Log::new();
    let nexus = start(&log).await;
    let mut count = 0;
    for client in [nexus.legacy().await, nexus.modern()] {
        let era = if client.is_modern() { "modern" } else { "legacy" };
        for upstream in ["old", "new", "both"] {
            for (tool, expected) in [
                ("good", json!({"outcome": "ok", "code": null, "reason": null})),
                ("bad", json!({"outcome": "tool_error"})),
                ("refused", json!({"outcome": "error", "code": -32050, "reason": "answer"})),
                ("long", json!({"outcome": "ok"})),
                ("long_bad", json!({"outcome": "tool_error"})),
                ("streamed", json!({"outcome": "tool_error"})),
            ] {
                let name = format!("{upstream}__{tool}");
                let response = client.open("tools/call", json!({"name": name, "arguments": {}})).await;
                let request_id = response.headers.get("x-request-id").map(|id| id.to_str().unwrap().to_owned());
                response.answer().await;
                let line = log.last(count + 1).await;
                count += 1;
                holds(&line, &expected);
                holds(
                    &line,
                    &json!({"kind": "call", "era": era, "method": "tools/call", "tool": name, "upstream": upstream, "upstream_name": tool,
                        "who": {"method": "local"}, "address": "127.0.0.1", "prompt": null, "resource": null}),
                );
                assert_eq!(line["request_id"].as_str(), request_id.as_deref());
                assert!(is_date(line["time"].as_str().unwrap()), "{line}");
                assert_eq!(line["session"].is_string(), !client.is_modern(), "{line}");
                let (all, upstream) = (line["duration_ms"].as_f64().unwrap(), line["upstream_ms"].as_f64().unwrap());
                assert!(upstream > 0.0 && all >= upstream, "{line}");
            }
            let prompt = format!("{upstream}__ask");
            for (method, params, expected) in [
                ("prompts/get", json!({"name": prompt}), json!({"prompt": prompt, "upstream_name": "ask"})),
                (
                    "completion/complete",
                    json!({"ref": {"type": "ref/prompt", "name": prompt}, "argument": {"name": "a", "value": "b"}}),
                    json!({"prompt": prompt, "upstream_name": "ask", "resource": null}),
                ),
            ] {
                assert!(client.ask(method, params).await["result"].is_object());
                let line = log.last(count + 1).await;
                count += 1;
                holds(&line, &json!({"outcome": "ok", "method": method, "upstream": upstream, "tool": null}));
                holds(&line, &expected);
            }
        }
        assert!(client.ask("resources/read", json!({"uri": "file:///a"})).await["result"].is_object());
        count += 1;
        holds(&log.last(count).await, &json!({"outcome": "ok", "resource": "file:///a", "upstream": "old", "upstream_name": "file:///a"}));
        // What nobody did anything with leaves no line.
        client.list("tools").await;
        client.list("prompts").await;
    }
    assert_eq!(log.lines(&nexus).await.len(), count);
}

#[tokio::test]
async fn what_execute_runs_stands_beside_it_and_a_search_is_a_call() {
    let log = Log::new();
    let nexus = log.of_a_gateway().mcp("tools = \"search\"").upstream("new", server(modern)).start().await;
    let client = nexus.modern();
    client.ask("tools/call", json!({"name": "execute", "arguments": {"name": "new__bad", "arguments": {}}})).await;
    let expected = json!({"tool": "execute", "executes": "new__bad", "upstream": "new", "upstream_name": "bad", "outcome": "tool_error"});
    holds(&log.last(1).await, &expected);
    client.ask("tools/call", json!({"name": "search", "arguments": {"keywords": ["good"]}})).await;
    holds(&log.last(2).await, &json!({"tool": "search", "upstream": null, "outcome": "ok", "executes": null}));
    client.ask("tools/call", json!({"name": "execute", "arguments": {"name": "nobody__has_it", "arguments": {}}})).await;
    holds(&log.last(3).await, &json!({"tool": "execute", "executes": "nobody__has_it", "outcome": "error", "reason": "unknown"}));
    client.ask("tools/call", json!({"name": "execute", "arguments": 7})).await;
    holds(
        &log.last(4).await,
        &json!({"tool": "execute", "executes": null, "outcome": "error", "code": -32602, "reason": "invalid_params"}),
    );
}

#[tokio::test]
async fn every_call_of_a_batch_and_of_an_old_clients_stream_has_its_own_line() {
    let log = Log::new();
    let nexus = log.of_a_gateway().mcp("sse_path = \"/sse\"").upstream("old", server(legacy)).start().await;
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let client = client.header("mcp-session-id", response.headers["mcp-session-id"].to_str().unwrap());
    let call = |id: u64, tool: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}});
    client.post(json!([call(1, "old__good"), call(2, "old__bad"), call(3, "old__none")]).to_string()).await.text().await;
    let lines = log.lines(&nexus).await;
    let mut outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["error", "ok", "tool_error"]);
    let ids: std::collections::BTreeSet<_> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3, "each is a request of its own");

    let mut old = OldClient::open(nexus.address, "2024-11-05").await;
    old.call("old__bad").await;
    let line = log.last(4).await;
    holds(&line, &json!({"outcome": "tool_error", "tool": "old__bad", "address": "127.0.0.1", "era": "legacy"}));
}

#[tokio::test]
async fn calls_about_tasks_name_the_task_as_the_client_does() {
    let log = Log::new();
    let task = |id: &str| json!({"taskId": id, "status": "working", "createdAt": "2026-01-01T00:00:00Z", "ttl": 1.0});
    let spec = legacy()
        .declares(json!({"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}))
        .tool("work")
        .on("tools/call", move |call| Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": {"task": task("1")}}).to_string()))
        .on("tasks/get", move |call| Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": task("1")}).to_string()));
    let nexus = log.of_a_gateway().upstream("a", spec).upstream("b", modern().tool("x")).start().await;
    let client = nexus.legacy().await;
    let begun = client.ask("tools/call", json!({"name": "a__work", "task": {"ttl": 60000}})).await;
    let id = begun["result"]["task"]["taskId"].as_str().unwrap().to_owned();
    holds(&log.last(1).await, &json!({"outcome": "ok", "tool": "a__work"}));
    client.ask("tasks/get", json!({"taskId": id})).await;
    holds(&log.last(2).await, &json!({"outcome": "ok", "method": "tasks/get", "task": id, "upstream": "a", "tool": null}));
    client.ask("tasks/get", json!({"taskId": "made up"})).await;
    holds(&log.last(3).await, &json!({"outcome": "error", "reason": "unknown", "task": "made up"}));
    client.ask("tasks/list", json!({})).await;
    holds(&log.last(4).await, &json!({"outcome": "ok", "method": "tasks/list"}));
}

#[tokio::test]
async fn hostile_names_stay_text_in_their_own_field() {
    let log = Log::new();
    let nexus = start(&log).await;
    let hostile = format!("x\",\"outcome\":\"ok\"}}\n{{\u{202e}\u{0}{}", "y".repeat(5000));
    nexus.legacy().await.call(&hostile).await;
    let line = log.only_after(&nexus, 0).await;
    holds(&line, &json!({"outcome": "error", "reason": "unknown"}));
    let tool = line["tool"].as_str().unwrap();
    assert!(hostile.starts_with(tool.trim_end_matches('…')) && tool.chars().count() < 300, "{tool}");
    assert!(!log.text().contains('\u{202e}'));
}
