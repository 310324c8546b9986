//! What an operator may have done: a reload, and a probe of one upstream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode};
use serde::Serialize;

use super::named;
use crate::{
    admin::{respond, server::Inner},
    events::{EventKind, News},
    finding::{Finding, Severity},
    problem::{self, Problem},
    tls::{Report, Verdict},
    upstream::{EndpointConfig, Upstream, UpstreamError},
};

#[derive(Serialize)]
struct Reloaded {
    outcome: &'static str,
    /// One sentence each.
    changes: Vec<String>,
}

#[derive(Serialize)]
struct Rejected {
    outcome: &'static str,
    problems: Vec<ProblemView>,
}

#[derive(Serialize)]
struct ProblemView {
    severity: &'static str,
    key: String,
    file: Option<String>,
    line: Option<u32>,
    what: String,
    why: String,
    remedy: String,
}

impl From<Problem> for ProblemView {
    fn from(problem: Problem) -> Self {
        Self {
            severity: match problem.severity {
                problem::Severity::Error => "error",
                problem::Severity::Warning => "warning",
            },
            key: problem.key,
            file: problem.at.as_ref().map(|at| at.file.display().to_string()),
            line: problem.at.map(|at| at.line),
            what: problem.what,
            why: problem.why,
            remedy: problem.remedy,
        }
    }
}

/// Takes a new configuration over, or tells every problem of it and changes nothing.
pub(super) async fn reload(State(state): State<Arc<Inner>>) -> Response<Body> {
    let Some(handle) = &state.parts.reload else {
        return respond::error(StatusCode::NOT_IMPLEMENTED, "this gateway cannot reload its configuration; restart it");
    };
    match handle.reload().await {
        Ok(changes) => respond::json(StatusCode::OK, &Reloaded { outcome: "reloaded", changes }),
        Err(problems) => {
            let problems = problems.into_iter().map(ProblemView::from).collect();
            respond::json(StatusCode::UNPROCESSABLE_ENTITY, &Rejected { outcome: "rejected", problems })
        }
    }
}

/// A handshake where there is TLS, and a question over the normal client where the upstream serves.
///
/// The handshake is no faster than one in ten seconds: until then the last one's report is told again.
pub(super) async fn probe(State(state): State<Arc<Inner>>, name: Path<String>) -> Response<Body> {
    let upstream = match named(&state, &name) {
        Ok(upstream) => upstream,
        Err(refusal) => return *refusal,
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
        listener: None,
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
