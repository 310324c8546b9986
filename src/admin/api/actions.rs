//! What an operator may have done: a reload, and a probe of one upstream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode};

use super::named;
use crate::{
    admin::{respond, server::Inner},
    events::{EventKind, News},
    finding::{Finding, Severity},
    tls::{Report, Verdict},
    upstream::{EndpointConfig, Upstream, UpstreamError},
};

pub(super) async fn reload(State(_): State<Arc<Inner>>) -> Response<Body> {
    respond::error(StatusCode::NOT_IMPLEMENTED, "this gateway cannot reload yet; restart it")
}

/// A handshake where there is TLS, and a question over the normal client where the upstream serves.
///
/// The handshake is no faster than one in ten seconds: until then the last one's report is told again.
pub(super) async fn probe(State(state): State<Arc<Inner>>, name: Path<String>) -> Response<Body> {
    let upstream = match named(&state, &name) {
        Ok(upstream) => upstream,
        Err(refusal) => return refusal,
    };
    let now = state.parts.clock.now();
    let shaken = upstream.probe(&state.parts.prober).await;
    let mut report = match &shaken {
        Some(report) => Report::clone(report),
        None => Report::passed(upstream.status().borrow().policy.clone(), now),
    };
    if report.verdict != Verdict::Fail {
        match upstream.knock().await {
            Ok(()) => {}
            // The server is well by now, and the next attempt to bring it up need not be waited for.
            Err(UpstreamError::Down(_)) if shaken.is_some() => upstream.found_well(),
            Err(error) => {
                let why = error.explanation();
                report.verdict = Verdict::Fail;
                report.findings.insert(0, Finding::new(why.reason, Severity::Error, why.detail, why.remedy));
            }
        }
    }
    state.parts.events.note(News {
        kind: EventKind::AdminAction,
        severity: Severity::Info,
        upstream: Some(upstream.name().to_string()),
        reason: report.cause().map(|finding| finding.reason),
        detail: format!("an operator had it probed: {}", report.verdict.word()),
    });
    respond::json(StatusCode::OK, &report.view(upstream.name().as_str(), &address(&upstream)))
}

/// Where the upstream is; a process by its program. Neither query nor arguments: they may hold a key.
pub(super) fn address(upstream: &Upstream) -> String {
    match &upstream.config().endpoint {
        EndpointConfig::Http(http) => http.url[..url::Position::AfterPath].to_owned(),
        EndpointConfig::Stdio(stdio) => stdio.cmd.first().cloned().unwrap_or_default(),
    }
}
