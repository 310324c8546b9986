//! A client of 2024-11-05, which speaks HTTP+SSE, written by hand.

#![allow(clippy::unwrap_used, reason = "a client that cannot speak has failed its test")]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{
    client::{Response, send},
    wire,
};

pub(crate) struct OldClient {
    pub(crate) address: SocketAddr,
    /// Where messages are posted.
    pub(crate) messages: String,
    /// Everything that the server says.
    pub(crate) stream: Response,
    next_id: AtomicU64,
}

fn request(method: Method, path: &str, body: String) -> Request<wire::Body> {
    let mut request = Request::new(wire::full(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    request
}

impl OldClient {
    /// Opens the stream at `/sse`.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut request = request(Method::GET, "/sse", String::new());
        request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
        let mut stream = send(address, request).await;
        let messages = stream.next_text().await.unwrap();
        Self { address, messages, stream, next_id: AtomicU64::new(1) }
    }

    /// Opens the stream and a session.
    pub(crate) async fn open(address: SocketAddr, version: &str) -> Self {
        let mut client = Self::connect(address).await;
        let capabilities = json!({"roots": {}, "sampling": {}, "elicitation": {}});
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "old", "version": "1"}});
        let greeting = client.ask("initialize", params).await;
        assert_eq!(greeting["result"]["protocolVersion"], version, "{greeting}");
        assert_eq!(client.post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.status, StatusCode::ACCEPTED);
        client
    }

    /// The same client, which posts elsewhere.
    #[must_use]
    pub(crate) fn posting_to(mut self, messages: String) -> Self {
        self.messages = messages;
        self
    }

    pub(crate) async fn post(&self, message: impl ToString) -> Response {
        send(self.address, request(Method::POST, &self.messages, message.to_string())).await
    }

    /// Sends a request and gives its id.
    pub(crate) async fn begin(&self, method: &str, params: Value) -> Value {
        let id = json!(self.next_id.fetch_add(1, Ordering::Relaxed));
        let response = self.post(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        assert_eq!(response.status, StatusCode::ACCEPTED);
        id
    }

    /// The next message of the stream.
    pub(crate) async fn hears(&mut self) -> Value {
        self.stream.next().await.expect("the stream goes on")
    }

    /// Sends a request and waits for its answer; what comes before is passed over.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        loop {
            let message = self.hears().await;
            if message["id"] == id && message["method"].is_null() {
                return message;
            }
        }
    }

    pub(crate) async fn call(&mut self, tool: &str) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": {}})).await
    }
}
