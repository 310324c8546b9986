//! Answers in JSON, and in words where something is refused.

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with(status, JSON, bytes),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin listener could not be written");
            with(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the answer could not be written")
        }
    }
}

pub(super) fn error(status: StatusCode, words: &str) -> Response<Body> {
    json(status, &Refusal { error: words })
}

pub(super) fn text(status: StatusCode, words: impl Into<Body>) -> Response<Body> {
    with(status, TEXT, words)
}

/// Nothing here is to be kept: the next moment it is different.
pub(super) fn with(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
