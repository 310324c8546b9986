//! The trail's file in the hands of operators: made, rotated, changed, missing.

use std::{fs, os::unix::fs::MetadataExt as _};

use serde_json::{Value, json};

use super::Log;
use crate::support::{
    client::Client,
    fake::{FakeSpec, legacy, modern},
    nexus::{Written, gateway},
    program::Program,
    until,
};

fn x() -> FakeSpec {
    modern().tool("x")
}

async fn written(log: &Log) -> Written {
    log.of_a_gateway().upstream("a", x()).upstream("b", legacy().tool("y")).write().await
}

async fn call(program: &Program) {
    let answer = Client::modern(program.address().await).call("a__x").await;
    assert!(answer["result"].is_object(), "{answer}");
}

#[tokio::test]
async fn the_file_is_its_owners_alone_and_what_was_renamed_is_let_go_of_at_a_signal() {
    let log = Log::new();
    let written = written(&log).await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    call(&program).await;
    log.last(1).await;
    assert_eq!(fs::metadata(&log.path).unwrap().mode() & 0o777, 0o600);

    let rotated = log.folder.path().join("audit.jsonl.1");
    fs::rename(&log.path, &rotated).unwrap();
    program.hang_up_signal();
    let line = log.last(1).await;
    assert_eq!((&line["kind"], &line["action"], &line["who"]), (&json!("admin"), &json!("reload"), &json!({"method": "signal"})));
    call(&program).await;
    assert_eq!(log.last(2).await["tool"], "a__x");
    assert_eq!(fs::read_to_string(&rotated).unwrap().lines().count(), 1);

    // Also when the rest of the file is refused.
    let twice = log.folder.path().join("audit.jsonl.2");
    fs::rename(&log.path, &twice).unwrap();
    fs::write(written.folder.path().join("nexus.toml"), format!("{}\nnonsense = 1", written.toml)).unwrap();
    program.hang_up_signal();
    assert_eq!(log.last(1).await["outcome"], "error");

    // What was recorded last is written before the end.
    call(&program).await;
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
    assert_eq!(log.read().len(), 2);
}

#[tokio::test]
async fn another_file_is_taken_at_a_reload_and_a_bad_one_is_not() {
    let log = Log::new();
    let written = written(&log).await;
    let program = Program::start(&written, "serve", "info", &[]);
    call(&program).await;
    log.last(1).await;
    let file = written.folder.path().join("nexus.toml");
    let other = log.folder.path().join("other.jsonl");
    let named = |path: &str| written.toml.replace(log.path.to_str().unwrap(), path);
    fs::write(&file, named("/nowhere/at/all")).unwrap();
    program.hang_up_signal();
    program.says("rejected").await;
    assert!(program.said().contains("telemetry.audit.path"), "{}", program.said());
    call(&program).await;
    assert_eq!(log.last(3).await["kind"], "call", "the old one goes on");

    fs::write(&file, named(other.to_str().unwrap())).unwrap();
    program.hang_up_signal();
    program.says("took over [telemetry]").await;
    call(&program).await;
    until("lines in the other file", || fs::read_to_string(&other).is_ok_and(|text| text.lines().count() == 2)).await;
    assert_eq!(log.read().len(), 3);

    fs::write(&file, written.toml.split("[telemetry.audit]").next().unwrap().to_owned() + "[mcp.servers.a]\nurl = \"http://127.0.0.1:1\"")
        .unwrap();
    program.hang_up_signal();
    until("the trail is off", || program.said().matches("took over [telemetry]").count() == 2).await;
    assert_eq!(fs::read_to_string(&other).unwrap().lines().count(), 2, "nothing tells of the end");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_to_is_a_problem_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let not_there = folder.path().join("no/audit.jsonl");
    for (path, command) in [(not_there.as_path(), "serve"), (folder.path(), "serve"), (folder.path(), "stdio"), (&not_there, "check")] {
        let spec = gateway().tables(&format!("[telemetry]\naudit = {{ path = {path:?} }}"));
        let written = spec.upstream("a", x()).write().await;
        let mut program = Program::start(&written, command, "info", &[]);
        program.hang_up();
        assert_eq!(program.ends().await, Some(64), "{command}");
        if command != "check" {
            program.says("telemetry.audit.path: the audit trail cannot be written").await;
        }
    }
}

#[tokio::test]
async fn a_hyphen_is_stdout_and_refused_where_that_is_the_protocols() {
    let spec = gateway().tables("[telemetry]\naudit = { path = \"-\" }");
    let written = spec.upstream("a", x()).upstream("b", legacy().tool("y")).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    call(&program).await;
    let line = program.read().await.unwrap();
    assert_eq!((&line["tool"], &line["outcome"]), (&json!("a__x"), &json!("ok")));

    let mut program = Program::start(&written, "stdio", "info", &[]);
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    program.write(&json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).to_string()).await;
    let refusal = program.answer().await;
    assert!(refusal["error"]["message"].as_str().unwrap().contains("cannot go to stdout"), "{refusal}");
    assert_eq!(program.ends().await, Some(64));
}

#[tokio::test]
async fn a_client_that_launched_the_gateway_is_local_and_leaves_its_lines() {
    let log = Log::new();
    let written = written(&log).await;
    let mut program = Program::start(&written, "stdio", "info", &[]);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}});
    let params = json!({"name": "a__x", "arguments": {}, "_meta": meta});
    program.write(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()).await;
    assert!(program.answer().await["result"].is_object());
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
    let lines: Vec<Value> = log.read();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["who"], &lines[0]["address"], &lines[0]["tool"]), (&json!({"method": "local"}), &json!(null), &json!("a__x")));
}
