//! Clients that reach for what is another's: each attempt by another principal, and those within one that leave others less.
//!
//! The principals are made by the tests, at the gateway itself.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::sync::Arc;

use bytes::Bytes;
use nexus::{
    auth::{Caller, PrincipalKey},
    gateway::{Client, EventReply, Gateway, GatewayError, LegacySession, ModernClient, Reply},
    mcp::Message,
};
use serde_json::{Value, json};

use crate::support::{
    child::child,
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
};

const META: &str = "io.modelcontextprotocol/";
const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Somebody of a name, at the gateway itself.
struct Person {
    gateway: Arc<Gateway>,
    caller: Caller,
}

impl Person {
    fn new(nexus: &Nexus, name: &str) -> Self {
        Self { gateway: Arc::clone(&nexus.gateway), caller: Caller::of_test(PrincipalKey::of("test", "it", name)) }
    }

    fn message(id: Option<u64>, method: &str, params: &Value) -> Message {
        let mut message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        if let Some(id) = id {
            message["id"] = id.into();
        }
        Message::parse(message.to_string().into()).unwrap()
    }

    async fn send(&self, client: &Client, method: &str, params: &Value) -> Result<Reply, GatewayError> {
        let message = Self::message(Some(1), method, params);
        soon(method, Box::pin(self.gateway.handle(&self.caller, client, message))).await
    }

    /// As a modern client that can be asked for everything and knows tasks.
    async fn open(&self, method: &str, mut params: Value) -> Result<Reply, GatewayError> {
        let capabilities = json!({"elicitation": {}, "sampling": {}, "roots": {}, "extensions": {EXTENSION: {}}});
        params["_meta"][format!("{META}protocolVersion")] = "2026-07-28".into();
        params["_meta"][format!("{META}clientInfo")] = json!({"name": "t", "version": "1"});
        params["_meta"][format!("{META}clientCapabilities")] = capabilities;
        self.send(&Client::Modern(Arc::new(ModernClient::default())), method, &params).await
    }

    async fn ask(&self, method: &str, params: Value) -> Result<Value, GatewayError> {
        last(self.open(method, params).await?).await
    }

    /// Opens a session.
    async fn session(&self) -> Session<'_> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let message = Self::message(Some(0), "initialize", &params);
        let (session, _) = self.gateway.initialize(&self.caller, &message, nexus::gateway::Reach::Here).await.unwrap();
        Session { of: self, session }
    }
}

struct Session<'a> {
    of: &'a Person,
    session: Arc<LegacySession>,
}

impl Session<'_> {
    async fn ask(&self, method: &str, params: Value) -> Result<Value, GatewayError> {
        last(self.of.send(&Client::Legacy(Arc::clone(&self.session)), method, &params).await?).await
    }
}

fn parsed(message: &Bytes) -> Value {
    serde_json::from_slice(message).unwrap()
}

async fn last(reply: Reply) -> Result<Value, GatewayError> {
    match reply {
        Reply::Message { body, .. } => Ok(parsed(&body)),
        Reply::Pieces(pieces) => Ok(parsed(&pieces.concat().into())),
        Reply::Json(_) => panic!("a long document"),
        Reply::Events(mut events) => {
            let mut last = Value::Null;
            while let Some(message) = soon("the next message", events.next()).await {
                last = parsed(&message?);
            }
            Ok(last)
        }
    }
}

fn events(reply: Reply) -> EventReply {
    match reply {
        Reply::Events(events) => *events,
        other => panic!("no stream but {other:?}"),
    }
}

async fn next(events: &mut EventReply) -> Value {
    parsed(&soon("the next message", events.next()).await.unwrap().unwrap())
}

fn is_unknown(answer: &Result<Value, GatewayError>) -> bool {
    matches!(answer, Err(GatewayError::Unknown { .. }))
}

#[tokio::test]
async fn anothers_session_looks_like_none() {
    let nexus = gateway().upstream("crm", legacy().tool("x")).upstream("other", modern()).start().await;
    let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
    let session = ann.session().await;
    let id = session.session.id();
    assert!(nexus.gateway.sessions().find(id, &ann.caller).is_some());
    for other in [&bob.caller, &Caller::local()] {
        assert!(nexus.gateway.sessions().find(id, other).is_none());
    }
    // The endpoint's own callers are nobody in particular, and as little it is theirs.
    let thief = crate::support::client::Client::stranger(nexus.address);
    let thief = thief.header("mcp-session-id", &id.to_string()).header("mcp-protocol-version", "2025-11-25");
    assert_eq!(thief.open("tools/list", json!({})).await.status, 404);
    assert_eq!((thief.get().await.status, thief.delete().await), (http::StatusCode::NOT_FOUND, http::StatusCode::NOT_FOUND));
    assert!(session.ask("tools/call", json!({"name": "crm__x"})).await.unwrap()["result"].is_object());
}

