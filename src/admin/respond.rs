//! Answers in JSON, and in words where something is refused.

use std::fmt::Write as _;

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Serialize;

use crate::tls::changes_the_line;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match document(value) {
        Ok(text) => with(status, JSON, text),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin listener could not be written");
            with(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the answer could not be written")
        }
    }
}

/// JSON in which nothing moves or reorders what a terminal shows: what an upstream or a client calls itself is in there.
///
/// # Errors
/// `value` cannot be written as JSON.
pub(super) fn document(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    // Such characters can only stand within strings, where an escape means the same (RFC 8259 §7).
    if !text.chars().any(changes_the_line) {
        return Ok(text);
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if changes_the_line(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped)
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
