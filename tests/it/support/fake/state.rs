//! How a fake answers what its test says nothing about.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Call, Handler};
use crate::support::{
    client::{LEGACY, MODERN},
    offer::{Offer, capabilities},
    wire::{self, Sender},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Eras {
    Legacy,
    Modern,
    Both,
}

/// A GET stream or a subscription.
#[derive(Clone)]
pub(super) struct Open {
    /// Of the listen request.
    pub(super) id: Value,
    pub(super) session: Option<String>,
    /// What the subscription is for.
    pub(super) filter: Value,
    pub(super) sender: Sender,
}

pub(super) struct State {
    pub(super) name: String,
    pub(super) eras: Eras,
    pub(super) get_stream: bool,
    pub(super) sse: bool,
    /// Methods whose POSTs an SSE server does not take.
    pub(super) refuses_posts: Mutex<Vec<String>>,
    pub(super) checks_sessions: bool,
    pub(super) offer: Mutex<Offer>,
    pub(super) handlers: Mutex<HashMap<String, Handler>>,
    pub(super) before: Option<super::Before>,
    pub(super) seen: watch::Sender<Vec<Call>>,
    pub(super) sessions: Mutex<HashSet<String>>,
    pub(super) opened: AtomicUsize,
    pub(super) streams: Mutex<Vec<Open>>,
    pub(super) down: AtomicBool,
    /// Further members of its capabilities.
    pub(super) declares: Value,
    /// Raised to cut all connections.
    pub(super) connections: watch::Sender<usize>,
    /// Absent: plain HTTP.
    pub(super) acceptor: Mutex<Option<tokio_rustls::TlsAcceptor>>,
    /// TLS connections, with a sign of life.
    pub(super) shown: Mutex<Vec<(super::Shown, std::sync::Weak<()>)>>,
}

impl State {
    pub(super) async fn answer(&self, call: Call) -> Answer {
        self.seen.send_modify(|seen| seen.push(call.clone()));
        if let Some(answer) = self.before.as_ref().and_then(|before| before(&call)) {
            return answer;
        }
        let key = if call.verb == Method::POST { call.method() } else { call.verb.as_str() };
        let handler = self.handlers.lock().get(key).cloned();
        // A session is checked before anything is done in it.
        if let Some(refusal) = self.check_session(&call) {
            return refusal;
        }
        match handler {
            Some(handler) => handler(call).await,
            None if self.is_modern(&call) => self.modern(&call),
            None => self.legacy(&call),
        }
    }

    fn capabilities(&self) -> Value {
        let mut all = capabilities();
        for (key, value) in self.declares.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        all
    }

    fn is_modern(&self, call: &Call) -> bool {
        match self.eras {
            Eras::Legacy => false,
            Eras::Modern => true,
            Eras::Both => call.header("mcp-protocol-version") == Some(MODERN),
        }
    }

    fn check_session(&self, call: &Call) -> Option<Answer> {
        if self.is_modern(call) || call.method() == "initialize" {
            return None;
        }
        match call.header("mcp-session-id") {
            // As the TypeScript SDK 1.x refuses.
            None => {
                Some(Answer::new(400, "application/json", r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no session"},"id":null}"#))
            }
            Some(_) if !self.checks_sessions => None,
            Some(id) if self.sessions.lock().contains(id) => None,
            Some(_) => Some(Answer::status(404)),
        }
    }

    pub(super) fn legacy(&self, call: &Call) -> Answer {
        match (call.verb.as_str(), call.method()) {
            ("GET", _) if self.get_stream => self.stream(Value::Null, call.header("mcp-session-id"), Value::Null, None),
            ("GET", _) => Answer::status(405),
            ("DELETE", _) => {
                self.sessions.lock().remove(call.header("mcp-session-id").unwrap_or_default());
                Answer::status(204)
            }
            (_, "initialize") => {
                let id = format!("{}-session-{}", self.name, self.opened.fetch_add(1, Ordering::SeqCst));
                self.sessions.lock().insert(id.clone());
                let greeting = json!({
                    "protocolVersion": call.params()["protocolVersion"].as_str().filter(|version| *version < MODERN).unwrap_or(LEGACY),
                    "capabilities": self.capabilities(), "serverInfo": {"name": self.name, "version": "1"}
                });
                let body = json!({"jsonrpc": "2.0", "id": call.id(), "result": greeting}).to_string();
                Answer::json(body).header("mcp-session-id", &id)
            }
            (_, "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe") => Answer::json(call.response("")),
            _ if call.id().is_null() || call.method().is_empty() => Answer::status(202),
            _ => self.work(call, "", 200),
        }
    }

    fn modern(&self, call: &Call) -> Answer {
        let claim = &call.params()["_meta"]["io.modelcontextprotocol/protocolVersion"];
        match (call.verb.as_str(), call.method()) {
            ("GET" | "DELETE", _) => Answer::status(405),
            _ if call.id().is_null() => Answer::status(202),
            _ if *claim != MODERN || call.header("mcp-protocol-version") != Some(MODERN) => {
                Answer::new(400, "application/json", call.error(-32602))
            }
            _ if call.header("mcp-method") != Some(call.method()) => Answer::new(400, "application/json", call.error(-32020)),
            (_, "server/discover") => {
                let members = format!(
                    r#""resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["{MODERN}"],"capabilities":{},"serverInfo":{{"name":"{}","version":"1"}}"#,
                    self.capabilities(),
                    self.name
                );
                Answer::json(call.response(&members))
            }
            (_, "subscriptions/listen") => {
                let id = call.id().clone();
                let filter = &call.params()["notifications"];
                let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                let params = json!({"_meta": meta, "notifications": filter});
                let ack = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params});
                self.stream(id, None, filter.clone(), Some(ack.to_string()))
            }
            _ => self.work(call, r#""resultType":"complete","#, 404),
        }
    }

    fn work(&self, call: &Call, head: &str, unknown: u16) -> Answer {
        let params = call.params();
        let about = params["name"].as_str().or_else(|| params["uri"].as_str()).unwrap_or_default();
        let members = match call.method() {
            "tools/call" => format!(r#""content":[{{"type":"text","text":"{}:{about}"}}]"#, self.name),
            "prompts/get" => {
                format!(r#""messages":[{{"role":"user","content":{{"type":"text","text":"{}:{about}"}}}}]"#, self.name)
            }
            "resources/read" => format!(r#""contents":[{{"uri":"{about}","text":"{}"}}]"#, self.name),
            "completion/complete" => format!(r#""completion":{{"values":["{}"]}}"#, self.name),
            method => match self.offer.lock().page(method, params["cursor"].as_str()) {
                Some(page) => page,
                None => return Answer::new(unknown, "application/json", call.error(-32601)),
            },
        };
        Answer::json(call.response(&format!("{head}{members}")))
    }

    fn stream(&self, id: Value, session: Option<&str>, filter: Value, first: Option<String>) -> Answer {
        let (sender, body) = wire::stream();
        if let Some(first) = first {
            // The channel of a new stream has room.
            let _ = futures_util::FutureExt::now_or_never(sender.event(first));
        }
        self.streams.lock().push(Open { id, session: session.map(str::to_owned), filter, sender });
        Answer::of(200, "text/event-stream", body)
    }
}
