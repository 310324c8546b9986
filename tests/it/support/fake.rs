//! A fake MCP server over HTTP that does what its test tells it, and notes everything that reaches it.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a fake that cannot serve has failed its test")]

mod sse;
mod state;
mod ticking;

pub(crate) use ticking::stream_until_the_next_tick;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use self::state::{Eras, Open, State};
use super::{
    offer::{Offer, tool},
    soon,
    tls_peer::Shown,
    wire::{self, Body, Sender},
};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    pub(crate) json: Value,
}

impl Call {
    pub(crate) fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &Value {
        &self.json["id"]
    }

    pub(crate) fn params(&self) -> &Value {
        &self.json["params"]
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).unwrap()
    }

    /// The response with these raw members in its result.
    pub(crate) fn response(&self, members: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{{members}}}}}"#, self.id())
    }

    pub(crate) fn error(&self, code: i64) -> String {
        json!({"jsonrpc": "2.0", "id": self.id(), "error": {"code": code, "message": "no", "data": {"kept": 1}}}).to_string()
    }

    pub(crate) fn progress(&self, progress: u32) -> String {
        let token = &self.params()["_meta"]["progressToken"];
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": progress}}).to_string()
    }
}

/// What a fake answers.
pub(crate) struct Answer(http::Response<Body>);

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::of(status, content_type, wire::full(body))
    }

    pub(crate) fn of(status: u16, content_type: &'static str, body: Body) -> Self {
        let mut response = http::Response::new(body);
        *response.status_mut() = status.try_into().unwrap();
        if !content_type.is_empty() {
            response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
        }
        Self(response)
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::new(200, "application/json", body)
    }

    pub(crate) fn events<M: AsRef<str>>(messages: impl IntoIterator<Item = M>) -> Self {
        Self::new(200, "text/event-stream", messages.into_iter().map(wire::event).collect::<String>())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, "", "")
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        self
    }
}

type Handler = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// What is answered before anything else.
type Before = Arc<dyn Fn(&Call) -> Option<Answer> + Send + Sync>;

/// A stream that a call is answered with, and the call.
pub(crate) type Streams = mpsc::UnboundedReceiver<(Call, Sender)>;
/// A call that waits for its answer. The sender notices when the caller hangs up.
pub(crate) type Held = mpsc::UnboundedReceiver<(Call, oneshot::Sender<Answer>)>;

/// A fake server to be.
pub(crate) struct FakeSpec {
    eras: Eras,
    offer: Offer,
    handlers: HashMap<String, Handler>,
    get_stream: bool,
    sse: bool,
    refuses_posts: Vec<String>,
    checks_sessions: bool,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    declares: Value,
    starts_down: bool,
    before: Option<Before>,
    pub(crate) toml: String,
}

/// A server of the eras up to 2025-11-25, with sessions.
pub(crate) fn legacy() -> FakeSpec {
    FakeSpec {
        eras: Eras::Legacy,
        offer: Offer::default(),
        handlers: HashMap::new(),
        get_stream: false,
        sse: false,
        refuses_posts: Vec::new(),
        checks_sessions: true,
        acceptor: None,
        declares: json!({}),
        starts_down: false,
        before: None,
        toml: String::new(),
    }
}

/// A server of the HTTP+SSE transport of 2024-11-05 and nothing else.
pub(crate) fn sse() -> FakeSpec {
    FakeSpec { sse: true, ..legacy() }
}

/// A server of 2026-07-28 and nothing else.
pub(crate) fn modern() -> FakeSpec {
    FakeSpec { eras: Eras::Modern, ..legacy() }
}

/// A server that answers each client in its own era.
pub(crate) fn dual() -> FakeSpec {
    FakeSpec { eras: Eras::Both, ..legacy() }
}

impl FakeSpec {
    pub(crate) fn is_modern(&self) -> bool {
        self.eras == Eras::Modern
    }

    pub(crate) fn tool(self, name: &str) -> Self {
        self.raw_tool(&tool(name))
    }

    pub(crate) fn raw_tool(mut self, item: &str) -> Self {
        self.offer.tools.push(item.to_owned());
        self
    }

    pub(crate) fn prompt(mut self, name: &str) -> Self {
        self.offer.prompts.push(json!({"name": name}).to_string());
        self
    }

    pub(crate) fn resource(mut self, uri: &str) -> Self {
        self.offer.resources.push(json!({"uri": uri, "name": uri}).to_string());
        self
    }

    pub(crate) fn template(mut self, uri: &str) -> Self {
        self.offer.templates.push(json!({"uriTemplate": uri, "name": uri}).to_string());
        self
    }

    /// Items a page.
    pub(crate) fn page(mut self, items: usize) -> Self {
        self.offer.page = Some(items);
        self
    }

