//! From what was seen to what an operator should know, in words.

use std::{collections::BTreeSet, time::Duration};

use super::{
    alert::{Alert, CertificateNote, Grade, Stage, Topic},
    board::{Role, WatchedCertificate, WatchedList},
    definitions::Difference,
    ledger::Condition,
    renewal::Change,
    threshold::{Threshold, Thresholds},
};
use crate::{
    finding::Severity,
    reason::{Explanation, Reason},
    tls::{Position, Report, shown_date, shown_span},
};

/// The certificates that are about to end, or have ended, each once.
pub(super) fn expiries(certificates: &[WatchedCertificate], thresholds: &Thresholds, now: Duration) -> Vec<Condition> {
    let now = seconds(now);
    let deciding = certificates.iter().filter(|certificate| certificate.decides);
    deciding.filter_map(|certificate| Some(expiry(certificate, reached(certificate, thresholds, now)?, now))).collect()
}

/// What an upstream is degraded for: the first end of a certificate that is worth a look.
pub(super) fn concern(certificates: &[WatchedCertificate], thresholds: &Thresholds, now: Duration) -> Option<Explanation> {
    let now = seconds(now);
    let deciding = certificates.iter().filter(|certificate| certificate.decides);
    let near = deciding.filter(|certificate| reached(certificate, thresholds, now).is_some_and(|t| t.severity >= Severity::Warning));
    let first = near.min_by_key(|certificate| certificate.facts.not_after)?;
    let reason = if first.role == Role::Anchor && first.facts.not_after < now { Reason::TlsAnchorExpired } else { Reason::TlsExpiring };
    Some(Explanation::new(reason, ending(first, now), remedy(first)))
}

/// A CA that is believed vouches beyond its end: others would refuse it, we do not.
fn reached(certificate: &WatchedCertificate, thresholds: &Thresholds, now: i64) -> Option<Threshold> {
    let facts = &certificate.facts;
    let mut threshold = thresholds.reached(facts.not_before, facts.not_after, now)?;
    if certificate.role == Role::Anchor {
        threshold.severity = threshold.severity.min(Severity::Warning);
    }
    Some(threshold)
}

fn expiry(certificate: &WatchedCertificate, threshold: Threshold, now: i64) -> Condition {
    let facts = &certificate.facts;
    let code = match (certificate.role, threshold.before.is_zero()) {
        (Role::Anchor, true) => Reason::TlsAnchorExpired,
        (Role::Client, true) => Reason::LocalExpired,
        (_, true) if certificate.position == Position::Intermediate => Reason::TlsIntermediateExpired,
        (_, true) => Reason::TlsExpired,
        (_, false) => Reason::TlsExpiring,
    };
    let alert = Alert {
        topic: Topic::Expiry,
        stage: Stage::Firing,
        severity: threshold.severity.into(),
        key: expiry_key(certificate),
        rank: 0,
        upstream: certificate.upstream.clone(),
        code: Some(code.code().to_owned()),
        summary: ending(certificate, now),
        remedy: remedy(certificate),
        certificate: Some(CertificateNote {
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            sha256: facts.fingerprint.clone(),
            previous_sha256: None,
            not_after: facts.not_after,
        }),
        at: u64::try_from(now).unwrap_or_default(),
    };
    Condition { rank: threshold.before.as_secs(), alert }
}

/// What is told of the ends of these certificates has these keys.
pub(super) fn expiry_keys(certificates: &[WatchedCertificate]) -> BTreeSet<String> {
    certificates.iter().filter(|certificate| certificate.decides).map(expiry_key).collect()
}

/// A certificate that two upstreams show is one matter; as a trust anchor it is another.
fn expiry_key(certificate: &WatchedCertificate) -> String {
    let kind = if certificate.role == Role::Anchor { "anchor" } else { "certificate" };
    format!("expiry:{kind}:{}", certificate.facts.fingerprint)
}

/// `the certificate CN=crm.test of upstream "crm" ends in 5 days, on 2026-01-31T12:00:00Z`
fn ending(certificate: &WatchedCertificate, now: i64) -> String {
    let facts = &certificate.facts;
    let what = match (certificate.role, certificate.position) {
        (Role::Client, Position::Leaf) => "our client certificate",
        (Role::Client, _) => "the intermediate certificate of our client certificate,",
        (Role::Anchor, _) => "the trusted CA certificate",
        (_, Position::Leaf) => "the certificate",
        (_, _) => "the intermediate certificate",
    };
    let whose = match (&certificate.upstream, certificate.role) {
        (Some(upstream), Role::Client | Role::Anchor) => format!("for upstream \"{upstream}\""),
        (Some(upstream), _) => format!("of upstream \"{upstream}\""),
        (None, Role::Public) => "shown at public_url".to_owned(),
        (None, _) => "of the gateway's own listener".to_owned(),
    };
    let date = shown_date(facts.not_after);
    let span = shown_span(now, facts.not_after);
    let when = if facts.not_after < now { format!("ended {span} ago, on {date}") } else { format!("ends in {span}, on {date}") };
    format!("{what} {} {whose} {when}", facts.subject)
}

