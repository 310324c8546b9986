//! Everything that is wrong with what a server showed, not only what a verification stumbles over first.
//!
//! ```text
//! presented chain ─┬─ each certificate by itself ─┐
//!                  ├─ name                        ├─▶ findings ─ what the policy really decided ─▶ Report
//!                  └─ path, order, completeness ──┘
//! ```

mod certificate;
mod chain;
mod name;
mod own;
mod path;
mod trial;

use std::{sync::Arc, time::Duration};

use rustls::{CertificateError, OtherError, pki_types::CertificateDer};

use self::{
    certificate::{Certificate, Role},
    chain::Chain,
    path::{Path, Surroundings},
};
use super::{
    CertificateFacts, ChainLink, Handshake, Negotiated, Observed, Position, Report, SpkiPin, SystemCas, TlsPolicy, Verdict,
    inspect::shown_date, policy::Verification, verifier::pins::PinMismatch,
};
use crate::{
    finding::{Finding, Severity},
    reason::{Explanation, Reason},
};

pub(in crate::tls) use chain::top_of;
pub use trial::Shows;

/// What one handshake showed.
pub struct Seen<'a> {
    pub observed: &'a Observed,
    pub negotiated: Option<Negotiated>,
    /// Why it failed; `None` if it went well.
    pub trouble: Option<Explanation>,
    /// Asked only where it makes a difference.
    pub system: &'a dyn Fn() -> Arc<SystemCas>,
}

/// What the offline check of a chain came to.
struct Diagnosis {
    links: Vec<ChainLink>,
    findings: Vec<Finding>,
}

impl TlsPolicy {
    /// Judges what a handshake showed, at a time since 1970. Bounded whatever the chain.
    pub fn report(&self, seen: Seen<'_>, now: Duration) -> Report {
        let presented = seen.observed.chain();
        let handshake = Handshake { policy: self, observed: seen.observed, now };
        let Diagnosis { links, mut findings } = self.diagnose(&presented, &handshake, seen.system);
        findings.extend(self.identity_findings(seen.observed, seen.trouble.is_none(), now));
        let is_refused = seen.observed.refusal().is_some();
        let findings = weighed(findings, seen.trouble.as_ref(), is_refused);
        let verdict = match seen.trouble {
            Some(_) => Verdict::Fail,
            None if self.is_unverified() => Verdict::Insecure,
            None => Verdict::Ok,
        };
        Report { verdict, policy: self.words(), negotiated: seen.negotiated, chain: links, findings, at: now, presented }
    }

