//! A fake MCP server over stdio: a small Python program that notes every line it gets.

#![allow(clippy::unwrap_used, reason = "a child that cannot be written down has failed its test")]

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::until;

/// Legacy unless told otherwise. What a tool does is in its name.
const PROGRAM: &str = r#"
import json, os, sys

log = open(os.environ["CHILD_NOTES"], "a")
# The sleeper is a process of the child's own, which must not outlive it.
sleeper = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1000")
log.write(json.dumps({"pids": [os.getpid(), sleeper]}) + "\n")
log.flush()
era = os.environ.get("CHILD_ERA")
modern = era != "legacy"
held, asked = [], {}
TOOLS = ["echo", "env", "hold", "hang", "ask", "progress", "noise", "twice", "wrong_id", "die", "endless", "log", "later"]

def send(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()

def result(id, result):
    if modern:
        result.setdefault("resultType", "complete")
    send({"jsonrpc": "2.0", "id": id, "result": result})

def text(id, words):
    result(id, {"content": [{"type": "text", "text": words}]})

def call(message, line):
    id, params = message["id"], message["params"]
    name = params["name"]
    if name == "echo":
        text(id, line.strip())
    elif name == "env":
        text(id, json.dumps(dict(os.environ)))
    elif name == "hold":
        # Answered in reverse order, once there are as many as the caller says.
        held.append((id, params["arguments"]["who"]))
        if len(held) == params["arguments"]["until"]:
            while held:
                text(*held.pop())
    elif name == "ask" and modern:
        form = {"message": "sure?", "requestedSchema": {"type": "object"}}
        if "inputResponses" in params:
            text(id, json.dumps(params["inputResponses"]["q"]))
        else:
            result(id, {"resultType": "input_required", "inputRequests": {"q": {"method": "elicitation/create", "params": form}}})
    elif name == "ask":
        asked["q"] = id
        send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "sure?", "requestedSchema": {"type": "object"}}})
    elif name == "progress":
        token = params.get("_meta", {}).get("progressToken")
        send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        text(id, "done")
    elif name == "log":
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "said"}})
        text(id, "done")
    elif name == "later":
        text(id, "done")
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": params["arguments"]["say"]}})
    elif name == "noise":
        sys.stdout.write("this is no JSON\n\n[]\n{\"jsonrpc\":\"2.0\"}\n\xff\n")
        text(id, "in spite of the noise")
    elif name == "twice":
        text(id, "first")
        text(id, "second")
    elif name == "wrong_id":
        text(99999, "not yours")
        text(str(id), "nor this")
        text(id, "yours")
    elif name == "die":
        os._exit(3)
    elif name == "endless":
        while True:
            sys.stdout.write("x" * 65536)

for line in sys.stdin:
    log.write(line)
    log.flush()
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if method == "initialize" and era != "modern only":
        result(id, {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}, "logging": {}}, "serverInfo": {"name": "child", "version": "1"}})
    elif method == "server/discover" and modern:
        result(id, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": {"name": "child", "version": "1"}, "ttlMs": 0, "cacheScope": "private"})
    elif method == "tools/list":
        result(id, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]})
    elif method == "tools/call":
        call(message, line)
    elif method == "logging/setLevel":
        result(id, {})
    elif method is None and id in asked:
        text(asked.pop(id), json.dumps(message.get("result", message.get("error"))))
    elif id is not None and method is not None:
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "unknown"}})
"#;

/// Gone, or a zombie that waits for its parent.
pub(crate) fn is_dead(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

/// A child to be.
pub(crate) struct ChildSpec {
    era: &'static str,
    env: String,
    pub(crate) toml: String,
}

pub(crate) fn child() -> ChildSpec {
    ChildSpec { era: "legacy", env: String::new(), toml: String::new() }
}

impl ChildSpec {
    pub(crate) fn modern(mut self) -> Self {
        self.era = "modern";
        self
    }

    /// It knows no initialize.
    pub(crate) fn modern_only(mut self) -> Self {
        self.era = "modern only";
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env = format!("{}, {name} = {value:?}", self.env);
        self
    }

    /// Further lines in its table of the configuration.
    pub(crate) fn toml(mut self, lines: &str) -> Self {
        self.toml.push_str(lines);
        self.toml.push('\n');
        self
    }

    /// Writes the program into `folder` and gives its table's lines and its notes.
    pub(crate) fn write(&self, name: &str, folder: &Path) -> (String, Notes) {
        let program = folder.join("child.py");
        std::fs::write(&program, PROGRAM).unwrap();
        let notes = folder.join(format!("{name}.notes"));
        let env = format!("CHILD_NOTES = {notes:?}, CHILD_ERA = {:?}{}", self.era, self.env);
        let lines = format!("cmd = [\"python3\", {program:?}]\nenv = {{ {env} }}\n{}", self.toml);
        (lines, Notes(notes))
    }
}

/// Every line that reached any process of one child.
#[derive(Clone, Debug)]
pub(crate) struct Notes(PathBuf);

impl Notes {
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        // The last line may not be whole yet.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every process that was started, and one that each of them started.
    pub(crate) fn pids(&self) -> Vec<u64> {
        self.lines().iter().filter_map(|line| line["pids"].as_array()).flatten().filter_map(Value::as_u64).collect()
    }

    pub(crate) fn of(&self, method: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["method"] == method).collect()
    }

    /// Waits for a message of this method and gives the first.
    pub(crate) async fn arrives(&self, method: &str) -> Value {
        until(method, || !self.of(method).is_empty()).await;
        self.of(method).remove(0)
    }
}