fn remedy(certificate: &WatchedCertificate) -> String {
    let file = certificate.file.as_ref().map(|file| format!(" in {}", file.display())).unwrap_or_default();
    match (certificate.role, &certificate.upstream) {
        (Role::Server, Some(upstream)) => {
            format!("let whoever runs the server renew it; `nexus tls probe {upstream}` shows what the server sends")
        }
        (Role::Client, _) => format!("renew the client certificate{file}; it is picked up by itself"),
        (Role::Anchor, _) => {
            format!("ask the CA for its new certificate, and add it to the file{file}; we go on believing it, others do not")
        }
        (Role::Listener, _) => format!("renew the certificate{file}; it is picked up by itself"),
        (Role::Public | Role::Server, _) => "renew the certificate of whatever answers at public_url".to_owned(),
    }
}

/// A list is due some time before its end: then the next one should be there already.
pub(super) fn list_expiries(lists: &[WatchedList], now: Duration) -> Vec<Condition> {
    let now = seconds(now);
    lists.iter().filter_map(|list| list_expiry(list, now)).collect()
}

/// What is told of the ends of these lists has these keys.
pub(super) fn list_keys(lists: &[WatchedList]) -> BTreeSet<String> {
    lists.iter().map(list_key).collect()
}

/// The next list in the same file is another matter.
fn list_key(list: &WatchedList) -> String {
    format!("list:{}:{}:{}", list.file.display(), list.issuer, list.this_update)
}

fn list_expiry(list: &WatchedList, now: i64) -> Option<Condition> {
    let end = list.next_update?;
    let quarter = end.saturating_sub(list.this_update).max(0) / 4;
    let (rank, severity) = match now {
        _ if now > end => (0, Grade::Error),
        _ if now >= end.saturating_sub(quarter) => (1, Grade::Warning),
        _ => return None,
    };
    let whose = list.upstream.as_ref().map_or_else(|| "the gateway's own listener".to_owned(), |name| format!("upstream \"{name}\""));
    let (span, date) = (shown_span(now, end), shown_date(end));
    let when = if now > end { format!("was due {span} ago, on {date}") } else { format!("is due in {span}, on {date}") };
    let alert = Alert {
        topic: Topic::Expiry,
        stage: Stage::Firing,
        severity,
        key: list_key(list),
        rank: 0,
        upstream: list.upstream.clone(),
        code: Some(if now > end { Reason::TlsCrlExpired } else { Reason::TlsExpiring }.code().to_owned()),
        summary: format!("the next revocation list of {} for {whose} {when}", list.issuer),
        remedy: format!("fetch the CA's current list into {}; it is picked up by itself", list.file.display()),
        certificate: None,
        at: u64::try_from(now).unwrap_or_default(),
    };
    Some(Condition { rank, alert })
}

/// What breaks the connection for certain: no further check will mend it.
pub(super) fn problem(upstream: &str, report: Option<&Report>, failure: Option<&Explanation>, now: Duration) -> Option<Condition> {
    let cause = failure.filter(|failure| is_for_certain(failure.reason))?;
    let others =
        report.map_or(0, |report| report.findings.iter().filter(|f| f.severity >= Severity::Error && f.reason != cause.reason).count());
    let more = match others {
        0 => String::new(),
        1 => "; and one more finding".to_owned(),
        n => format!("; and {n} more findings"),
    };
    Some(firing(
        Topic::CertificateProblem,
        Severity::Critical,
        format!("problem:{upstream}:{}", cause.reason),
        Some(upstream),
        cause,
        format!("upstream \"{upstream}\": {}{more}", cause.detail),
        now,
    ))
}

/// What clients meet at `public_url`. Whom they trust is not known here, so an unknown CA says nothing.
pub(super) fn public_problem(report: &Report, now: Duration) -> Option<Condition> {
    let is_telling = |reason| {
        is_for_certain(reason)
            && !matches!(reason, Reason::TlsUnknownCa | Reason::TlsSelfSigned | Reason::TlsSelfSignedCa | Reason::TlsClientCertRequired)
            && !matches!(reason, Reason::TlsExpired | Reason::TlsClientCertRejected)
    };
    let finding = report.findings.iter().find(|finding| finding.severity >= Severity::Error && is_telling(finding.reason))?;
    let key = format!("problem:public_url:{}", finding.reason);
    let summary = format!("public_url: {}", finding.detail);
    Some(firing(Topic::CertificateProblem, Severity::Error, key, None, &finding.explanation(), summary, now))
}

