//! What an operator may have done: a reload, and a probe of one upstream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode};

use super::named;
use crate::admin::{respond, server::Inner};

pub(super) async fn reload(State(_): State<Arc<Inner>>) -> Response<Body> {
    respond::error(StatusCode::NOT_IMPLEMENTED, "this gateway cannot reload yet; restart it")
}

pub(super) async fn probe(State(state): State<Arc<Inner>>, name: Path<String>) -> Response<Body> {
    match named(&state, &name) {
        Ok(_) => respond::error(StatusCode::NOT_IMPLEMENTED, "this gateway cannot probe yet"),
        Err(refusal) => refusal,
    }
}
