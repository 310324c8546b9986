//! What clients, upstreams and tools may.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::Client,
    fake::{Answer, modern},
    nexus::{Nexus, gateway},
    soon,
};

const TWO: &str = "limit = 2\ninterval = \"1h\"";

async fn start(limits: &str) -> Nexus {
    gateway().upstream("up", tools(&format!("[.rate_limits]\n{limits}"))).upstream("free", tools("")).start().await
}

/// The scope of the limit that refused, or nothing.
fn scope(answer: &Value) -> Option<&str> {
    if answer["result"].is_object() {
        return None;
    }
    assert_eq!((&answer["error"]["code"], &answer["error"]["message"]), (&json!(-32000), &json!("Rate limit exceeded")), "{answer}");
    assert!(answer["error"]["data"]["retryAfterMs"].as_u64().unwrap() > 0, "{answer}");
    answer["error"]["data"]["scope"].as_str()
}

async fn calls(client: &Client, tool: &str, count: usize) -> Vec<Option<String>> {
    let mut scopes = Vec::new();
    for _ in 0..count {
        scopes.push(scope(&client.call(tool).await).map(str::to_owned));
    }
    scopes
}

fn refused(scopes: &[Option<String>]) -> usize {
    scopes.iter().flatten().count()
}

#[tokio::test]
async fn a_call_too_many_is_answered_with_the_time_to_the_next() {
    let nexus = start(TWO).await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let _ = calls(&client, "up__work", 1).await;
    }
    for client in [nexus.legacy().await, nexus.modern()] {
        let response = client.open("tools/call", json!({"name": "up__work", "arguments": {}})).await;
        let seconds: u64 = response.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert_eq!(response.status, StatusCode::OK, "a session does not end");
        assert!((1790..=1800).contains(&seconds), "{seconds}");
        let answer = response.answer().await;
        assert_eq!(scope(&answer), Some("server"));
        assert!(answer["id"].is_number(), "{answer}");
    }
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 2);
    assert_eq!(calls(&nexus.modern(), "free__work", 5).await, [const { None }; 5]);
}

#[tokio::test]
async fn a_tools_limit_takes_the_place_of_its_upstreams() {
    let nexus = start(&format!("{TWO}\ntools = {{ work = {{ limit = 3, interval = \"1h\" }} }}")).await;
    let client = nexus.modern();
    let work = calls(&client, "up__work", 5).await;
    assert_eq!((refused(&work), work[4].as_deref()), (2, Some("tool")));
    let other = calls(&client, "up__other", 3).await;
    assert_eq!((refused(&other), other[2].as_deref()), (1, Some("server")), "calls of the other tool cost it nothing");
}

#[tokio::test]
async fn a_prompt_of_the_same_name_is_no_tool() {
    let nexus = gateway()
        .upstream("up", modern().tool("ask").prompt("ask").toml("[.rate_limits.tools.ask]\nlimit = 1\ninterval = \"1h\""))
        .start()
        .await;
    let client = nexus.modern();
    assert_eq!(refused(&calls(&client, "up__ask", 2).await), 1);
    assert_eq!(scope(&client.ask("prompts/get", json!({"name": "up__ask"})).await), None);
}

#[tokio::test]
async fn a_refused_call_costs_its_client_nothing() {
    let nexus = gateway()
        .server("[server.rate_limits]\nper_client = { limit = 5, interval = \"1h\" }")
        .mcp("")
        .upstream("up", tools(&format!("[.rate_limits]\n{TWO}")))
        .upstream("free", tools(""))
        .start()
        .await;
    let client = nexus.modern();
    assert_eq!(refused(&calls(&client, "up__work", 20).await), 18);
    let free = calls(&client, "free__work", 4).await;
    assert_eq!((refused(&free), free[3].as_deref()), (1, Some("client")), "three are left of five");
    assert_eq!(calls(&client, "up__work", 1).await[0].as_deref(), Some("server"), "the longer wait is told");
}

#[tokio::test]
async fn what_is_answered_from_memory_costs_no_call() {
    let nexus = start("limit = 1\ninterval = \"1h\"").await;
    let client = nexus.modern();
    for _ in 0..3 {
        assert_eq!(client.list("tools").await.len(), 4);
    }
    assert_eq!(client.call("up__unknown").await["error"]["code"], -32602);
    assert_eq!(refused(&calls(&client, "up__work", 2).await), 1);
}

#[tokio::test]
async fn a_tool_that_execute_runs_costs_what_it_costs_itself() {
    let nexus =
        gateway().mcp("tools = \"search\"").upstream("up", tools("[.rate_limits.tools.work]\nlimit = 2\ninterval = \"1h\"")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let run = |name: &str| json!({"name": "execute", "arguments": {"name": name, "arguments": {}}});
        assert_eq!(scope(&client.ask("tools/call", run("up__other")).await), None);
        assert_eq!(scope(&client.ask("tools/call", run("up__work")).await), None);
    }
    let again = nexus.modern().ask("tools/call", json!({"name": "execute", "arguments": {"name": "up__work", "arguments": {}}})).await;
    assert_eq!(scope(&again), Some("tool"));
}