/// What the network may cause, and what another check may find mended, takes several failures.
fn is_for_certain(reason: Reason) -> bool {
    let by_chance = matches!(reason, Reason::TlsReset | Reason::TlsClosed | Reason::TlsTimeout | Reason::TlsNotTls);
    (reason.code().starts_with("tls_") && !by_chance) || reason.code().starts_with("local_")
}

pub(super) fn down(upstream: &str, failures: u32, why: &Explanation, now: Duration) -> Condition {
    let summary = format!("upstream \"{upstream}\" is down: {failures} checks in a row failed; {}", why.detail);
    firing(Topic::UpstreamDown, Severity::Critical, format!("down:{upstream}"), Some(upstream), why, summary, now)
}

/// `scope` tells whose reload it was.
pub(super) fn rejected(scope: &str, upstream: Option<&str>, detail: &str, now: Duration) -> Condition {
    // Of some receivers the summary is all that people see.
    let summary = upstream.map_or_else(|| detail.to_owned(), |name| format!("upstream {name:?}: {detail}"));
    let remedy = match scope.strip_suffix(':') {
        // An edit of nexus.toml is taken only when somebody says so.
        Some(_) => "correct nexus.toml, where `nexus check` names what is wrong, and reload it again",
        None => "correct the files; they are tried again by themselves, and `nexus check` names what is wrong",
    };
    let why = Explanation::new(Reason::ReloadRejected, detail, remedy);
    firing(Topic::ReloadRejected, Severity::Error, scope.to_owned(), upstream, &why, summary, now)
}

fn firing(
    topic: Topic,
    severity: Severity,
    key: String,
    upstream: Option<&str>,
    why: &Explanation,
    summary: String,
    now: Duration,
) -> Condition {
    let alert = Alert {
        topic,
        stage: Stage::Firing,
        severity: severity.into(),
        key,
        rank: 0,
        upstream: upstream.map(str::to_owned),
        code: Some(why.reason.code().to_owned()),
        summary,
        remedy: why.remedy.clone(),
        certificate: None,
        at: now.as_secs(),
    };
    Condition { rank: 0, alert }
}

/// `whose` in words, such as `upstream "crm"`.
pub(super) fn changed(whose: &str, upstream: Option<&str>, change: &Change, subject: &str, now: Duration) -> Alert {
    let severity = change.severity();
    let remedy = match severity {
        Severity::Info => String::new(),
        _ => "ask whoever runs the server whether the change was meant; if not, somebody else may answer for it".to_owned(),
    };
    Alert {
        topic: Topic::CertificateChanged,
        stage: Stage::Notice,
        severity: severity.into(),
        key: format!("changed:{}:{}", whose, change.after.sha256),
        rank: 0,
        upstream: upstream.map(str::to_owned),
        code: None,
        summary: format!(
            "{whose} shows another certificate, {}: SHA-256 {} before, {} now",
            change.words(),
            change.before.sha256,
            change.after.sha256
        ),
        remedy,
        certificate: Some(CertificateNote {
            subject: subject.to_owned(),
            issuer: change.after.issuer.clone(),
            sha256: change.after.sha256.clone(),
            previous_sha256: Some(change.before.sha256.clone()),
            not_after: change.after.not_after,
        }),
        at: now.as_secs(),
    }
}

pub(super) fn tools(upstream: &str, difference: &Difference, now: Duration) -> Alert {
    let remedy = match difference.severity() {
        Severity::Info => String::new(),
        _ => "read the new definitions before agents do: a description is an instruction to the model; `hide` keeps a tool away".to_owned(),
    };
    Alert {
        topic: Topic::ToolsChanged,
        stage: Stage::Notice,
        severity: difference.severity().into(),
        key: format!("tools:{upstream}:{}", now.as_millis()),
        rank: 0,
        upstream: Some(upstream.to_owned()),
        code: None,
        summary: format!("the tools of upstream \"{upstream}\" changed: {}", difference.words()),
        remedy,
        certificate: None,
        at: now.as_secs(),
    }
}

pub(super) fn seconds(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_list_in_the_same_file_is_told_of_anew() {
        let list = |this_update| WatchedList {
            upstream: None,
            file: "/clients.crl".into(),
            issuer: "CN=Staff".into(),
            this_update,
            next_update: Some(this_update + 1000),
        };
        let at = |seconds| Duration::from_secs(seconds);
        let of = |list: WatchedList, now| list_expiries(&[list], at(now)).remove(0);
        let (due, over, next) = (of(list(0), 900), of(list(0), 1001), of(list(900), 1901));
        assert_eq!(due.alert.key, over.alert.key);
        assert!(over.rank < due.rank);
        assert_ne!(over.alert.key, next.alert.key);
    }
}
