//! Which part of the program a path belongs to. The paths are those of the configuration at the moment of the request.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};

use super::{
    LiveServer, ServerConfig,
    legacy_sse::{self, messages_path},
    page::{self, Page},
    streamable_http::{self, Endpoint, empty},
};
use crate::{auth::Challenge, gateway::McpConfig};

/// What is served at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Mcp,
    Sse,
    SseMessages,
    /// How to get a token.
    Metadata,
    Health,
    Nothing,
}

impl Place {
    fn of(path: &str, mcp: &McpConfig, server: &ServerConfig) -> Self {
        let sse_path = mcp.sse_path.as_deref().filter(|_| mcp.enabled);
        if mcp.enabled && path == mcp.path {
            Self::Mcp
        } else if sse_path == Some(path) {
            Self::Sse
        } else if sse_path.is_some_and(|sse_path| path == messages_path(sse_path)) {
            Self::SseMessages
        } else if server.health.listen.is_none() && is_health(path, server) {
            Self::Health
        } else if mcp.enabled && Challenge::is_metadata(path, &mcp.path) {
            Self::Metadata
        } else {
            Self::Nothing
        }
    }
}

fn is_health(path: &str, server: &ServerConfig) -> bool {
    server.health.enabled && path == server.health.path
}

/// Everything that clients reach.
pub(super) fn all(endpoint: Arc<Endpoint>) -> Router {
    Router::new().fallback(route).with_state(endpoint)
}

/// Health alone, for its own listener.
pub(super) fn health(server: LiveServer) -> Router {
    Router::new().fallback(health_only).with_state(server)
}

async fn route(State(endpoint): State<Arc<Endpoint>>, request: Request<Body>) -> Response<Body> {
    match Place::of(request.uri().path(), &endpoint.gateway.config(), &endpoint.server.now()) {
        Place::Health => healthy(request.method()),
        Place::Nothing => empty(StatusCode::NOT_FOUND),
        place => {
            let page = endpoint.page(&request);
            let mut response = answer(&endpoint, place, request, page.as_ref()).await;
            if let Some(page) = page {
                page.share(&mut response);
            }
            response
        }
    }
}

/// What pages of other origins may read, where `[server.cors]` says so.
async fn answer(endpoint: &Arc<Endpoint>, place: Place, request: Request<Body>, page: Option<&Page>) -> Response<Body> {
    let methods = match place {
        Place::Mcp => "GET,POST,DELETE",
        Place::SseMessages => "POST",
        Place::Sse | Place::Metadata | Place::Health | Place::Nothing => "GET",
    };
    match (place, request.method()) {
        (Place::Mcp, &Method::POST) => streamable_http::post(endpoint, request).await,
        (Place::Mcp, &Method::GET) => Box::pin(streamable_http::get(endpoint, request)).await,
        (Place::Mcp, &Method::DELETE) => Box::pin(streamable_http::delete(endpoint, request)).await,
        (Place::Sse, &Method::GET) => Box::pin(legacy_sse::open(endpoint, request)).await,
        (Place::SseMessages, &Method::POST) => Box::pin(legacy_sse::post(endpoint, request)).await,
        (Place::Metadata, &Method::GET | &Method::HEAD) => page::metadata(endpoint),
        // Before any credential is looked at, since a browser sends none with it (Fetch standard, CORS-preflight fetch).
        (_, &Method::OPTIONS) => page::preflight(endpoint, &request, page).unwrap_or_else(|| not_allowed(methods)),
        _ => not_allowed(methods),
    }
}

async fn health_only(State(server): State<LiveServer>, request: Request<Body>) -> Response<Body> {
    if is_health(request.uri().path(), &server.now()) { healthy(request.method()) } else { empty(StatusCode::NOT_FOUND) }
}

/// Liveness; never depends on upstreams.
fn healthy(method: &Method) -> Response<Body> {
    // hyper sends no body in answer to HEAD.
    if *method != Method::GET && *method != Method::HEAD {
        return not_allowed("GET,HEAD");
    }
    let mut response = Response::new(Body::from(r#"{"status":"healthy"}"#));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// RFC 9110 §15.5.6.
fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