    /// Checks a chain without a connection: what the verification makes of it, and every finding. For tests and tools that
    /// have the chain already.
    pub fn check_chain(&self, chain: &[CertificateDer<'static>], system: &dyn Fn() -> Arc<SystemCas>, now: Duration) -> Report {
        let observed = self.verify_offline(chain, now);
        let trouble = observed.refusal().map(|error| Handshake { policy: self, observed: &observed, now }.explain(&error));
        self.report(Seen { observed: &observed, negotiated: None, trouble, system }, now)
    }

    fn diagnose(&self, presented: &[CertificateDer<'static>], handshake: &Handshake<'_>, system: &dyn Fn() -> Arc<SystemCas>) -> Diagnosis {
        if presented.is_empty() {
            return Diagnosis { links: Vec::new(), findings: Vec::new() };
        }
        let Some(mut chain) = Chain::read(presented) else {
            let finding = Finding::new(
                Reason::TlsCertVersion,
                Severity::Error,
                "the server's certificate cannot be read: it is no X.509 certificate, or it is damaged",
                "reissue it as an ordinary X.509 version 3 certificate",
            );
            return Diagnosis { links: Vec::new(), findings: vec![finding] };
        };
        let now = i64::try_from(handshake.now.as_secs()).unwrap_or(i64::MAX);
        let mut findings = Vec::new();
        let (mut pathless, mut helpers) = (None, Vec::new());
        let anchor = match self.path(&chain, presented, now, system) {
            Ok(Trusted::Directly) => {
                chain.narrow_to(&[]);
                None
            }
            Ok(Trusted::By(path)) => {
                chain.narrow_to(&path.intermediates);
                let anchor = self.anchor_certificate(&path);
                findings.extend(anchor.as_ref().and_then(|(facts, _)| chain::anchor_finding(facts, now)));
                let helped = anchor.as_ref().filter(|(facts, der)| !facts.self_signed && !presented.contains(der));
                findings.extend(helped.map(|(facts, _)| chain::completeness_finding(facts)));
                helpers = path.intermediates.into_iter().filter(|der| !presented.contains(der)).collect();
                findings.extend(helpers.iter().filter_map(Certificate::read).flat_map(|helper| helper.findings(Role::Issuer, now)));
                findings.extend(helpers.first().and_then(Certificate::read).map(|helper| chain::help_finding(&helper.facts)));
                anchor
            }
            Err(refusal) => {
                pathless = Some(self.no_path(&refusal, &chain, presented, handshake, system));
                None
            }
        };
        findings.extend(chain.findings(now));
        findings.extend(self.name_finding(chain.leaf.der));
        findings.extend(self.key_and_revocation_findings(&chain, handshake));
        if chain.leaf.demands_a_staple() && handshake.observed.staple().is_none() {
            findings.push(Finding::new(
                Reason::TlsRevocationUnknown,
                Severity::Info,
                "the server's certificate demands a stapled OCSP response, and none came; it is not insisted on here",
                "turn OCSP stapling on at the server, or get a certificate without that demand",
            ));
        }
        // What a certificate says by itself is told better there.
        let is_told = |told: &Finding| findings.iter().any(|f| f.reason == told.reason && f.severity >= Severity::Error);
        if let Some(pathless) = pathless.filter(|pathless| !is_told(pathless)) {
            findings.insert(0, pathless);
        }
        Diagnosis { links: links(presented, &chain, &helpers, anchor.as_ref()), findings }
    }

    /// What there is to say of a leaf's names; `None` when a wanted one is among them, or when they cannot be judged.
    pub(super) fn name_finding(&self, leaf: &CertificateDer<'static>) -> Option<Finding> {
        let leaf = Certificate::read(leaf)?;
        if !self.expects_other_names() {
            return name::finding(&leaf, self.name());
        }
        if self.expected_sans.iter().any(|name| name.is_in(leaf.der)) {
            return None;
        }
        let names = leaf.facts.shown_names().unwrap_or_else(|| "no name".to_owned());
        let finding = Finding::new(
            Reason::TlsHostnameMismatch,
            Severity::Error,
            format!("the server's certificate is for {names}, not for {}", self.wanted_names()),
            "add a name of the certificate to expected_sans, if it is the right server",
        );
        Some(finding.with_key("expected_sans"))
    }

    fn key_and_revocation_findings(&self, chain: &Chain<'_>, handshake: &Handshake<'_>) -> Vec<Finding> {
        let mut refusals = Vec::new();
        let seen = SpkiPin::of(chain.leaf.der);
        if !self.pins.is_empty() && !seen.is_some_and(|seen| self.pins.contains(&seen)) {
            let mismatch = PinMismatch { seen, pins: self.pins.len() };
            refusals.push(CertificateError::Other(OtherError(Arc::new(mismatch))));
        }
        if self.revocation.names(chain.leaf.der) {
            refusals.push(CertificateError::Revoked);
        }
        let mut found: Vec<Finding> = refusals
            .iter()
            .map(|refusal| handshake.certificate_refused(refusal))
            .map(|Explanation { reason, detail, remedy }| Finding::new(reason, Severity::Error, detail, remedy))
            .collect();
        found.extend(self.revocation.facts().filter(|list| list.is_expired_at(handshake.now)).map(|list| {
            let end = list.next_update.unwrap_or_default();
            Finding::new(
                Reason::TlsCrlExpired,
                Severity::Warning,
                format!("the revocation list of {} should have been renewed on {}", list.issuer, shown_date(end)),
                "fetch the list again from its CA",
            )
        }));
        found
    }

    fn path(
        &self,
        chain: &Chain<'_>,
        presented: &[CertificateDer<'static>],
        now: i64,
        system: &dyn Fn() -> Arc<SystemCas>,
    ) -> Result<Trusted, CertificateError> {
        if self.trust.exact.contains(chain.leaf.der) {
            return Ok(Trusted::Directly);
        }
        let anchors = match self.verification {
            // Nobody is asked then; what the system's CAs would say is the best guess at what is wrong.
            Verification::Off => system().anchors(),
            Verification::Full | Verification::AnyName => Arc::clone(&self.trust.anchors),
        };
        let intermediates = self.intermediates_beside(presented);
        path::find(&chain.leaf, &chain.others, Surroundings { anchors: &anchors, intermediates: &intermediates, now }).map(Trusted::By)
    }

    /// The findings for a chain without a path at any time.
    fn no_path(
        &self,
        refusal: &CertificateError,
        chain: &Chain<'_>,
        presented: &[CertificateDer<'static>],
        handshake: &Handshake<'_>,
        system: &dyn Fn() -> Arc<SystemCas>,
    ) -> Finding {
        let mut explanation = handshake.certificate_refused(refusal);
        let is_unknown = matches!(explanation.reason, Reason::TlsUnknownCa | Reason::TlsIncompleteChain | Reason::TlsBadSignature);
        let mut key = key_of(explanation.reason);
        if is_unknown && !self.trust.has_system_cas && self.verification != Verification::Off {
            let now = i64::try_from(handshake.now.as_secs()).unwrap_or(i64::MAX);
            let anchors = system().anchors();
            let intermediates = self.intermediates_beside(presented);
            if path::find(&chain.leaf, &chain.others, Surroundings { anchors: &anchors, intermediates: &intermediates, now }).is_ok() {
                explanation.detail.push_str("; the system's CAs would accept it");
                explanation.remedy = format!("remove root_ca_cert_path, or set include_system_cas = true; or {}", explanation.remedy);
                key = Some("include_system_cas");
            }
        }
        let finding = Finding::new(explanation.reason, Severity::Error, explanation.detail, explanation.remedy);
        match key {
            Some(key) => finding.with_key(key),
            None => finding,
        }
    }

    /// What the server sent beside its leaf, and what it is known to forget.
    fn intermediates_beside(&self, presented: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
        presented.get(1..).unwrap_or_default().iter().chain(&*self.intermediates).cloned().collect()
    }

    /// The anchor's own certificate, where it comes from the trust file.
    fn anchor_certificate(&self, path: &Path) -> Option<(CertificateFacts, CertificateDer<'static>)> {
        self.trust.exact.iter().find_map(|der| {
            let certificate = Certificate::read(der)?;
            let is_it = certificate.facts.has_subject(&path.anchor.subject)
                && certificate.parsed.public_key().raw.ends_with(&path.anchor.subject_public_key_info);
            is_it.then(|| (certificate.facts, der.clone()))
        })
    }
}

/// Why a leaf is believed.
enum Trusted {
    /// It stands in the trust file itself.
    Directly,
    By(Path),
}

/// The key of the file that changes most about it.
fn key_of(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::TlsUnknownCa | Reason::TlsSelfSigned | Reason::TlsSelfSignedCa | Reason::TlsBadSignature | Reason::TlsAnchorExpired => {
            Some("root_ca_cert_path")
        }
        Reason::TlsIncompleteChain => Some("intermediates_path"),
        Reason::TlsHostnameMismatch | Reason::TlsSniUnknown => Some("server_name"),
        Reason::TlsClientCertRequired | Reason::TlsClientCertRejected => Some("client_cert_path"),
        Reason::TlsProtocolVersion => Some("min_version"),
        Reason::TlsAlpn => Some("http_version"),
        Reason::TlsPinMismatch => Some("spki_pins"),
        Reason::TlsRevocationUnknown | Reason::TlsCrlExpired => Some("crl_paths"),
        Reason::TlsTimeout | Reason::ConnectTimeout => Some("connect_timeout"),
        Reason::Proxy => Some("proxy"),
        Reason::Dns | Reason::Refused | Reason::TlsNotTls => Some("url"),
        _ => None,
    }
}

/// Puts what really happened above what was found out: only a policy that refused makes a certificate an error.
fn weighed(mut findings: Vec<Finding>, trouble: Option<&Explanation>, is_refused: bool) -> Vec<Finding> {
    if !is_refused {
        for finding in findings.iter_mut().filter(|finding| finding.reason != Reason::LocalExpired) {
            finding.severity = finding.severity.min(Severity::Warning);
        }
    }
    let mut kept: Vec<Finding> = Vec::with_capacity(findings.len() + 1);
    if let Some(trouble) = trouble {
        let told_better = findings.iter().position(|finding| finding.reason == trouble.reason && finding.severity >= Severity::Error);
        kept.push(match told_better {
            Some(at) => findings.remove(at),
            None => {
                // What was only suspected has happened.
                findings.retain(|finding| finding.reason != trouble.reason || is_refused);
                Finding::new(trouble.reason, Severity::Error, trouble.detail.clone(), trouble.remedy.clone())
            }
        });
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        if !kept.iter().any(|k| k.reason == finding.reason && k.detail == finding.detail) {
            kept.push(finding);
        }
    }
    for finding in &mut kept {
        finding.key = finding.key.or_else(|| key_of(finding.reason));
    }
    kept
}

fn links(
    presented: &[CertificateDer<'static>],
    chain: &Chain<'_>,
    helpers: &[CertificateDer<'static>],
    anchor: Option<&(CertificateFacts, CertificateDer<'static>)>,
) -> Vec<ChainLink> {
    let link = |position, facts: &CertificateFacts, on_path, sent| ChainLink {
        position,
        spki_sha256: facts.spki_sha256.clone(),
        facts: facts.clone(),
        on_path,
        sent,
    };
    let anchor_der = anchor.map(|(_, der)| der);
    let mut links = vec![link(Position::Leaf, &chain.leaf.facts, true, true)];
    for (certificate, role) in chain.others.iter().zip(&chain.roles) {
        let is_anchor = anchor_der == Some(certificate.der);
        let position = if certificate.facts.self_signed || is_anchor { Position::Root } else { Position::Intermediate };
        links.push(link(position, &certificate.facts, is_anchor || *role == Role::Issuer, true));
    }
    let helpers = helpers.iter().filter_map(|der| CertificateFacts::read(der));
    links.extend(helpers.map(|facts| link(Position::Intermediate, &facts, true, false)));
    if let Some((facts, der)) = anchor
        && !presented.contains(der)
    {
        links.push(link(Position::Root, facts, true, false));
    }
    links
}