    /// A legacy server that offers the GET stream.
    pub(crate) fn get_stream(mut self) -> Self {
        self.get_stream = true;
        self
    }

    /// An SSE server that does not take the POSTs of a method.
    pub(crate) fn refuses_posts(mut self, method: &str) -> Self {
        self.refuses_posts.push(method.to_owned());
        self
    }

    /// A legacy server that takes any session id, because the test hands them out.
    pub(crate) fn unchecked_sessions(mut self) -> Self {
        self.checks_sessions = false;
        self
    }

    /// Further members of its capabilities.
    pub(crate) fn declares(mut self, members: Value) -> Self {
        self.declares = members;
        self
    }

    /// It takes no connection until it comes back.
    pub(crate) fn starts_down(mut self) -> Self {
        self.starts_down = true;
        self
    }

    /// Further lines in its table of the configuration.
    pub(crate) fn toml(mut self, lines: &str) -> Self {
        self.toml.push_str(lines);
        self.toml.push('\n');
        self
    }

    /// The same in front of its other lines and tables.
    pub(crate) fn first_toml(mut self, lines: &str) -> Self {
        self.toml.insert_str(0, &format!("{lines}\n"));
        self
    }

    /// Answers whatever comes, before anything else, with what this gives.
    pub(crate) fn before(mut self, answer: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) -> Self {
        self.before = Some(Arc::new(answer));
        self
    }

    pub(crate) fn https(mut self, config: rustls::ServerConfig) -> Self {
        self.acceptor = Some(Arc::new(config).into());
        self
    }

    /// Answers a method, or a verb such as `GET`, in another way.
    pub(crate) fn on(mut self, method: &str, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        self.handlers.insert(
            method.to_owned(),
            Arc::new(move |call| {
                let answer = Arc::clone(&answer);
                Box::pin(async move { answer(&call) })
            }),
        );
        self
    }

    /// Hands every call of a method to the test, to be answered when it likes.
    pub(crate) fn held(mut self, method: &str) -> (Self, Held) {
        let (tx, rx) = mpsc::unbounded_channel();
        let hold = move |call| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            let (answer, answered) = oneshot::channel();
            let _ = tx.send((call, answer));
            Box::pin(async { answered.await.unwrap_or_else(|_| Answer::status(500)) })
        };
        self.handlers.insert(method.to_owned(), Arc::new(hold));
        (self, rx)
    }

    /// Answers every call of a method with a stream that the test writes.
    pub(crate) fn streamed(mut self, method: &str) -> (Self, Streams) {
        let (tx, rx) = mpsc::unbounded_channel();
        let open = move |call| -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            let (sender, body) = wire::stream();
            let _ = tx.send((call, sender));
            Box::pin(async { Answer::of(200, "text/event-stream", body) })
        };
        self.handlers.insert(method.to_owned(), Arc::new(open));
        (self, rx)
    }

    pub(crate) async fn start(self, name: &str) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            eras: self.eras,
            get_stream: self.get_stream,
            sse: self.sse,
            refuses_posts: Mutex::new(self.refuses_posts),
            checks_sessions: self.checks_sessions,
            offer: Mutex::new(self.offer),
            handlers: Mutex::new(self.handlers),
            before: self.before,
            seen: watch::Sender::new(Vec::new()),
            sessions: Mutex::default(),
            opened: AtomicUsize::new(0),
            streams: Mutex::default(),
            down: AtomicBool::new(self.starts_down),
            connections: watch::Sender::new(0),
            declares: self.declares,
            acceptor: Mutex::new(self.acceptor),
            shown: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let is_tls = state.acceptor.lock().is_some();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut cut = shared.connections.subscribe();
            loop {
                let stream = tokio::select! {
                    Ok((stream, _)) = listener.accept() => stream,
                    Ok(()) = cut.changed() => {
                        connections.abort_all();
                        continue;
                    }
                    else => break,
                };
                // A server that is down takes no connection; this is as near as a listener comes that keeps its port.
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let shared = Arc::clone(&shared);
                let acceptor = shared.acceptor.lock().clone();
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, shared).await,
                        Some(acceptor) => {
                            // A client that does not like our certificate goes away.
                            if let Ok(stream) = acceptor.accept(stream).await {
                                let alive = Arc::new(());
                                shared.shown.lock().push((Shown::of(stream.get_ref().1), Arc::downgrade(&alive)));
                                serve(stream, shared).await;
                                drop(alive);
                            }
                        }
                    }
                });
            }
        });
        Fake { address, is_tls, path: if self.sse { "sse" } else { "mcp" }, state, serving }
    }
}

