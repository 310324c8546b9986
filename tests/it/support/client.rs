//! Clients of the gateway, written by hand so that every byte is the test's.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a client that cannot speak has failed its test")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{
    soon,
    wire::{self, Body},
};

pub(crate) const LEGACY: &str = "2025-11-25";
pub(crate) const MODERN: &str = "2026-07-28";

/// One response while it comes. Dropping it hangs up.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
    connection: JoinHandle<()>,
}

impl Drop for Response {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Response {
    pub(crate) fn is_stream(&self) -> bool {
        self.content_type() == "text/event-stream"
    }

    pub(crate) fn content_type(&self) -> &str {
        self.headers.get("content-type").map_or("", |value| value.to_str().unwrap())
    }

    /// What the connection brings next, as it is; `None` at the end.
    pub(crate) async fn next_bytes(&mut self) -> Option<Bytes> {
        self.body.frame().await?.ok()?.into_data().ok()
    }

    /// The whole body; an error where it breaks off.
    pub(crate) async fn try_bytes(mut self) -> Result<Bytes, hyper::Error> {
        while let Some(frame) = soon("the rest of the body", self.body.frame()).await {
            self.buffer.extend_from_slice(frame?.data_ref().unwrap());
        }
        Ok(self.buffer.split().freeze())
    }

    pub(crate) async fn text(self) -> String {
        String::from_utf8(self.try_bytes().await.unwrap().to_vec()).unwrap()
    }

    /// The next event's data; `None` at the end.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        assert!(self.is_stream(), "{} {}", self.status, self.content_type());
        loop {
            match wire::take_event(&mut self.buffer) {
                Some(Some(data)) => return Some(data),
                Some(None) => {}
                None => match soon("the next event", self.body.frame()).await?.ok()?.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(_) => return None,
                },
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.next_text().await.map(|text| serde_json::from_str(&text).unwrap())
    }

    /// All messages, of a stream or a document, as they were written.
    pub(crate) async fn texts(mut self) -> Vec<String> {
        if !self.is_stream() {
            return vec![self.text().await];
        }
        let mut all = Vec::new();
        while let Some(text) = self.next_text().await {
            all.push(text);
        }
        all
    }

    /// The last message, which is the answer.
    pub(crate) async fn answer(self) -> Value {
        let status = self.status;
        let texts = self.texts().await;
        let last = texts.last().map(String::as_str).unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|_| panic!("no answer but {status} {texts:?}"))
    }
}

/// Sends one request over a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Response {
    try_send(address, request).await.unwrap()
}

pub(crate) async fn try_send(address: SocketAddr, mut request: Request<Body>) -> Result<Response, hyper::Error> {
    request.headers_mut().entry("host").or_insert_with(|| HeaderValue::try_from(address.to_string()).unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::Builder::new().max_buf_size(1 << 20).handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // It ends with the response, or with the test.
        let _ = connection.await;
    });
    let hang_up = HangUp(Some(connection));
    let response = soon("a response", sender.send_request(request)).await?;
    let (parts, body) = response.into_parts();
    Ok(Response { status: parts.status, headers: parts.headers, body, buffer: BytesMut::new(), connection: hang_up.keep() })
}

/// Hangs up when the wait for a response is given up.
struct HangUp(Option<JoinHandle<()>>);

impl HangUp {
    fn keep(mut self) -> JoinHandle<()> {
        self.0.take().unwrap()
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

/// A client of either era.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) headers: HeaderMap,
    modern: bool,
    next_id: AtomicU64,
}

impl Client {
    fn new(address: SocketAddr, modern: bool) -> Self {
        Self { address, path: "/mcp", headers: HeaderMap::new(), modern, next_id: AtomicU64::new(1) }
    }

    pub(crate) fn modern(address: SocketAddr) -> Self {
        Self::new(address, true).header("mcp-protocol-version", MODERN)
    }

    /// A legacy client without a session.
    pub(crate) fn stranger(address: SocketAddr) -> Self {
        Self::new(address, false)
    }

    /// Opens a session.
    pub(crate) async fn legacy(address: SocketAddr, capabilities: Value) -> Self {
        Self::stranger(address).begin(capabilities).await
    }

