//! Somebody who asks the admin listener.

#![allow(clippy::unwrap_used, reason = "an operator who cannot ask has failed the test")]

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::Value;

use super::{
    client::{Response, send},
    wire,
};

pub(crate) struct Operator {
    address: SocketAddr,
    headers: Vec<(&'static str, String)>,
}

impl Operator {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn showing(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) -> Response {
        let mut request = Request::new(wire::full(""));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        send(self.address, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Response {
        self.ask(Method::POST, path).await
    }

    pub(crate) async fn status(&self, path: &str) -> StatusCode {
        self.get(path).await.status
    }

    /// A document of the API.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let (status, text) = (response.status, response.text().await);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}
