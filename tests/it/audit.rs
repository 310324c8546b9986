//! The audit trail: one line for each call whatever came of it, of refusals and of operators, and never a secret.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod calls;
mod ends;
mod operators;
mod program;
mod refusals;
mod secrets;

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    nexus::{GatewaySpec, Nexus, gateway},
    until,
};

const GREETING: &str = "\"method\":\"initialize\"";

/// A trail to be read.
struct Log {
    folder: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Self { folder, path }
    }

    /// A gateway that writes it.
    fn of_a_gateway(&self) -> GatewaySpec {
        gateway().tables(&self.table(""))
    }

    fn table(&self, more: &str) -> String {
        format!("[telemetry.audit]\npath = {:?}\n{more}", self.path)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// But for greetings, of which every legacy client has one.
    fn read(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.contains(GREETING));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no line: {line}"))).collect()
    }

    /// The greetings so far.
    async fn greetings(&self, nexus: &Nexus) -> Vec<Value> {
        nexus.gateway.audit().written().await;
        self.text().lines().filter(|line| line.contains(GREETING)).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Every line so far.
    async fn lines(&self, nexus: &Nexus) -> Vec<Value> {
        nexus.gateway.audit().written().await;
        self.read()
    }

    /// The last line, once there are so many.
    async fn last(&self, count: usize) -> Value {
        until("the line", || self.text().lines().filter(|line| !line.contains(GREETING)).count() >= count).await;
        let mut lines = self.read();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines.pop().unwrap()
    }

    /// The only new line since there were so many.
    async fn only_after(&self, nexus: &Nexus, before: usize) -> Value {
        let mut lines = self.lines(nexus).await;
        assert_eq!(lines.len(), before + 1, "{lines:#?}");
        lines.pop().unwrap()
    }
}
