//! `/upstreams` and `/certificates`: what each upstream's condition is.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::{actions::address, certificates::CertificateView, date, named};
use crate::{
    admin::{Parts, respond, server::Inner},
    mcp::Era,
    upstream::{EndpointConfig, Upstream},
};

#[derive(Serialize)]
struct Upstreams {
    upstreams: Vec<UpstreamView>,
}

#[derive(Serialize)]
struct UpstreamView {
    name: String,
    /// `http` or `stdio`.
    transport: &'static str,
    /// Where it is; a process by its program.
    address: String,
    /// `legacy` or `modern`; null while it does not serve.
    era: Option<&'static str>,
    /// The revision spoken with it.
    version: Option<String>,
    state: &'static str,
    since: String,
    reason: Option<&'static str>,
    detail: Option<String>,
    remedy: Option<String>,
    required: bool,
    tools: usize,
    prompts: usize,
    resources: usize,
    /// Items that are left out, because they would break clients.
    quarantined: usize,
    /// The transport and its trust in words.
    policy: String,
    /// What was negotiated in the last probe.
    tls: Value,
    /// What the last probe found.
    findings: Value,
    certificates: Vec<CertificateView>,
    /// When it was checked last, and why that failed.
    checked: Option<Checked>,
    generation: Option<u64>,
    calls: Calls,
}

#[derive(Serialize)]
struct Checked {
    at: String,
    /// Null: it passed.
    failure: Option<&'static str>,
}

#[derive(Serialize)]
struct Calls {
    ok: u64,
    failed: u64,
    limited: u64,
}

impl UpstreamView {
    fn of(upstream: &Upstream, parts: &Parts) -> Self {
        let now = parts.clock.now();
        let checkup = parts.board.checkup(upstream.name().as_str());
        let report = checkup.as_ref().and_then(|checkup| checkup.report.as_ref());
        let certificates = parts.board.certificates_of(upstream.name().as_str());
        let status = upstream.status().borrow().clone();
        let generation = upstream.generation().ok();
        let offer = upstream.offer();
        let why = status.state.explanation();
        let traffic = upstream.traffic();
        let transport = match &upstream.config().endpoint {
            EndpointConfig::Http(_) => "http",
            EndpointConfig::Stdio(_) => "stdio",
        };
        Self {
            name: upstream.name().to_string(),
            transport,
            address: address(upstream),
            era: generation.as_ref().map(|generation| match generation.era() {
                Era::Legacy => "legacy",
                Era::Modern => "modern",
            }),
            version: generation.as_ref().map(|generation| generation.version().to_string()),
            state: status.state.word(),
            since: date(status.since),
            reason: why.map(|why| why.reason.code()),
            detail: why.map(|why| why.detail.clone()),
            remedy: why.map(|why| why.remedy.clone()),
            required: upstream.config().required,
            tools: offer.as_ref().map_or(0, |offer| offer.tools.len()),
            prompts: offer.as_ref().map_or(0, |offer| offer.prompts.len()),
            resources: offer.as_ref().map_or(0, |offer| offer.resources.len() + offer.templates.len()),
            quarantined: offer.as_ref().map_or(0, |offer| offer.quarantined.len()),
            policy: status.policy,
            tls: report.and_then(|report| serde_json::to_value(report.tls_view()).ok()).unwrap_or_default(),
            findings: report.and_then(|report| serde_json::to_value(report.findings_view()).ok()).unwrap_or_else(|| json!([])),
            certificates: certificates.into_iter().map(|watched| CertificateView::of(watched, now)).collect(),
            checked: checkup
                .as_ref()
                .map(|checkup| Checked { at: date(checkup.at), failure: checkup.failure.as_ref().map(|why| why.reason.code()) }),
            generation: generation.map(|generation| generation.number()),
            calls: Calls { ok: traffic.ok.read(), failed: traffic.failed.read(), limited: traffic.limited.read() },
        }
    }
}

pub(super) async fn all(State(state): State<Arc<Inner>>) -> Response<Body> {
    let upstreams = state.parts.gateway.upstreams().iter().map(|upstream| UpstreamView::of(upstream, &state.parts)).collect();
    respond::json(StatusCode::OK, &Upstreams { upstreams })
}

pub(super) async fn one(State(state): State<Arc<Inner>>, name: Path<String>) -> Response<Body> {
    match named(&state, &name) {
        Ok(upstream) => respond::json(StatusCode::OK, &UpstreamView::of(&upstream, &state.parts)),
        Err(refusal) => *refusal,
    }
}
