//! What a probe of a server found: verdict, what was negotiated, the chain with its dates, and every finding.

use std::{fmt::Write as _, time::Duration};

use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::inspect::{CertificateFacts, shown_date};
use crate::{
    finding::{Finding, Severity},
    reason::Reason,
};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Whether calls would go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The policy accepts the server, and the server accepts us.
    Ok,
    /// Calls fail, for the reasons in the findings of severity error.
    Fail,
    /// As [`Self::Ok`], but the policy does not verify the server.
    Insecure,
}

impl Verdict {
    /// The stable word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Insecure => "insecure",
        }
    }
}

/// One look at one server under one policy. For the operator only: it names certificates and hosts. All text is safe to print.
#[derive(Clone, Debug)]
pub struct Report {
    pub verdict: Verdict,
    /// The policy in words.
    pub policy: String,
    /// As far as the handshake got; `None` when no server hello came.
    pub negotiated: Option<Negotiated>,
    /// What the server sent, in its order, and at the end the trust anchor from the trust file that it leads to, if it
    /// does. Certificates that cannot be read are left out, and named in the findings.
    pub chain: Vec<ChainLink>,
    /// Worst first.
    pub findings: Vec<Finding>,
    /// When, since 1970.
    pub at: Duration,
    /// The certificates as the server sent them, leaf first, readable or not.
    pub(super) presented: Vec<CertificateDer<'static>>,
}

/// What client and server agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLS 1.3`
    pub version: String,
    /// `TLS13_AES_256_GCM_SHA384`; empty when the handshake ended before.
    pub cipher: String,
    /// `X25519`; empty when the handshake ended before.
    pub group: String,
    /// `http/1.1`
    pub alpn: Option<String>,
    pub client_cert_requested: bool,
    /// The CAs that the server says it accepts client certificates from, the first few; often empty.
    pub accepted_client_cas: Vec<String>,
    /// The server sent an OCSP response along. It is neither asked for nor judged.
    pub ocsp_stapled: bool,
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    Leaf,
    Intermediate,
    /// Self-issued: the trust anchor, or a root that the server sends without need.
    Root,
}

impl Position {
    /// The stable word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        }
    }
}

/// One certificate of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink {
    pub position: Position,
    pub facts: CertificateFacts,
    /// `sha256/` and the base64 of SHA-256 over the public key (RFC 7469 §2.4): a pin.
    pub spki_sha256: String,
    /// On the path from the leaf to the trust anchor. Another's end harms nobody.
    pub on_path: bool,
    /// `false`: it is the anchor from our own trust file.
    pub sent: bool,
}

impl ChainLink {
    /// Whole days until it ends, rounded down; negative once it has ended.
    pub fn days_left(&self, at: Duration) -> i64 {
        let at = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        self.facts.not_after.saturating_sub(at).div_euclid(DAY)
    }
}

impl Report {
    /// The report of a server that was not reached, or that must not be contacted.
    pub fn failed(policy: impl Into<String>, finding: Finding, at: Duration) -> Self {
        Self {
            verdict: Verdict::Fail,
            policy: policy.into(),
            negotiated: None,
            chain: Vec::new(),
            findings: vec![finding],
            at,
            presented: Vec::new(),
        }
    }

    /// The report of an upstream without TLS that was found well.
    pub fn passed(policy: impl Into<String>, at: Duration) -> Self {
        Self {
            verdict: Verdict::Ok,
            policy: policy.into(),
            negotiated: None,
            chain: Vec::new(),
            findings: Vec::new(),
            at,
            presented: Vec::new(),
        }
    }

    /// The same with one more finding, of severity error, that makes it a failure.
    #[must_use]
    pub fn with_failure(&self, finding: Finding) -> Self {
        let mut report = Self { verdict: Verdict::Fail, ..self.clone() };
        report.findings.push(finding);
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        report
    }

    pub fn leaf(&self) -> Option<&ChainLink> {
        self.chain.iter().find(|link| link.position == Position::Leaf)
    }

    /// The certificates whose end ends the connection: leaf and intermediates on the path; without a path, the leaf alone.
    pub fn depends_on(&self) -> impl Iterator<Item = &ChainLink> {
        self.chain.iter().filter(|link| match link.position {
            Position::Leaf => true,
            Position::Intermediate => link.on_path,
            Position::Root => false,
        })
    }

    /// The trust anchor in use, when it comes from a file. Its end is not enforced.
    pub fn anchor(&self) -> Option<&ChainLink> {
        self.chain.iter().find(|link| link.position == Position::Root && link.on_path)
    }