    /// Opens a session with the headers that it sends anyway.
    pub(crate) async fn begin(self, capabilities: Value) -> Self {
        let client = self;
        let params = json!({"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}});
        let response = client.open("initialize", params).await;
        let session = response.headers.get("mcp-session-id").cloned();
        let status = response.status;
        let answer = response.answer().await;
        assert_eq!(answer["result"]["protocolVersion"], LEGACY, "{status} {answer}");
        let client = client.header("mcp-session-id", session.unwrap().to_str().unwrap()).header("mcp-protocol-version", LEGACY);
        assert_eq!(client.notify("notifications/initialized", json!({})).await, StatusCode::ACCEPTED);
        client
    }

    /// The same client once more: the same session, ids of its own.
    pub(crate) fn twin(&self) -> Self {
        Self { headers: self.headers.clone(), next_id: AtomicU64::new(1_000_000), ..*self }
    }

    /// The same at another replica.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.twin() }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// With a token of its own.
    #[must_use]
    pub(crate) fn bearing(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn is_modern(&self) -> bool {
        self.modern
    }

    pub(crate) fn session(&self) -> &str {
        self.headers["mcp-session-id"].to_str().unwrap()
    }

    /// An HTTP request with the headers that this client sends anyway.
    pub(crate) fn request(&self, method: Method, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.path.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.entry("accept").or_insert(HeaderValue::from_static("application/json, text/event-stream"));
        headers.entry("content-type").or_insert(HeaderValue::from_static("application/json"));
        request
    }

    /// Posts these very bytes.
    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Response {
        send(self.address, self.request(Method::POST, wire::full(body))).await
    }

    /// Posts these very bytes, with the headers that repeat a modern request's method and name.
    pub(crate) async fn post_named(&self, method: &str, name: Option<&str>, body: impl Into<Bytes>) -> Response {
        self.try_post_named(method, name, body).await.unwrap()
    }

    async fn try_post_named(&self, method: &str, name: Option<&str>, body: impl Into<Bytes>) -> Result<Response, hyper::Error> {
        let mut request = self.request(Method::POST, wire::full(body));
        if self.modern {
            request.headers_mut().insert("mcp-method", HeaderValue::from_str(method).unwrap());
            if let Some(name) = name {
                request.headers_mut().insert("mcp-name", HeaderValue::from_str(name).unwrap());
            }
        }
        try_send(self.address, request).await
    }

    /// Sends a request with this id and waits for the beginning of the answer.
    pub(crate) async fn open_as(&self, id: Value, method: &str, params: Value) -> Response {
        self.try_open_as(id, method, params).await.unwrap()
    }

    /// The same, where the connection may break off instead.
    pub(crate) async fn try_open_as(&self, id: Value, method: &str, mut params: Value) -> Result<Response, hyper::Error> {
        if self.modern {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
            if meta["io.modelcontextprotocol/clientCapabilities"].is_null() {
                meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            }
        }
        let name = params["name"].as_str().or_else(|| params["uri"].as_str()).or_else(|| params["taskId"].as_str()).map(str::to_owned);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        self.try_post_named(method, name.as_deref(), body).await
    }

    pub(crate) async fn open(&self, method: &str, params: Value) -> Response {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.open_as(id.into(), method, params).await
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        self.open(method, params).await.answer().await
    }

    pub(crate) async fn call(&self, tool: &str) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": {}})).await
    }

    /// The names in a list, as listed.
    pub(crate) async fn list(&self, kind: &str) -> Vec<String> {
        let answer = self.ask(&format!("{kind}/list"), json!({})).await;
        assert_eq!(answer["result"]["nextCursor"], Value::Null, "one page only");
        names(&answer["result"][kind])
    }

    pub(crate) async fn notify(&self, method: &str, params: Value) -> StatusCode {
        self.post(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()).await.status
    }

    /// Answers a server's request.
    pub(crate) async fn reply(&self, id: &Value, result: Value) -> StatusCode {
        self.post(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()).await.status
    }

    /// Opens the stream of messages that answer no request.
    pub(crate) async fn get(&self) -> Response {
        send(self.address, self.request(Method::GET, wire::full(""))).await
    }

    pub(crate) async fn delete(&self) -> StatusCode {
        send(self.address, self.request(Method::DELETE, wire::full(""))).await.status
    }
}

pub(crate) fn names(items: &Value) -> Vec<String> {
    let key = |item: &Value| ["name", "uri", "uriTemplate"].iter().find_map(|key| item[*key].as_str().map(str::to_owned));
    items.as_array().unwrap_or_else(|| panic!("no list but {items}")).iter().filter_map(key).collect()
}

/// The text of a tool's result.
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {answer}"))
}
