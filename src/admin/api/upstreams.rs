//! `/upstreams` and `/certificates`: what each upstream's condition is.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{Response, StatusCode};
use serde::Serialize;

use super::{date, named};
use crate::{
    admin::{respond, server::Inner},
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
    generation: Option<u64>,
    calls: Calls,
}

#[derive(Serialize)]
struct Calls {
    ok: u64,
    failed: u64,
    limited: u64,
}

impl UpstreamView {
    fn of(upstream: &Upstream) -> Self {
        let status = upstream.status().borrow().clone();
        let generation = upstream.generation().ok();
        let offer = upstream.offer();
        let why = status.state.explanation();
        let traffic = upstream.traffic();
        let (transport, address) = match &upstream.config().endpoint {
            // The query and the fragment are nobody's business, and may hold a key.
            EndpointConfig::Http(http) => ("http", http.url[..url::Position::AfterPath].to_owned()),
            EndpointConfig::Stdio(stdio) => ("stdio", stdio.cmd.first().cloned().unwrap_or_default()),
        };
        Self {
            name: upstream.name().to_string(),
            transport,
            address,
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
            generation: generation.map(|generation| generation.number()),
            calls: Calls { ok: traffic.ok.read(), failed: traffic.failed.read(), limited: traffic.limited.read() },
        }
    }
}

pub(super) async fn all(State(state): State<Arc<Inner>>) -> Response<Body> {
    let upstreams = state.parts.gateway.upstreams().iter().map(|upstream| UpstreamView::of(upstream)).collect();
    respond::json(StatusCode::OK, &Upstreams { upstreams })
}

pub(super) async fn one(State(state): State<Arc<Inner>>, name: Path<String>) -> Response<Body> {
    match named(&state, &name) {
        Ok(upstream) => respond::json(StatusCode::OK, &UpstreamView::of(&upstream)),
        Err(refusal) => refusal,
    }
}