/// What is needed of a message that holds what a `Value` cannot: a number beyond its range, half of a character.
fn leniently(raw: &Bytes) -> Value {
    let Ok(message) = nexus::mcp::Message::parse(raw.clone()) else { return Value::Null };
    let id = message.id().and_then(|id| serde_json::from_slice(id.as_json()).ok());
    json!({"id": id.unwrap_or(Value::Null), "method": message.method(), "params": {}})
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (parts, body) = request.into_parts();
            let raw = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let json = serde_json::from_slice(&raw).unwrap_or_else(|_| leniently(&raw));
            let call = Call { verb: parts.method, path: parts.uri.to_string(), headers: parts.headers, raw, json };
            let answer = if state.sse { state.answer_sse(call).await } else { state.answer(call).await };
            Ok::<_, Infallible>(answer.0)
        }
    });
    // A client that hangs up is no failure of the test.
    let _ = http1::Builder::new().half_close(false).serve_connection(TokioIo::new(stream), service).await;
}

/// A running fake; ends with its owner.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    is_tls: bool,
    path: &'static str,
    state: Arc<State>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fake {
    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}/{}", if self.is_tls { "https" } else { "http" }, self.address.port(), self.path)
    }

    /// Everything that arrived so far.
    pub(crate) fn seen(&self) -> Vec<Call> {
        self.state.seen.borrow().clone()
    }

    pub(crate) fn seen_of(&self, method: &str) -> Vec<Call> {
        let is = |call: &Call| if call.verb == Method::POST { call.method() == method } else { call.verb.as_str() == method };
        self.seen().into_iter().filter(is).collect()
    }

    /// The last call of a method.
    pub(crate) fn last(&self, method: &str) -> Call {
        self.seen_of(method).pop().unwrap_or_else(|| panic!("no {method} arrived"))
    }

    /// Waits for a request that `wanted` recognises.
    pub(crate) async fn arrives(&self, what: &str, wanted: impl Fn(&Call) -> bool) -> Call {
        let mut seen = self.state.seen.subscribe();
        let found = soon(what, seen.wait_for(|seen| seen.iter().any(&wanted))).await.unwrap().iter().find(|call| wanted(call)).cloned();
        found.unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Offer)) {
        change(&mut self.state.offer.lock());
    }

    /// Answers a method in another way from now on.
    pub(crate) fn now_on(&self, method: &str, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let handler: Handler = Arc::new(move |call| {
            let answer = Arc::clone(&answer);
            Box::pin(async move { answer(&call) })
        });
        self.state.handlers.lock().insert(method.to_owned(), handler);
    }

    /// Says that the tools changed, on every open stream; waits for one first.
    pub(crate) async fn tools_changed(&self) {
        super::until("a stream for changes", || self.state.streams.lock().iter().any(|open| !open.sender.is_gone())).await;
        let streams = self.state.streams.lock().clone();
        for Open { id, sender, .. } in streams {
            let params = if id.is_null() { json!({}) } else { json!({"_meta": {"io.modelcontextprotocol/subscriptionId": id}}) };
            sender.event(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params}).to_string()).await;
        }
    }

    /// The GET stream of a session, once it is open.
    pub(crate) async fn stream_of(&self, session: &str) -> Sender {
        let find = || {
            let streams = self.state.streams.lock();
            let mut of_session = streams.iter().filter(|open| open.session.as_deref() == Some(session) && !open.sender.is_gone());
            of_session.next().map(|open| open.sender.clone())
        };
        super::until("the session's stream", || find().is_some()).await;
        find().unwrap()
    }

    /// An open subscription whose filter `wanted` recognises, once there is one: its id and its stream.
    pub(crate) async fn subscription(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> (Value, Sender) {
        let find = || {
            let streams = self.state.streams.lock();
            let mut found = streams.iter().filter(|open| wanted(&open.filter) && !open.sender.is_gone());
            found.next().map(|open| (open.id.clone(), open.sender.clone()))
        };
        super::until(what, || find().is_some()).await;
        find().unwrap()
    }

    /// Forgets all sessions, as a restarted server does.
    pub(crate) fn forget_sessions(&self) {
        self.state.sessions.lock().clear();
    }

    /// What each TLS connection so far was shown.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.state.shown.lock().iter().map(|(shown, _)| shown.clone()).collect()
    }

    /// The same of those that are open now.
    pub(crate) fn shown_now(&self) -> Vec<Shown> {
        self.state.shown.lock().iter().filter(|(_, alive)| alive.strong_count() > 0).map(|(shown, _)| shown.clone()).collect()
    }

    /// Serves new connections as this says.
    pub(crate) fn serve_as(&self, config: rustls::ServerConfig) {
        *self.state.acceptor.lock() = Some(Arc::new(config).into());
    }

    /// Cuts all connections and takes no other.
    pub(crate) fn go_down(&self) {
        self.state.down.store(true, Ordering::SeqCst);
        self.state.streams.lock().clear();
        self.state.connections.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn come_back(&self) {
        self.forget_sessions();
        self.state.down.store(false, Ordering::SeqCst);
    }
}
