//! An alert as a line of the log and as an event.

use crate::{
    events::{EventKind, News},
    finding::Severity,
    health::alert::{Alert, Stage, Topic},
    reason::Reason,
};

pub(super) fn log(alert: &Alert) {
    let (topic, key, fix) = (alert.topic.word(), alert.key.as_str(), alert.remedy.as_str());
    let upstream = alert.upstream.as_deref().unwrap_or_default();
    match (alert.stage, alert.severity()) {
        (Stage::Resolved, _) => tracing::info!(topic, key, upstream, "over: {}", alert.summary),
        (_, Severity::Info) => tracing::info!(topic, key, upstream, "{}", alert.summary),
        (_, Severity::Warning | Severity::Error | Severity::Critical) => {
            tracing::warn!(topic, key, upstream, fix, "{}", alert.summary);
        }
    }
}

pub(super) fn news(alert: &Alert) -> News {
    let kind = match (alert.stage, alert.topic) {
        (Stage::Resolved, _) => EventKind::AlertResolved,
        (_, Topic::CertificateChanged) => EventKind::CertificateChanged,
        (_, Topic::ToolsChanged) => EventKind::ToolsChanged,
        _ => EventKind::AlertSent,
    };
    let reason = alert.code.as_deref().and_then(|code| Reason::ALL.iter().copied().find(|reason| reason.code() == code));
    News { kind, severity: alert.severity(), upstream: alert.upstream.clone(), listener: None, reason, detail: alert.summary.clone() }
}
