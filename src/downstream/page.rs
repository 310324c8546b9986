//! What web pages need beside the answers: a question before the request, and leave to read. And what they need to send.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::ORIGIN};

use super::{
    ServerConfig,
    rescue::{Rescued, refusal},
    streamable_http::{Endpoint, empty, with_json},
    turned_away::TurnedAway,
};
use crate::mcp::errors::code;

/// The answer to a browser that asks what a page may send; `None`: the page may not, or it was no such question.
pub(super) fn preflight(endpoint: &Endpoint, request: &Request<Body>, page: Option<&Page>) -> Option<Response<Body>> {
    if let Err(refused) = endpoint.check(request) {
        return Some(endpoint.turn_away(refused, endpoint.audited_address(request)));
    }
    let page = page?;
    page.server.cors.as_ref()?.preflight(&page.origin, request.headers())
}

/// The metadata that says how to get a token (RFC 9728 §3). Not secret, and asked for before there is a token.
pub(super) fn metadata(endpoint: &Endpoint) -> Response<Body> {
    match endpoint.callers.metadata() {
        Some(document) => with_json(StatusCode::OK, Body::from(document)),
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// A web page of another origin, where such may read answers at all.
#[derive(Debug)]
pub(super) struct Page {
    server: Arc<ServerConfig>,
    origin: HeaderValue,
}

impl Page {
    /// Lets the page read an answer, if it may.
    pub(super) fn share(&self, response: &mut Response<Body>) {
        if let Some(cors) = &self.server.cors {
            cors.share(&self.origin, response.headers_mut());
        }
    }
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
        let words = "a browser's request needs the header that server.csrf names";
        Err(Rescued { turned_away: Some(TurnedAway::Door("csrf").into()), ..refusal(StatusCode::FORBIDDEN, code::INVALID_REQUEST, words) })
    }
}
