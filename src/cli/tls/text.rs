//! A report for people: what was agreed on, the chain as a tree, the findings.

use std::{
    fmt,
    io::{self, Write},
};

use crate::{
    finding::{Finding, Severity},
    tls::{CertificateFacts, ChainLink, Negotiated, Position, Report, Verdict, shown_date},
};

/// From this many days on, the time that is left is no concern.
const PLENTY: i64 = 30;
/// Below this many days it is one for today.
const SCARCE: i64 = 7;

/// Most names of a certificate that are listed.
const NAMES: usize = 12;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Paint(bool);

#[derive(Clone, Copy, Debug)]
enum Ink {
    Red,
    Green,
    Yellow,
    Bold,
    Dim,
}

impl Paint {
    pub(super) fn new(on: bool) -> Self {
        Self(on)
    }

    fn ink(self, ink: Ink, text: impl fmt::Display) -> String {
        let code = match ink {
            Ink::Red => 31,
            Ink::Green => 32,
            Ink::Yellow => 33,
            Ink::Bold => 1,
            Ink::Dim => 2,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub(in crate::cli) fn title(self, text: &str) -> String {
        self.ink(Ink::Bold, text)
    }
}

/// Writes one report. `table`: the TOML table that the findings' keys belong to.
pub(super) fn write(out: &mut dyn Write, name: &str, url: &str, table: Option<&str>, report: &Report, paint: Paint) -> io::Result<()> {
    writeln!(out, "{}  {url}", paint.title(name))?;
    write_body(out, table, report, paint)
}

/// The report without its title.
pub(in crate::cli) fn write_body(out: &mut dyn Write, table: Option<&str>, report: &Report, paint: Paint) -> io::Result<()> {
    writeln!(out, "  verdict   {}", verdict(report, paint))?;
    writeln!(out, "  policy    {}", report.policy)?;
    if let Some(negotiated) = &report.negotiated {
        writeln!(out, "  tls       {}", agreed(negotiated))?;
        writeln!(out, "  client    {}", client(negotiated))?;
    }
    write_chain(out, report, paint)?;
    for finding in &report.findings {
        write_finding(out, finding, table, paint)?;
    }
    Ok(())
}

fn verdict(report: &Report, paint: Paint) -> String {
    match report.verdict {
        Verdict::Ok => paint.ink(Ink::Green, "ok"),
        Verdict::Insecure => paint.ink(Ink::Yellow, "insecure: it works, and the server is not verified"),
        Verdict::Fail => {
            let code = report.cause().map_or_else(String::new, |cause| format!(": {}", cause.reason));
            paint.ink(Ink::Red, format!("fail{code}"))
        }
    }
}

fn agreed(negotiated: &Negotiated) -> String {
    let Negotiated { version, cipher, group, alpn, ocsp_stapled, .. } = negotiated;
    let mut parts = vec![version.as_str()];
    parts.extend([cipher, group].into_iter().filter(|part| !part.is_empty()).map(String::as_str));
    parts.push(alpn.as_deref().unwrap_or("no ALPN"));
    if *ocsp_stapled {
        parts.push("OCSP response stapled");
    }
    parts.join(", ")
}

fn client(negotiated: &Negotiated) -> String {
    match (negotiated.client_cert_requested, negotiated.accepted_client_cas.as_slice()) {
        (false, _) => "the server asked for no client certificate".to_owned(),
        (true, []) => "the server asked for a client certificate".to_owned(),
        (true, cas) => format!("the server asked for a client certificate of {}", cas.join("; ")),
    }
}

/// The first names of a certificate, and how many there are beyond.
pub(super) fn listed(facts: &CertificateFacts) -> String {
    let more = facts.names.len().saturating_sub(NAMES) + facts.more_names;
    let listed: Vec<&str> = facts.names.iter().take(NAMES).map(String::as_str).collect();
    match (listed.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => listed.join(", "),
        (false, more) => format!("{} and {more} more", listed.join(", ")),
    }
}

/// The verified path from the anchor down to the leaf, then what else was sent.
fn write_chain(out: &mut dyn Write, report: &Report, paint: Paint) -> io::Result<()> {
    let Some(leaf) = report.leaf() else { return Ok(()) };
    let path: Vec<&ChainLink> = report.chain.iter().filter(|link| link.on_path).collect();
    // What was sent may be in any order.
    let mut climbed = vec![leaf];
    while let Some(next) = climbed.last().and_then(|last| {
        path.iter().find(|link| !climbed.iter().any(|seen| std::ptr::eq(*seen, **link)) && last.facts.is_issued_by(&link.facts))
    }) {
        climbed.push(next);
    }
    let mut depth = 0;
    let mut head = "  chain     ".to_owned();
    let mut line = |out: &mut dyn Write, text: String| {
        let branch = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        let written = writeln!(out, "{head}{branch}{text}");
        "            ".clone_into(&mut head);
        depth += 1;
        written
    };
    if let Some(top) = climbed.last().filter(|top| !top.facts.self_signed) {
        let words = if report.verdict == Verdict::Fail { "not sent, and not known here" } else { "not sent; known here" };
        line(out, format!("{}  {}", top.facts.issuer, paint.ink(Ink::Dim, words)))?;
    }
    for link in climbed.iter().rev() {
        line(out, described(link, report, paint))?;
    }
    let indent = " ".repeat(12 + 3 * (depth.max(1) - 1));
    writeln!(out, "{indent}names    {}", listed(&leaf.facts))?;
    writeln!(out, "{indent}SHA-256  {}", colons(&leaf.facts.fingerprint))?;
    writeln!(out, "{indent}pin      {}", leaf.spki_sha256)?;
    for link in report.chain.iter().filter(|link| !link.on_path) {
        writeln!(out, "  also sent {}", described(link, report, paint))?;
    }
    Ok(())
}

fn described(link: &ChainLink, report: &Report, paint: Paint) -> String {
    let place = match (link.position, link.sent) {
        (position, true) => position.word().to_owned(),
        (position, false) => format!("{}, from our trust file", position.word()),
    };
    let days = link.days_left(report.at);
    let left = match days {
        i64::MIN..0 => paint.ink(Ink::Red, format!("expired {}", shown_date(link.facts.not_after))),
        0..SCARCE => paint.ink(Ink::Red, left(days)),
        SCARCE..PLENTY => paint.ink(Ink::Yellow, left(days)),
        PLENTY.. => paint.ink(Ink::Green, left(days)),
    };
    let subject = if link.position == Position::Leaf { paint.title(&link.facts.subject) } else { link.facts.subject.clone() };
    format!("{subject}  {}, {left} ({})", place, date(link.facts.not_after))
}

fn left(days: i64) -> String {
    if days == 1 { "1 day left".to_owned() } else { format!("{days} days left") }
}

/// The day alone.
fn date(seconds: i64) -> String {
    shown_date(seconds).split('T').next().unwrap_or_default().to_owned()
}

fn write_finding(out: &mut dyn Write, finding: &Finding, table: Option<&str>, paint: Paint) -> io::Result<()> {
    let ink = match finding.severity {
        Severity::Error | Severity::Critical => Ink::Red,
        Severity::Warning => Ink::Yellow,
        Severity::Info => Ink::Dim,
    };
    writeln!(out, "  {}: {}", paint.ink(ink, format!("{} {}", finding.severity, finding.reason)), finding.detail)?;
    writeln!(out, "    fix: {}", finding.remedy)?;
    match (finding.key, table) {
        (Some(key @ ("url" | "proxy" | "http_version" | "connect_timeout")), Some(table)) => {
            writeln!(out, "    key: {}.{key}", table.strip_suffix(".tls").unwrap_or(table))
        }
        (Some(key), Some(table)) => writeln!(out, "    key: {table}.{key}"),
        (Some(_), None) | (None, _) => Ok(()),
    }
}

/// `AA:BB:…` as openssl and browsers print it.
pub(super) fn colons(hex: &str) -> String {
    let pairs: Vec<String> = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_ascii_uppercase()).collect();
    pairs.join(":")
}
