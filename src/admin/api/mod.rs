//! The JSON API of operators, version 1.

mod actions;
mod certificates;
mod events;
mod sessions;
mod tools;
mod upstreams;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    middleware::{Next, from_fn_with_state},
    response::IntoResponse as _,
    routing::{get, post},
};
use http::{Response, StatusCode};

use super::{guard::Purpose, respond, server::Inner};
use crate::upstream::Upstream;

pub(super) fn routes(state: &Arc<Inner>) -> Router<Arc<Inner>> {
    Router::new()
        .route("/upstreams", get(upstreams::all))
        .route("/upstreams/{name}", get(upstreams::one))
        .route("/upstreams/{name}/probe", post(actions::probe))
        .route("/certificates", get(certificates::all))
        .route("/tools", get(tools::all))
        .route("/sessions", get(sessions::all))
        .route("/events", get(events::since))
        .route("/reload", post(actions::reload))
        .method_not_allowed_fallback(async || respond::error(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method"))
        .layer(from_fn_with_state(Arc::clone(state), guarded))
}

/// What does not merely read is an action.
async fn guarded(State(state): State<Arc<Inner>>, request: Request, next: Next) -> Response<Body> {
    let purpose = if request.method().is_safe() { Purpose::Read } else { Purpose::Act };
    if let Err(refusal) = state.check(purpose, &request) {
        return *refusal;
    }
    let action = state.action(purpose, &request);
    let response = next.run(request).await.into_response();
    if let Some(action) = action {
        state.done(&action, response.status());
    }
    response
}

/// The upstream that a path names.
fn named(state: &Inner, Path(name): &Path<String>) -> Result<Arc<Upstream>, Box<Response<Body>>> {
    let upstreams = state.parts.gateway.upstreams();
    let found = upstreams.iter().find(|upstream| upstream.name().as_str() == *name);
    found.map(Arc::clone).ok_or_else(|| Box::new(respond::error(StatusCode::NOT_FOUND, "no upstream has this name")))
}

/// RFC 3339 in UTC, of a time since 1970; to the second.
fn date(at: Duration) -> String {
    crate::tls::shown_date(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))
}
