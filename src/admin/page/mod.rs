//! The operator's page: every upstream, certificate and recent event at a glance. One document, no script, nothing loaded
//! from elsewhere.

mod html;

use std::{fmt::Write as _, time::Duration};

use axum::body::Body;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};

use super::{respond, server::Parts};
use crate::{
    health::WatchedCertificate,
    tls::shown_date,
    upstream::{State, Upstream},
};
use html::Text;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// Should a text ever get past the escapes, there is nothing that it could load, run or send.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");

const STYLE: &str = include_str!("style.css");
/// Seconds after which a browser asks again.
const REFRESH: u32 = 15;
/// Newest events that are shown; all that are remembered are at `/api/v1/events`.
const EVENTS: usize = 50;
/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Writes the page as it is now.
pub(super) fn page(parts: &Parts) -> Response<Body> {
    let mut text = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail.
    let _ = write(&mut text, parts);
    let mut response = respond::with(StatusCode::OK, HTML, text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn write(out: &mut String, parts: &Parts) -> std::fmt::Result {
    let now = parts.clock.now();
    let upstreams = parts.gateway.upstreams();
    let serving = upstreams.iter().filter(|upstream| upstream.status().borrow().state.serves()).count();
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"{REFRESH}\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Nexus: {serving} of {} upstreams serve</title>\
         <style>{STYLE}</style></head><body><header><h1>Nexus</h1><p>{} · {serving} of {} upstreams serve · as of {}</p></header>",
        upstreams.len(),
        env!("CARGO_PKG_VERSION"),
        upstreams.len(),
        date(now)
    )?;
    write_upstreams(out, parts, &upstreams)?;
    write_certificates(out, parts.board.certificates(), now)?;
    write_events(out, parts)?;
    out.push_str("</body></html>\n");
    Ok(())
}

fn write_upstreams(out: &mut String, parts: &Parts, upstreams: &[std::sync::Arc<Upstream>]) -> std::fmt::Result {
    out.push_str(
        "<h2>Upstreams</h2><table><thead><tr><th>Name<th>State<th>Since<th>Why, and what to do<th>Tools<th>Prompts<th>Resources\
         <th>Trust</thead><tbody>",
    );
    for upstream in upstreams {
        let status = upstream.status().borrow().clone();
        let offer = upstream.offer();
        let count = |of: fn(&crate::mcp::offer::Offer) -> usize| offer.as_ref().map_or(0, |offer| of(offer));
        write!(
            out,
            "<tr><th scope=\"row\">{}<td class=\"{1}\">{1}<td>{2}<td>",
            Text(upstream.name().as_str()),
            status.state.word(),
            date(status.since)
        )?;
        if let Some(why) = status.state.explanation() {
            write!(out, "<b>{}</b> {}<br>→ {}", why.reason, Text(&why.detail), Text(&why.remedy))?;
        } else if status.state == State::Starting {
            out.push_str("not tried to the end yet");
        }
        write!(
            out,
            "<td>{}<td>{}<td>{}<td>{}",
            count(|offer| offer.tools.len()),
            count(|offer| offer.prompts.len()),
            count(|offer| offer.resources.len() + offer.templates.len()),
            Text(&status.policy)
        )?;
        write_other_findings(out, parts, upstream)?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

/// What the last handshake found beside the cause that the state names.
fn write_other_findings(out: &mut String, parts: &Parts, upstream: &Upstream) -> std::fmt::Result {
    let Some(checkup) = parts.board.checkup(upstream.name().as_str()) else { return Ok(()) };
    for finding in checkup.report.iter().flat_map(|report| report.findings_view()) {
        write!(out, "<br><span class=\"{0}\">{0}</span> <b>{1}</b> {2}", finding.severity, finding.code, Text(finding.detail))?;
    }
    Ok(())
}

/// The one that ends first comes first.
fn write_certificates(out: &mut String, mut watched: Vec<WatchedCertificate>, now: Duration) -> std::fmt::Result {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    watched.sort_by_key(|watched| watched.facts.not_after);
    out.push_str(
        "<h2>Certificates</h2><table><thead><tr><th>Days left<th>Upstream<th>Role<th>Subject<th>Names<th>Issuer<th>Ends<th>SHA-256\
         </thead><tbody>",
    );
    for WatchedCertificate { role, upstream, position, facts, decides, .. } in &watched {
        let days = facts.not_after.saturating_sub(now).div_euclid(DAY);
        let class = match days {
            _ if !decides => "aside",
            ..0 => "critical",
            0..7 => "error",
            7..30 => "warning",
            _ => "",
        };
        write!(
            out,
            "<tr><td class=\"{class}\">{days}<td>{}<td>{} {}<td>{}<td>{}<td>{}<td>{}<td><code>{}</code>",
            Text(upstream.as_deref().unwrap_or("the gateway's own")),
            role.word(),
            position.word(),
            Text(&facts.subject),
            Text(&facts.shown_names().unwrap_or_default()),
            Text(&facts.issuer),
            shown_date(facts.not_after),
            Text(&facts.fingerprint)
        )?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

fn write_events(out: &mut String, parts: &Parts) -> std::fmt::Result {
    out.push_str("<h2>Lately</h2><table><thead><tr><th>When<th>What<th>Upstream<th>Detail</thead><tbody>");
    for event in parts.events.since(0).iter().rev().take(EVENTS) {
        write!(
            out,
            "<tr><td>{}<td class=\"{}\">{}<td>{}<td>{}",
            date(event.at),
            event.news.severity,
            event.news.kind.word(),
            Text(event.news.upstream.as_deref().unwrap_or_default()),
            Text(&event.news.detail)
        )?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

fn date(at: Duration) -> String {
    shown_date(i64::try_from(at.as_secs()).unwrap_or(i64::MAX))
}
