//! Requests of clients: how many, how they ended, and whose time they took.

use std::fmt;

use super::{Kind, Metric, Page};
use crate::{gateway::Gateway, mcp::Method};

const REQUESTS: Metric = Metric::new(
    Kind::Counter,
    "nexus_requests",
    "Requests of clients by method and outcome (ok, refused, failed, limited, abandoned). An answer with an error of the upstream's own is ok.",
);
const DURATION: Metric = Metric::new(
    Kind::Histogram,
    "nexus_request_duration_seconds",
    "Time of requests that reached an upstream: part=\"gateway\" until they were on their way, part=\"upstream\" until the end of the answer.",
);
const SESSIONS: Metric = Metric::new(Kind::Gauge, "nexus_sessions", "Sessions of clients up to revision 2025-11-25.");

const LIMITED: Metric = Metric::new(
    Kind::Counter,
    "nexus_rate_limited",
    "Requests that a limit refused, by its scope (global, ip, client, server, tool, upstream, storage).",
);
const UNANSWERED: Metric = Metric::new(
    Kind::Counter,
    "nexus_rate_limit_storage_errors",
    "Requests whose limits could not be checked, because Redis gave no answer.",
);

const STORE_ERRORS: Metric = Metric::new(
    Kind::Counter,
    "nexus_session_store_errors",
    "Looks for sessions and changes of them that Redis did not answer; only with [state] store = \"redis\".",
);

const AUDIT_LOST: Metric = Metric::new(
    Kind::Counter,
    "nexus_audit_lost",
    "Lines of the audit trail that were not written: its queue was full, or its file failed.",
);

pub(super) const ALL: &[Metric] = &[REQUESTS, DURATION, SESSIONS, LIMITED, UNANSWERED, AUDIT_LOST, STORE_ERRORS];

pub(super) fn write(page: &mut Page<'_>, gateway: &Gateway) -> fmt::Result {
    let requests = gateway
        .tally()
        .read()
        .map(|(method, outcome, count)| (vec![("method", word(method)), ("outcome", outcome.word().to_owned())], count));
    page.counter(REQUESTS, requests)?;
    page.histogram(DURATION, durations(gateway))?;
    let limiter = gateway.limiter();
    page.counter(LIMITED, limiter.limited().map(|(scope, count)| (vec![("scope", scope.word().to_owned())], count)))?;
    page.counter(UNANSWERED, [(Vec::new(), limiter.unanswered())])?;
    page.counter(AUDIT_LOST, [(Vec::new(), gateway.audit().lost())])?;
    let sessions = i64::try_from(gateway.sessions().count()).unwrap_or(i64::MAX);
    page.gauge(SESSIONS, [(Vec::new(), sessions)])?;
    page.counter(STORE_ERRORS, gateway.store_errors().map(|errors| (Vec::new(), errors)))
}

/// Only what happened has a row: most methods never do.
fn durations(gateway: &Gateway) -> Vec<(super::page::Labels, crate::meter::Reading)> {
    let mut rows = Vec::new();
    for upstream in gateway.upstreams().iter() {
        for (method, took) in upstream.traffic().times() {
            for (part, histogram) in [("gateway", &took.gateway), ("upstream", &took.upstream)] {
                let reading = histogram.read();
                if reading.count > 0 {
                    let labels = vec![("method", word(method)), ("upstream", upstream.name().to_string()), ("part", part.to_owned())];
                    rows.push((labels, reading));
                }
            }
        }
    }
    rows
}

/// A client chooses its method's text, so only those we know get a series of their own.
fn word(method: Option<Method>) -> String {
    method.map_or("other", Method::as_str).to_owned()
}
