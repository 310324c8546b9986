//! The gateway's condition for people.

use std::io::{self, Write};

use serde_json::Value;

use super::{
    LAST_EVENTS,
    ask::{Answers, Event, Upstream},
};

pub(super) fn show(out: &mut impl Write, answers: &Answers, upstreams: &[&Upstream], whole: bool) -> io::Result<()> {
    if whole {
        let down = upstreams.iter().filter(|upstream| upstream.state == "down").count();
        let ready = if answers.ready { "ready" } else { "not ready" };
        let count = upstreams.len();
        writeln!(out, "gateway: {ready} · {count} upstream{}, {down} down", if count == 1 { "" } else { "s" })?;
    }
    for upstream in upstreams {
        one(out, upstream)?;
        for certificate in answers.certificates_of(Some(&upstream.name)) {
            writeln!(out, "  {}", certificate_line(certificate))?;
        }
    }
    if whole {
        for certificate in answers.certificates.iter().filter(|certificate| text(certificate, "upstream").is_none()) {
            writeln!(out, "{}", certificate_line(certificate))?;
        }
        match answers.last_reload() {
            Some(event) => writeln!(out, "last reload: {}", event_line(event))?,
            None => writeln!(out, "last reload: none")?,
        }
    }
    let server = if whole { None } else { upstreams.first().map(|upstream| upstream.name.as_str()) };
    let events = answers.last_events(server, LAST_EVENTS);
    if !events.is_empty() {
        writeln!(out, "last events:")?;
    }
    for event in events {
        writeln!(out, "  {}", event_line(event))?;
    }
    Ok(())
}

fn one(out: &mut impl Write, upstream: &Upstream) -> io::Result<()> {
    let mut parts = vec![format!("upstream {}: {} since {}", upstream.name, upstream.state, upstream.since)];
    if upstream.state != "down" {
        parts.push(format!("{} tool{}", upstream.tools, if upstream.tools == 1 { "" } else { "s" }));
        parts.extend(upstream.version.as_ref().map(|version| format!("MCP {version}")));
        // Before it was brought up for the first time there is none.
        parts.extend(Some(printable(&upstream.policy)).filter(|policy| !policy.is_empty()));
        parts.extend(upstream.generation.map(|generation| format!("generation {generation}")));
    }
    parts.extend([&upstream.reason, &upstream.detail].into_iter().flatten().map(|part| printable(part)));
    writeln!(out, "{}", parts.join(" · "))?;
    if let Some(remedy) = &upstream.remedy {
        writeln!(out, "  fix: {}", printable(remedy))?;
    }
    Ok(())
}

/// `server leaf O=Contoso, CN=crm: 23 days left, until 2026-12-14T09:00:00Z`
fn certificate_line(certificate: &Value) -> String {
    let part = |key| printable(text(certificate, key).unwrap_or("?"));
    let days = match certificate.get("days_left").and_then(Value::as_i64) {
        Some(days) if days < 0 => "expired".to_owned(),
        Some(1) => "1 day left".to_owned(),
        Some(days) => format!("{days} days left"),
        None => "no date".to_owned(),
    };
    format!("{} {} {}: {days}, until {}", part("role"), part("position"), part("subject"), part("not_after"))
}

fn event_line(event: &Event) -> String {
    let upstream = event.upstream.as_ref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
    let reason = event.reason.as_ref().map(|reason| format!(" ({})", printable(reason)));
    // Some say it themselves.
    let reason = reason.filter(|reason| !event.detail.ends_with(reason)).unwrap_or_default();
    format!("{} {}{upstream}: {}{reason}", printable(&event.at), printable(&event.kind), printable(&event.detail))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// Whatever a server, a client or a certificate calls itself: nothing of it moves the cursor, colours or reorders a line.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if crate::tls::changes_the_line(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_draw_on_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\r\n\u{202e}b"), "a\\u{1b}[2J\\u{d}\\u{a}\\u{202e}b");
        assert_eq!(printable("O=Bäckerei, CN=crm"), "O=Bäckerei, CN=crm");
    }
}
