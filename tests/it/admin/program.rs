//! The program with an admin listener, from its start to its end.

use http::StatusCode;
use serde_json::json;

use crate::support::{
    client::Client,
    fake::{Answer, legacy},
    nexus::gateway,
    operator::Operator,
    program::Program,
};

#[tokio::test]
async fn it_says_where_it_listens_and_turns_probes_away_while_open_calls_end() {
    let (spec, mut held) = legacy().tool("slow").held("tools/call");
    let written = gateway().admin("").upstream("crm", spec.toml("required = true")).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let address = program.address().await;
    program.says("the upstream is up").await;
    let told = program.said().split("admin on http://").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
    let operator = Operator::new(told);
    assert_eq!(operator.status("/readyz").await, StatusCode::OK);
    let client = Client::legacy(address, json!({})).await;
    let call = tokio::spawn(async move { client.call("crm__slow").await });
    let (asked, reply) = held.recv().await.unwrap();
    program.terminate();
    program.says("draining").await;
    let draining = operator.get("/readyz").await;
    assert_eq!((draining.status, draining.text().await.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    let _ = reply.send(Answer::json(asked.response("\"content\":[]")));
    assert!(call.await.unwrap()["result"].is_object());
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn over_stdio_nothing_listens() {
    let written = gateway().admin("").upstream("crm", legacy().tool("x")).write().await;
    let mut program = Program::start(&written, "stdio", "debug", &[]);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    program.write(&hello.to_string()).await;
    assert_eq!(program.answer().await["id"], 1);
    let pid = program.pid();
    assert!(!listens(pid), "a socket of the process listens");
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
}

/// Whether the process has a TCP socket that listens (state 0A of /proc/PID/net/tcp, by the inodes of its descriptors).
fn listens(pid: u32) -> bool {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    ["tcp", "tcp6"].iter().any(|table| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| inodes.iter().any(|own| own == inode))
        })
    })
}
