//! Alerts in the words and forms of their receivers.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::alert::{Alert, Stage};
use crate::tls::shown_date;

/// Longest text of one message, in characters; Slack shows at most 4,000, PagerDuty takes 1,024.
const MAX_TEXT: usize = 1_000;

/// Longest key that PagerDuty takes.
const MAX_KEY: usize = 255;

/// The JSON of docs/alerts.md. `gateway` says which gateway speaks.
pub(super) fn webhook(alert: &Alert, gateway: &str) -> Value {
    json!({
        "version": 1,
        "gateway": gateway,
        "topic": alert.topic.word(),
        "status": alert.stage.word(),
        "severity": alert.severity().word(),
        "key": alert.key,
        "upstream": alert.upstream,
        "code": alert.code,
        "summary": alert.summary,
        "remedy": alert.remedy,
        "at": date(alert.at),
        "certificate": certificate(alert),
    })
}

/// A Slack incoming webhook: `text` in mrkdwn, its three control characters escaped.
pub(super) fn slack(alert: &Alert, gateway: &str) -> Value {
    let mark = match (alert.stage, alert.severity().word()) {
        (Stage::Resolved, _) => ":white_check_mark: resolved",
        (_, "critical") => ":rotating_light: critical",
        (_, "error") => ":red_circle: error",
        (_, "warning") => ":warning: warning",
        _ => ":information_source: info",
    };
    let mut text = format!("{mark} · {}", escaped(&alert.summary));
    if !alert.remedy.is_empty() {
        text.push_str("\n> ");
        text.push_str(&escaped(&alert.remedy));
    }
    let code = alert.code.as_deref().map(|code| format!(" · {code}")).unwrap_or_default();
    text.push_str(&format!("\nnexus {}{code}", escaped(gateway)));
    json!({ "text": text })
}

/// PagerDuty Events API v2. What resolves an incident has the key of what triggered it.
pub(super) fn pagerduty(alert: &Alert, gateway: &str, routing_key: &str) -> Value {
    let dedup_key = dedup_key(&format!("nexus:{gateway}:{}", alert.key));
    if alert.stage == Stage::Resolved {
        return json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key });
    }
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "nexus",
        "payload": {
            "summary": cut(&alert.summary),
            "source": gateway,
            "severity": alert.severity().word(),
            "timestamp": date(alert.at),
            "component": alert.upstream,
            "class": alert.topic.word(),
            "custom_details": {
                "code": alert.code,
                "remedy": alert.remedy,
                "certificate": certificate(alert),
            },
        },
    })
}

/// Subject and text of a mail.
pub(super) fn mail(alert: &Alert, gateway: &str) -> (String, String) {
    let word = if alert.stage == Stage::Resolved { "resolved" } else { alert.severity().word() };
    let subject = format!("[nexus] {word}: {}", cut(&alert.summary));
    let mut text = format!("{}\n", alert.summary);
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("\n{name}: {value}"));
        }
    };
    line("what to do", Some(&alert.remedy));
    line("severity", Some(alert.severity().word()));
    line("status", Some(alert.stage.word()));
    line("upstream", alert.upstream.as_deref());
    line("code", alert.code.as_deref());
    line("at", Some(&date(alert.at)));
    line("gateway", Some(gateway));
    if let Some(certificate) = &alert.certificate {
        line("certificate", Some(&certificate.subject));
        line("issuer", Some(&certificate.issuer));
        line("SHA-256", Some(&certificate.sha256));
        line("SHA-256 before", certificate.previous_sha256.as_deref());
        line("ends", Some(&shown_date(certificate.not_after)));
    }
    text.push('\n');
    (subject, text)
}

fn certificate(alert: &Alert) -> Option<Value> {
    alert.certificate.as_ref().map(|certificate| {
        json!({
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "sha256": certificate.sha256,
            "previous_sha256": certificate.previous_sha256,
            "not_after": shown_date(certificate.not_after),
        })
    })
}

fn date(seconds: u64) -> String {
    shown_date(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn escaped(text: &str) -> String {
    cut(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn dedup_key(key: &str) -> String {
    if key.len() <= MAX_KEY { key.to_owned() } else { format!("nexus:{}", URL_SAFE_NO_PAD.encode(digest(&SHA256, key.as_bytes()))) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::alert::{CertificateNote, Grade, Topic},
        *,
    };

    fn alert(summary: &str, stage: Stage) -> Alert {
        Alert {
            topic: Topic::Expiry,
            stage,
            severity: Grade::Error,
            key: "expiry:certificate:ab".into(),
            rank: 0,
            upstream: Some("crm".into()),
            code: Some("tls_expiring".into()),
            summary: summary.into(),
            remedy: "renew it".into(),
            certificate: Some(CertificateNote {
                subject: summary.into(),
                issuer: "CN=R3".into(),
                sha256: "ab".into(),
                previous_sha256: None,
                not_after: 1_800_000_000,
            }),
            at: 1_700_000_000,
        }
    }

    const HOSTILE: &str = "CN=\"}\\n# HELP x <script>&<!channel>";

    #[test]
    fn hostile_text_stays_text_in_every_form() {
        let alert = alert(HOSTILE, Stage::Firing);
        for value in [webhook(&alert, "gw"), slack(&alert, "gw"), pagerduty(&alert, "gw", "key")] {
            let again: Value = serde_json::from_str(&value.to_string()).unwrap();
            assert_eq!(again, value);
        }
        assert_eq!(webhook(&alert, "gw")["summary"], HOSTILE);
        let text = slack(&alert, "gw")["text"].as_str().unwrap().to_owned();
        assert!(text.contains("&lt;script&gt;&amp;&lt;!channel&gt;"), "{text}");
        assert!(!text.contains("<!"), "{text}");
        let (subject, _) = mail(&alert, "gw");
        assert!(!subject.contains(['\r', '\n']), "{subject}");
    }

    #[test]
    fn what_resolves_an_incident_has_its_key() {
        let (firing, resolved) = (alert("a", Stage::Firing), alert("a", Stage::Resolved));
        let (firing, resolved) = (pagerduty(&firing, "gw", "key"), pagerduty(&resolved, "gw", "key"));
        assert_eq!((&firing["event_action"], &resolved["event_action"]), (&json!("trigger"), &json!("resolve")));
        assert_eq!(firing["dedup_key"], resolved["dedup_key"]);
        assert_eq!(firing["payload"]["severity"], "error");
        assert_eq!(firing["payload"]["timestamp"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn texts_and_keys_are_bounded() {
        let mut long = alert(&"é".repeat(5_000), Stage::Firing);
        long.key = "k".repeat(500);
        let event = pagerduty(&long, "gw", "key");
        assert!(event["dedup_key"].as_str().unwrap().len() <= MAX_KEY);
        assert_eq!(event["payload"]["summary"].as_str().unwrap().chars().count(), MAX_TEXT + 1);
        assert!(mail(&long, "gw").0.chars().count() < MAX_TEXT + 50);
    }
}
