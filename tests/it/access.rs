//! Who may use what: `allow` and `deny` of servers and tools, and what belongs to one caller alone.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

mod changes;
mod config;
mod explain;
mod personal;
mod principals;
mod rules;
mod single;
mod tasks;

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    fake::{FakeSpec, legacy, modern},
    nexus::{GatewaySpec, Nexus, gateway},
};

/// Callers by their keys: each in the group of its name, two in `pro`, and one in none.
const CALLERS: [(&str, &str); 5] = [("pro", "pro"), ("other_pro", "pro"), ("free", "free"), ("max", "max"), ("nobody", "")];

fn key_of(who: &str) -> String {
    format!("the-key-of-{who}-and-nobody-else")
}

fn keys() -> String {
    let mut tables = String::new();
    for (who, group) in CALLERS {
        write!(tables, "[[server.api_keys]]\nid = \"{who}\"\nkey = \"{}\"\n", key_of(who)).unwrap();
        if !group.is_empty() {
            writeln!(tables, "group = \"{group}\"").unwrap();
        }
    }
    tables
}

/// A gateway whose callers are told apart by keys.
fn guarded() -> GatewaySpec {
    gateway().tables(&keys())
}

/// A modern client of somebody.
fn new(nexus: &Nexus, who: &str) -> Client {
    nexus.modern().header("x-api-key", &key_of(who))
}

/// A legacy client of somebody, in a session.
async fn old(nexus: &Nexus, who: &str) -> Client {
    let client = Client::stranger(nexus.address).header("x-api-key", &key_of(who));
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    assert_eq!(response.status, StatusCode::OK);
    let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
    response.answer().await;
    client.header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25")
}

async fn both(nexus: &Nexus, who: &str) -> [Client; 2] {
    [old(nexus, who).await, new(nexus, who)]
}

/// An upstream with one of everything.
fn full(spec: FakeSpec, name: &str) -> FakeSpec {
    spec.tool("secret")
        .tool("open")
        .prompt("ask")
        .resource(&format!("{name}://listed"))
        .template(&format!("{name}://made/{{id}}"))
        .declares(json!({"completions": {}}))
}

/// What a request is answered with, with a word in it replaced: its status and the text.
async fn said(client: &Client, method: &str, params: &Value, word: &str) -> (StatusCode, String) {
    let response = client.open_as(json!(7), method, params.clone()).await;
    let status = response.status;
    (status, response.answer().await.to_string().replace(word, "…"))
}

/// Asks for what is denied and for what does not exist: not one byte tells the two apart, and no upstream hears of either.
async fn looks_unknown(nexus: &Nexus, client: &Client, method: &str, at: impl Fn(&str) -> Value, denied: &str, unknown: &str) {
    let heard = || nexus.fake("old").seen_of(method).len() + nexus.fake("new").seen_of(method).len();
    let before = heard();
    let (one, other) = (said(client, method, &at(denied), denied).await, said(client, method, &at(unknown), unknown).await);
    assert_eq!(one, other, "{method} {denied}");
    assert!(one.1.contains("\"error\""), "{method} {denied}: {}", one.1);
    assert_eq!(heard(), before, "{method} {denied}");
}
