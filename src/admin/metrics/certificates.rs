//! What the watch knows of certificates and handshakes. All dates are seconds since 1970, so that `time()` tells the rest.
//!
//! What a certificate says of itself was capped and escaped when it was read, and is escaped again as a label. A certificate
//! that is not shown any more has no series any more.

use std::{collections::BTreeMap, fmt};

use super::{Kind, Metric, Page, page::Labels};
use crate::{
    admin::Parts,
    gateway::Gateway,
    health::{Board, Role, WatchedCertificate},
    meter::Reloads,
    reason::Reason,
    upstream::EndpointConfig,
};

const NOT_AFTER: Metric = Metric::new(
    Kind::Gauge,
    "nexus_tls_cert_not_after_timestamp_seconds",
    "When a certificate ends: of a server (role=server), of ours towards it (client), of our listeners (downstream), or one that is believed (anchor).",
);
const EARLIEST: Metric = Metric::new(
    Kind::Gauge,
    "nexus_tls_earliest_cert_expiry_timestamp_seconds",
    "When the first certificate ends that a role of the upstream depends on.",
);
const PROBE_SUCCESS: Metric = Metric::new(Kind::Gauge, "nexus_tls_probe_success", "Whether the last check of the upstream passed.");
const PROBE_FAILURES: Metric = Metric::new(Kind::Counter, "nexus_tls_probe_failures", "Failed checks of the upstream by machine code.");
const CHAIN_COMPLETE: Metric =
    Metric::new(Kind::Gauge, "nexus_tls_chain_complete", "Whether the server sends every intermediate certificate.");
const SAN_MATCH: Metric =
    Metric::new(Kind::Gauge, "nexus_tls_san_match", "Whether the server's certificate has the name that is verified.");
const VERSION: Metric = Metric::new(Kind::Gauge, "nexus_tls_version_info", "1, with the TLS version of the last handshake.");
const VERIFY_DISABLED: Metric =
    Metric::new(Kind::Gauge, "nexus_tls_verify_disabled", "1 for an upstream whose server is not verified, or not by its name.");
const CRL_NEXT_UPDATE: Metric =
    Metric::new(Kind::Gauge, "nexus_tls_crl_next_update_timestamp_seconds", "When a revocation list is due to be replaced.");
const RELOADS: Metric = Metric::new(
    Kind::Counter,
    "nexus_tls_reload",
    "How often the files and settings of an upstream, a listener or nexus.toml were taken over anew (result=success), or tried and not taken (error).",
);
const LAST_RELOAD: Metric = Metric::new(
    Kind::Gauge,
    "nexus_tls_reload_last_success_timestamp_seconds",
    "When they were taken over last; absent: never since the start.",
);
const ALERTS: Metric = Metric::new(
    Kind::Counter,
    "nexus_alerts",
    "Alerts by channel and result (sent, failed, dropped); a failed attempt is mostly repeated.",
);

pub(super) const ALL: &[Metric] = &[
    NOT_AFTER,
    EARLIEST,
    PROBE_SUCCESS,
    PROBE_FAILURES,
    CHAIN_COMPLETE,
    SAN_MATCH,
    VERSION,
    VERIFY_DISABLED,
    CRL_NEXT_UPDATE,
    RELOADS,
    LAST_RELOAD,
    ALERTS,
];

pub(super) fn write(page: &mut Page<'_>, parts: &Parts) -> fmt::Result {
    let (gateway, board) = (&parts.gateway, &parts.board);
    let certificates = board.certificates();
    page.gauge(NOT_AFTER, earliest(certificates.iter().map(|watched| (labels(watched), watched.facts.not_after))))?;
    let deciding = certificates.iter().filter(|watched| watched.decides && watched.role != Role::Anchor);
    page.gauge(EARLIEST, earliest(deciding.map(|watched| (role_labels(watched), watched.facts.not_after))))?;
    write_checks(page, board)?;
    page.gauge(VERIFY_DISABLED, unverified(gateway))?;
    let lists = board.lists();
    let due = lists.iter().filter_map(|list| Some((vec![("file", list.file.display().to_string())], list.next_update?)));
    page.gauge(CRL_NEXT_UPDATE, earliest(due))?;
    write_reloads(page, parts)?;
    let channels = board.channels();
    let alerts = channels.iter().flat_map(|channel| {
        let counts = [("sent", channel.sent()), ("failed", channel.failed()), ("dropped", channel.dropped())];
        counts.map(|(result, count)| (vec![("channel", channel.name.clone()), ("result", result.to_owned())], count))
    });
    page.counter(ALERTS, alerts)
}