#[tokio::test]
async fn each_call_of_a_batch_is_charged() {
    let nexus = start(TWO).await;
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeted = client.open("initialize", params).await;
    let session = greeted.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = client.header("mcp-session-id", &session);
    let call = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "up__work", "arguments": {}}});
    let response = client.post(json!([call(1), call(2), call(3), call(4), call(5)]).to_string()).await;
    let answers: Value = serde_json::from_str(&response.text().await).unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!((answers.len(), answers.iter().filter(|answer| scope(answer).is_some()).count()), (5, 3));
}

#[tokio::test]
async fn the_only_upstream_of_a_transparent_gateway_is_limited_too() {
    let nexus = gateway().upstream("up", tools(&format!("prefix = \"\"\n[.rate_limits]\n{TWO}"))).start().await;
    let client = nexus.modern();
    assert_eq!(refused(&calls(&client, "work", 4).await), 2);
}

#[tokio::test]
async fn nothing_is_limited_when_limits_are_off() {
    let nexus = gateway()
        .server("[server.rate_limits]\nenabled = false\nglobal = { limit = 1, interval = \"1h\" }\nper_client = { limit = 1, interval = \"1h\" }")
        .mcp("")
        .upstream("up", tools("[.rate_limits]\nlimit = 1\ninterval = \"1h\""))
        .start()
        .await;
    assert_eq!(calls(&nexus.modern(), "up__work", 5).await, [const { None }; 5]);
}

#[tokio::test]
async fn a_reload_keeps_the_tokens_of_limits_that_stay() {
    let nexus = start(TWO).await;
    let client = nexus.modern();
    assert_eq!(refused(&calls(&client, "up__work", 3).await), 1);
    nexus.reload(&nexus.toml);
    assert_eq!(refused(&calls(&client, "up__work", 1).await), 1, "a reload fills no bucket");
    // A larger burst adds what it is larger by; a limit that went and came back begins anew.
    let changes = nexus.reload(&nexus.toml.replace(TWO, &format!("{TWO}\nburst = 4")));
    assert_eq!((changes.changed.len(), changes.unchanged), (1, 1));
    assert_eq!(refused(&calls(&client, "up__work", 4).await), 2);
    nexus.reload(&nexus.toml.replace(TWO, "tools = { other = { limit = 1, interval = 1 } }"));
    assert_eq!(refused(&calls(&client, "up__work", 9).await), 0);
    nexus.reload(&nexus.toml);
    assert_eq!(refused(&calls(&client, "up__work", 3).await), 1);
}

#[tokio::test]
async fn an_upstreams_own_limit_is_respected_until_it_ends() {
    let busy = |call: &crate::support::fake::Call| Answer::new(429, "application/json", call.error(-32050)).header("retry-after", "1");
    let nexus =
        gateway().upstream("up", modern().tool("busy").prompt("ask").on("tools/call", busy)).upstream("free", tools("")).start().await;
    let client = nexus.modern();
    // The server's own words reach whoever asked first.
    let first = client.open("tools/call", json!({"name": "up__busy", "arguments": {}})).await;
    assert_eq!((first.status.as_u16(), first.answer().await["error"]["code"].clone()), (429, json!(-32050)));
    let began = std::time::Instant::now();
    let refused = client.ask("prompts/get", json!({"name": "up__ask"})).await;
    assert_eq!(scope(&refused), Some("upstream"), "whatever is asked for");
    assert!(refused["error"]["data"]["retryAfterMs"].as_u64().unwrap() <= 1000, "{refused}");
    assert_eq!(nexus.fake("up").seen_of("prompts/get").len(), 0);
    assert_eq!(calls(&client, "free__work", 1).await, [None]);
    soon("the end of the server's limit", async { while scope(&client.ask("prompts/get", json!({"name": "up__ask"})).await).is_some() {} })
        .await;
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn operators_see_how_many_were_refused_and_by_what() {
    let nexus = gateway()
        .server("[server.rate_limits]\nglobal = { limit = 4, interval = \"1h\" }")
        .mcp("")
        .upstream("up", tools(&format!("[.rate_limits]\n{TWO}")))
        .upstream("free", tools(""))
        .admin("metrics = \"open\"")
        .start()
        .await;
    let client = nexus.modern();
    assert_eq!(refused(&calls(&client, "up__work", 4).await), 2);
    assert_eq!(refused(&calls(&client, "free__work", 5).await), 3, "two were refused, and cost nothing");
    let upstreams = nexus.operator().json("/api/v1/upstreams").await;
    assert_eq!(upstreams["upstreams"][0]["calls"], json!({"ok": 2, "failed": 0, "limited": 2}));
    let metrics = nexus.operator().get("/metrics").await.text().await;
    for line in [
        "nexus_rate_limited_total{scope=\"server\"} 2",
        "nexus_rate_limited_total{scope=\"global\"} 3",
        "nexus_rate_limited_total{scope=\"storage\"} 0",
        "nexus_rate_limit_storage_errors_total{} 0",
        "nexus_requests_total{method=\"tools/call\",outcome=\"limited\"} 2",
        "nexus_upstream_calls_total{upstream=\"up\",outcome=\"limited\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