    /// When the first certificate ends that the connection depends on, in seconds since 1970.
    pub fn earliest_end(&self) -> Option<i64> {
        self.depends_on().map(|link| link.facts.not_after).min()
    }

    /// Whole days until then; negative once it has passed.
    pub fn days_left(&self) -> Option<i64> {
        self.depends_on().map(|link| link.days_left(self.at)).min()
    }

    /// What decides: the first finding of severity error, `None` without one.
    pub fn cause(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.severity >= Severity::Error)
    }

    pub fn has(&self, reason: Reason) -> bool {
        self.findings.iter().any(|finding| finding.reason == reason)
    }

    /// What the server sent, as PEM blocks with their subjects above them; empty without a certificate.
    pub fn presented_pem(&self) -> String {
        let mut text = String::new();
        for der in &self.presented {
            let subject = CertificateFacts::read(der).map_or_else(|| "a certificate that cannot be read".to_owned(), |facts| facts.subject);
            let _ = writeln!(text, "# {subject}");
            text.push_str(&pem(der));
        }
        text
    }

    /// The JSON of one upstream, as `nexus tls probe --format json` prints it.
    pub fn view<'a>(&'a self, name: &'a str, url: &'a str) -> ReportView<'a> {
        ReportView {
            name,
            url,
            verdict: self.verdict.word(),
            policy: &self.policy,
            tls: self.tls_view(),
            chain: self.chain_view(),
            findings: self.findings_view(),
        }
    }

    pub fn findings_view(&self) -> Vec<FindingView<'_>> {
        self.findings.iter().map(FindingView::of).collect()
    }

    pub fn tls_view(&self) -> Option<TlsView<'_>> {
        self.negotiated.as_ref().map(|tls| TlsView {
            version: &tls.version,
            cipher: &tls.cipher,
            group: &tls.group,
            alpn: tls.alpn.as_deref(),
            client_cert_requested: tls.client_cert_requested,
        })
    }

    pub fn chain_view(&self) -> Vec<CertificateView<'_>> {
        self.chain.iter().map(|link| CertificateView::of(link, self.at)).collect()
    }
}

/// One upstream in JSON.
#[derive(Debug, Serialize)]
pub struct ReportView<'a> {
    pub name: &'a str,
    pub url: &'a str,
    /// `ok`, `fail` or `insecure`.
    pub verdict: &'static str,
    pub policy: &'a str,
    pub tls: Option<TlsView<'a>>,
    pub chain: Vec<CertificateView<'a>>,
    pub findings: Vec<FindingView<'a>>,
}

/// What was negotiated, in JSON.
#[derive(Debug, Serialize)]
pub struct TlsView<'a> {
    pub version: &'a str,
    pub cipher: &'a str,
    pub group: &'a str,
    pub alpn: Option<&'a str>,
    pub client_cert_requested: bool,
}

/// One certificate in JSON. Dates are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
pub struct CertificateView<'a> {
    /// `leaf`, `intermediate` or `root`.
    pub position: &'static str,
    pub subject: &'a str,
    pub issuer: &'a str,
    pub sans: &'a [String],
    pub not_before: String,
    pub not_after: String,
    pub days_left: i64,
    /// Of the whole certificate, in hexadecimal.
    pub sha256: &'a str,
    /// Of the public key: `sha256/` and base64, as in `spki_pins`.
    pub spki_sha256: &'a str,
}

impl<'a> CertificateView<'a> {
    pub fn of(link: &'a ChainLink, at: Duration) -> Self {
        Self {
            position: link.position.word(),
            subject: &link.facts.subject,
            issuer: &link.facts.issuer,
            sans: &link.facts.names,
            not_before: shown_date(link.facts.not_before),
            not_after: shown_date(link.facts.not_after),
            days_left: link.days_left(at),
            sha256: &link.facts.fingerprint,
            spki_sha256: &link.spki_sha256,
        }
    }
}

/// One finding in JSON.
#[derive(Debug, Serialize)]
pub struct FindingView<'a> {
    pub code: &'static str,
    /// `error`, `warning` or `info`.
    pub severity: &'static str,
    pub detail: &'a str,
    pub remedy: &'a str,
    /// The TOML key that would change it.
    pub key: Option<&'static str>,
}

impl<'a> FindingView<'a> {
    pub fn of(finding: &'a Finding) -> Self {
        Self {
            code: finding.reason.code(),
            // Only alerts know a fourth word.
            severity: finding.severity.min(Severity::Error).word(),
            detail: &finding.detail,
            remedy: &finding.remedy,
            key: finding.key,
        }
    }
}

fn pem(der: &[u8]) -> String {
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, c) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}