fn write_checks(page: &mut Page<'_>, board: &Board) -> fmt::Result {
    let (mut success, mut failures, mut complete, mut names, mut versions) = (vec![], vec![], vec![], vec![], vec![]);
    for (name, checkup) in board.checkups() {
        let named = || vec![("upstream", name.clone())];
        success.push((named(), i64::from(checkup.failure.is_none())));
        for (reason, count) in &checkup.failed {
            failures.push((vec![("upstream", name.clone()), ("reason", (*reason).to_owned())], *count));
        }
        // Without a certificate nothing is known of chain and names.
        let Some(report) = checkup.report.as_ref().filter(|report| report.leaf().is_some()) else { continue };
        complete.push((named(), i64::from(!report.has(Reason::TlsIncompleteChain))));
        names.push((named(), i64::from(!report.has(Reason::TlsHostnameMismatch) && !report.has(Reason::TlsCnOnly))));
        if let Some(negotiated) = &report.negotiated {
            versions.push((vec![("upstream", name.clone()), ("version", negotiated.version.clone())], 1));
        }
    }
    page.gauge(PROBE_SUCCESS, success)?;
    page.counter(PROBE_FAILURES, failures)?;
    page.gauge(CHAIN_COMPLETE, complete)?;
    page.gauge(SAN_MATCH, names)?;
    page.gauge(VERSION, versions)
}

/// An upstream may be called as one of our own targets is: the two are one series then, as Prometheus demands.
fn write_reloads(page: &mut Page<'_>, parts: &Parts) -> fmt::Result {
    let (mut counts, mut last) = (BTreeMap::<Labels, u64>::new(), BTreeMap::<Labels, i64>::new());
    let mut add = |target: &str, reloads: &Reloads| {
        let target = || ("target", target.to_owned());
        let (succeeded, rejected) = reloads.counts();
        for (result, count) in [("success", succeeded), ("error", rejected)] {
            *counts.entry(vec![target(), ("result", result.to_owned())]).or_default() += count;
        }
        if let Some(at) = reloads.last_success().and_then(|at| i64::try_from(at.as_secs()).ok()) {
            let latest = last.entry(vec![target()]).or_default();
            *latest = at.max(*latest);
        }
    };
    for (target, reloads) in &parts.reloads {
        add(target, reloads);
    }
    for upstream in parts.gateway.upstreams().iter() {
        add(upstream.name().as_str(), upstream.reloads());
    }
    page.counter(RELOADS, counts)?;
    page.gauge(LAST_RELOAD, last)
}

/// Of every upstream with TLS, so that an alert has something to compare with.
fn unverified(gateway: &Gateway) -> Vec<(Labels, i64)> {
    let mut rows = Vec::new();
    for upstream in gateway.upstreams().iter() {
        if let EndpointConfig::Http(http) = &upstream.config().endpoint
            && let Some(tls) = &http.tls
        {
            rows.push((vec![("upstream", upstream.name().to_string())], i64::from(tls.is_unverified())));
        }
    }
    rows
}

/// Two certificates with the same labels are one series, which Prometheus would refuse to see twice: the earlier end counts.
fn earliest(rows: impl Iterator<Item = (Labels, i64)>) -> BTreeMap<Labels, i64> {
    let mut earliest: BTreeMap<Labels, i64> = BTreeMap::new();
    for (labels, end) in rows {
        earliest.entry(labels).and_modify(|known| *known = end.min(*known)).or_insert(end);
    }
    earliest
}

fn role_labels(watched: &WatchedCertificate) -> Labels {
    vec![("upstream", watched.upstream.clone().unwrap_or_default()), ("role", watched.role.word().to_owned())]
}

fn labels(watched: &WatchedCertificate) -> Labels {
    let mut labels = role_labels(watched);
    labels.push(("position", watched.position.word().to_owned()));
    labels.push(("cn", watched.facts.common_name.clone().unwrap_or_default()));
    labels.push(("issuer_cn", watched.facts.issuer_common_name.clone().unwrap_or_default()));
    labels.push(("serial", watched.facts.serial.clone()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_certificates_with_the_same_labels_the_earlier_end_counts() {
        let labels = || vec![("cn", "a".to_owned())];
        let rows = earliest([(labels(), 20), (labels(), 10), (vec![("cn", "b".to_owned())], 30)].into_iter());
        assert_eq!(rows.into_values().collect::<Vec<_>>(), [10, 30]);
    }
}