#[tokio::test]
async fn no_upstream_session_and_no_process_carries_two_principals() {
    let kid = child().toml("isolation = \"principal\"");
    let nexus = gateway().upstream("crm", legacy().tool("x")).upstream("kid", kid).start().await;
    let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
    let mut sessions = std::collections::BTreeSet::new();
    for person in [&ann, &bob, &ann, &bob] {
        person.ask("tools/call", json!({"name": "crm__x"})).await.unwrap();
        sessions.insert(nexus.fake("crm").last("tools/call").header("mcp-session-id").unwrap().to_owned());
        person.ask("tools/call", json!({"name": "kid__env"})).await.unwrap();
    }
    assert_eq!(sessions.len(), 2, "one for each of them");
    // Each notes itself and a process of its own.
    assert_eq!(nexus.notes("kid").pids().len(), 2 * 3, "a process for each of them and the gateway's own");
}

#[tokio::test]
async fn anothers_parked_call_can_be_neither_answered_nor_taken_over() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("crm", spec).upstream("other", modern()).start().await;
    let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
    let params = json!({"name": "crm__work", "arguments": {"a": 1}});
    let (asked, (call, server)) = tokio::join!(ann.ask("tools/call", params.clone()), async {
        let (call, server) = soon("the call", streams.recv()).await.unwrap();
        let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}});
        server.event(question.to_string()).await;
        (call, server)
    });
    let asked = asked.unwrap();
    let key = asked["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let mut retry = params.clone();
    retry["requestState"] = asked["result"]["requestState"].clone();
    retry["inputResponses"] = json!({key: {"action": "accept"}});
    for _ in 0..2 {
        assert!(matches!(bob.ask("tools/call", retry.clone()).await, Err(GatewayError::InvalidState)));
    }
    let answers = || nexus.fake("crm").seen().iter().filter(|call| call.json["id"] == "q").count();
    assert_eq!(answers(), 0, "nothing of it reached the server");
    let (answer, ()) = tokio::join!(ann.ask("tools/call", retry), async {
        nexus.fake("crm").arrives("the answer", |call| call.json["id"] == "q").await;
        server.event(call.response(r#""content":[]"#)).await;
    });
    assert!(answer.unwrap()["result"]["content"].is_array());
}

#[tokio::test]
async fn one_principal_leaves_the_others_room_to_wait() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let spec = gateway().tables("[mcp.parked]\nmax_per_principal = 2").upstream("crm", spec).upstream("other", modern());
    let nexus = spec.start().await;
    let (ann, eve) = (Person::new(&nexus, "ann"), Person::new(&nexus, "eve"));
    let mut open = Vec::new();
    for (person, parked) in [(&eve, true), (&eve, true), (&eve, false), (&ann, true)] {
        let (answer, call) = tokio::join!(person.ask("tools/call", json!({"name": "crm__work"})), async {
            let (call, server) = soon("the call", streams.recv()).await.unwrap();
            let question = json!({"jsonrpc": "2.0", "id": open.len(), "method": "elicitation/create", "params": {"message": "?"}});
            server.event(question.to_string()).await;
            if !parked {
                let id = open.len();
                nexus.fake("crm").arrives("the refusal", |call| call.json["id"] == id && call.json["error"].is_object()).await;
                server.event(call.response(r#""content":[]"#)).await;
            }
            server
        });
        let kind = if parked { "input_required" } else { "complete" };
        assert_eq!(answer.unwrap()["result"]["resultType"], kind);
        open.push(call);
    }
}

fn task(id: &str) -> Value {
    json!({"taskId": id, "status": "working", "createdAt": "2026-01-01T00:00:00Z", "ttl": 60000})
}

/// A server of either era that gives every task the id `1`.
fn with_tasks(server: fn() -> FakeSpec) -> FakeSpec {
    let is_modern = server().is_modern();
    let tell = move |call: &crate::support::fake::Call| {
        let mut result = task("1");
        if is_modern {
            result["resultType"] = "complete".into();
        }
        Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
    };
    let declared = if is_modern {
        json!({"extensions": {EXTENSION: {}}})
    } else {
        json!({"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}})
    };
    server()
        .declares(declared)
        .tool("work")
        .on("tools/call", move |call| {
            let result = if is_modern {
                let mut result = task("1");
                result["resultType"] = "task".into();
                result
            } else {
                json!({"task": task("1")})
            };
            Answer::json(json!({"jsonrpc": "2.0", "id": call.id(), "result": result}).to_string())
        })
        .on("tasks/get", tell)
        .on("tasks/cancel", tell)
        .on("tasks/update", tell)
        .on("tasks/list", |call| Answer::json(call.response(r#""tasks":[{"taskId":"1","status":"working"}]"#)))
}

#[tokio::test]
async fn anothers_task_looks_like_none_and_is_not_listed() {
    for prefix in ["", "prefix = \"\""] {
        let spec = gateway().upstream("a", with_tasks(legacy).toml(prefix));
        let nexus = if prefix.is_empty() { spec.upstream("b", legacy()) } else { spec }.start().await;
        let tool = if prefix.is_empty() { "a__work" } else { "work" };
        let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
        let (anns, bobs) = (ann.session().await, bob.session().await);
        let begun = anns.ask("tools/call", json!({"name": tool, "task": {}})).await.unwrap();
        let id = begun["result"]["task"]["taskId"].clone();
        for guess in [id.clone(), json!("1")] {
            for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
                let answer = bobs.ask(method, json!({"taskId": guess})).await;
                assert!(is_unknown(&answer), "{method} {guess}: {answer:?}");
                assert!(nexus.fake("a").seen_of(method).is_empty());
            }
        }
        assert_eq!(bobs.ask("tasks/list", json!({})).await.unwrap()["result"]["tasks"], json!([]));
        assert_eq!(anns.ask("tasks/list", json!({})).await.unwrap()["result"]["tasks"][0]["taskId"], id);
        assert_eq!(anns.ask("tasks/get", json!({"taskId": id})).await.unwrap()["result"]["taskId"], id);
    }
}

#[tokio::test]
async fn anothers_modern_task_looks_like_none_and_is_not_followed() {
    for prefix in ["", "prefix = \"\""] {
        let spec = gateway().upstream("a", with_tasks(modern).toml(prefix));
        let nexus = if prefix.is_empty() { spec.upstream("b", legacy()) } else { spec }.start().await;
        let tool = if prefix.is_empty() { "a__work" } else { "work" };
        let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
        let id = ann.ask("tools/call", json!({"name": tool})).await.unwrap()["result"]["taskId"].clone();
        for guess in [id.clone(), json!("1")] {
            for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
                let answer = bob.ask(method, json!({"taskId": guess, "inputResponses": {}})).await;
                assert!(is_unknown(&answer), "{method} {guess}: {answer:?}");
                assert!(nexus.fake("a").seen_of(method).is_empty());
            }
            let mut listens = events(bob.open("subscriptions/listen", json!({"notifications": {"taskIds": [guess]}})).await.unwrap());
            assert_eq!(next(&mut listens).await["params"]["notifications"], json!({}), "nothing of it is honoured");
        }
        assert_eq!(ann.ask("tasks/get", json!({"taskId": id})).await.unwrap()["result"]["taskId"], id);
    }
}

#[tokio::test]
async fn of_anothers_subscription_nobody_hears_and_nobody_ends_it() {
    let spec = legacy().declares(json!({"resources": {"subscribe": true}})).resource("doc://a").get_stream();
    let spec = spec
        .on("resources/subscribe", |call| Answer::json(call.response("")))
        .on("resources/unsubscribe", |call| Answer::json(call.response("")));
    let nexus = gateway().upstream("crm", spec).upstream("other", modern()).start().await;
    let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
    let wanted = json!({"notifications": {"resourceSubscriptions": ["doc://a"]}});
    let mut of_ann = events(ann.open("subscriptions/listen", wanted.clone()).await.unwrap());
    assert_eq!(next(&mut of_ann).await["params"]["notifications"], wanted["notifications"]);
    let session = nexus.fake("crm").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    let mut of_bob = events(bob.open("subscriptions/listen", wanted.clone()).await.unwrap());
    assert_eq!(next(&mut of_bob).await["params"]["notifications"], wanted["notifications"]);
    let other = nexus.fake("crm").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    assert_ne!(session, other, "each in a session of his own");
    let updated = |note: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "doc://a", "note": note}}).to_string()
    };
    nexus.fake("crm").stream_of(&session).await.event(updated("for ann")).await;
    nexus.fake("crm").stream_of(&other).await.event(updated("for bob")).await;
    assert_eq!(next(&mut of_bob).await["params"]["note"], "for bob");
    assert_eq!(next(&mut of_ann).await["params"]["note"], "for ann");
    drop(of_bob);
    until("the end of one", || !nexus.fake("crm").seen_of("resources/unsubscribe").is_empty()).await;
    assert_eq!(nexus.fake("crm").last("resources/unsubscribe").header("mcp-session-id"), Some(&*other));
    nexus.fake("crm").stream_of(&session).await.event(updated("still")).await;
    assert_eq!(next(&mut of_ann).await["params"]["note"], "still");
}

#[tokio::test]
async fn a_link_that_another_was_given_leads_nowhere() {
    let giving = legacy()
        .tool("x")
        .template("crm://{id}")
        .on("tools/call", |call| Answer::json(call.response(r#""content":[{"type":"resource_link","uri":"secret://of-ann","name":"s"}]"#)));
    let giving = giving.on("resources/read", |call| Answer::json(call.response(r#""contents":[{"uri":"secret://of-ann","text":"s"}]"#)));
    let nexus = gateway().upstream("crm", giving).upstream("other", modern().resource("other://r")).start().await;
    let (ann, bob) = (Person::new(&nexus, "ann"), Person::new(&nexus, "bob"));
    let (anns, bobs) = (ann.session().await, bob.session().await);
    anns.ask("tools/call", json!({"name": "crm__x"})).await.unwrap();
    let answer = bobs.ask("resources/read", json!({"uri": "secret://of-ann"})).await;
    assert!(is_unknown(&answer), "{answer:?}");
    assert!(nexus.fake("crm").seen_of("resources/read").is_empty());
    assert!(anns.ask("resources/read", json!({"uri": "secret://of-ann"})).await.unwrap()["result"]["contents"].is_array());
}
