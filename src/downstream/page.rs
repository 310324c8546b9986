//! What web pages need beside the answers: a question before the request, and leave to read. And what they need to send.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::ORIGIN};

use super::{
    ServerConfig,
    rescue::{Rescued, refusal},
    streamable_http::{Answer, Endpoint, empty, not_allowed, respond_error, with_json},
};
use crate::mcp::errors::code;

/// `OPTIONS`: a browser asks what a page may send. Before anything else, since it sends no credentials with it (Fetch standard,
/// CORS-preflight fetch).
pub(super) async fn options(State(endpoint): State<Arc<Endpoint>>, request: Request<Body>) -> Response<Body> {
    if let Err(refused) = endpoint.knock(&request) {
        return respond_error(&refused);
    }
    let answer = endpoint.page(&request).and_then(|page| page.server.cors.as_ref()?.preflight(&page.origin, request.headers()));
    answer.unwrap_or_else(not_allowed)
}

/// `GET` of the metadata that says how to get a token (RFC 9728 §3). Not secret, and asked for before there is a token.
pub(super) async fn metadata(State(endpoint): State<Arc<Endpoint>>, request: Request<Body>) -> Response<Body> {
    let answer = match endpoint.callers.metadata() {
        Some(document) => with_json(StatusCode::OK, Body::from(document)),
        None => empty(StatusCode::NOT_FOUND),
    };
    answered(Ok(answer), endpoint.page(&request))
}

/// A web page of another origin, where such may read answers at all.
#[derive(Debug)]
pub(super) struct Page {
    server: Arc<ServerConfig>,
    origin: HeaderValue,
}

/// An answer as it goes out.
pub(super) fn answered(answer: Answer, page: Option<Page>) -> Response<Body> {
    let mut response = answer.unwrap_or_else(|rescued| respond_error(&rescued));
    if let Some(Page { server, origin }) = page
        && let Some(cors) = &server.cors
    {
        cors.share(&origin, response.headers_mut());
    }
    response
}

impl Endpoint {
    /// The page that asks, where answers are shared with any.
    pub(super) fn page(&self, request: &Request<Body>) -> Option<Page> {
        let origin = request.headers().get(ORIGIN)?.clone();
        let server = self.server.now();
        server.cors.is_some().then_some(Page { server, origin })
    }

    /// What changes something must not come from a page that a browser never asked about.
    pub(super) fn check_intent(&self, headers: &HeaderMap) -> Result<(), Rescued> {
        if self.server.is_intended(headers) {
            return Ok(());
        }
        Err(refusal(StatusCode::FORBIDDEN, code::INVALID_REQUEST, "a browser's request needs the header that server.csrf names"))
    }
}
