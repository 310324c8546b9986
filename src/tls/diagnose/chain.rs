//! What is wrong with the certificates as a chain: order, strays, what is missing, and what it ends at.

use rustls::pki_types::CertificateDer;

use super::certificate::{Certificate, Role};
use crate::{
    finding::{Finding, Severity},
    reason::Reason,
    tls::inspect::{CertificateFacts, shown_date},
};

/// What of a presented chain can be read, and what of it is needed.
pub(super) struct Chain<'a> {
    pub(super) leaf: Certificate<'a>,
    /// In the order in which they were sent.
    pub(super) others: Vec<Certificate<'a>>,
    /// For each of `others`.
    pub(super) roles: Vec<Role>,
    /// How many certificates cannot be read.
    pub(super) unreadable: usize,
}

impl<'a> Chain<'a> {
    /// `None` when there is no leaf that can be read.
    pub(super) fn read(presented: &'a [CertificateDer<'static>]) -> Option<Self> {
        let (first, rest) = presented.split_first()?;
        let leaf = Certificate::read(first)?;
        let others: Vec<_> = rest.iter().filter_map(Certificate::read).collect();
        let roles = by_name(&leaf, &others);
        Some(Self { unreadable: rest.len() - others.len(), leaf, others, roles })
    }

    /// Only what is on a verified path is needed.
    pub(super) fn narrow_to(&mut self, path: &[CertificateDer<'static>]) {
        let mut seen: Vec<&[u8]> = Vec::new();
        for (role, certificate) in self.roles.iter_mut().zip(&self.others) {
            let is_first = !seen.contains(&certificate.der.as_ref());
            seen.push(certificate.der);
            *role = if is_first && path.contains(certificate.der) { Role::Issuer } else { Role::Bystander };
        }
    }

    pub(super) fn findings(&self, now: i64) -> Vec<Finding> {
        let mut found = self.leaf.findings(Role::Leaf, now);
        for (certificate, role) in self.others.iter().zip(&self.roles) {
            found.extend(certificate.findings(*role, now));
        }
        if self.unreadable > 0 {
            found.push(Finding::new(
                Reason::TlsCertVersion,
                Severity::Warning,
                format!("{} of the certificates that the server sends after its own cannot be read", self.unreadable),
                "remove them from the server's certificate chain, or replace them",
            ));
        }
        found.extend(self.order());
        found
    }

    /// RFC 8446 §4.4.2 lets a client put up with any order; RFC 5246 §7.4.2 did not, and older clients do not.
    fn order(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let warning = |severity, detail: String, remedy: &str| Finding::new(Reason::TlsChainOrder, severity, detail, remedy);
        let mut seen = vec![self.leaf.der.as_ref()];
        let mut repeated = 0;
        let mut last = &self.leaf.facts;
        let mut is_disordered = false;
        for (certificate, role) in self.others.iter().zip(&self.roles) {
            if seen.contains(&certificate.der.as_ref()) {
                repeated += 1;
                continue;
            }
            seen.push(certificate.der);
            let facts = &certificate.facts;
            if facts.self_signed {
                found.push(warning(
                    Severity::Info,
                    format!("the server sends the root certificate {} along, which nobody needs", facts.subject),
                    "leave the root out of the server's certificate chain",
                ));
            } else if *role == Role::Issuer || self.leads_somewhere(facts) {
                is_disordered |= !last.is_issued_by(facts);
                last = facts;
            } else {
                found.push(warning(
                    Severity::Warning,
                    format!("the server sends the certificate {}, which does not belong to its chain", facts.subject),
                    "remove it from the server's certificate chain",
                ));
            }
        }
        if is_disordered {
            let detail = "the server sends its certificates in the wrong order; it is put up with here, and refused by some other clients"
                .to_owned();
            let remedy = "put the server's own certificate first, and below each the one that issued it";
            found.insert(0, warning(Severity::Warning, detail, remedy));
        }
        if repeated > 0 {
            let detail = format!("the server sends {repeated} of its certificates more than once");
            found.push(warning(Severity::Warning, detail, "keep each certificate once in the server's certificate chain"));
        }
        found
    }

    /// It issued one of the presented certificates: part of another path, such as a cross-signed CA.
    fn leads_somewhere(&self, facts: &CertificateFacts) -> bool {
        std::iter::once(&self.leaf).chain(&self.others).any(|c| c.facts.is_issued_by(facts))
    }
}

/// Follows the issuers' names among what was presented, as far as they go, and at most as many steps as there are.
pub(in crate::tls) fn top_of<'f>(leaf: &'f CertificateFacts, others: &[&'f CertificateFacts]) -> &'f CertificateFacts {
    let mut top = leaf;
    for _ in others {
        if top.self_signed {
            break;
        }
        let Some(issuer) = others.iter().copied().find(|facts| top.is_issued_by(facts)) else { break };
        top = issuer;
    }
    top
}

/// What the leaf leads to by name: all that may be needed while no path is known.
fn by_name(leaf: &Certificate<'_>, others: &[Certificate<'_>]) -> Vec<Role> {
    let mut roles = vec![Role::Bystander; others.len()];
    let mut current = &leaf.facts;
    for _ in 0..others.len() {
        let next = others.iter().zip(&mut roles).find(|(c, role)| **role == Role::Bystander && current.is_issued_by(&c.facts));
        let Some((issuer, role)) = next else { break };
        if current.self_signed {
            break;
        }
        if issuer.facts.self_signed {
            break;
        }
        *role = Role::Issuer;
        current = &issuer.facts;
    }
    roles
}

/// The anchor is not enforced to be valid; that it is not must be known all the same.
pub(super) fn anchor_finding(anchor: &CertificateFacts, now: i64) -> Option<Finding> {
    if now <= anchor.not_after {
        return None;
    }
    Some(
        Finding::new(
            Reason::TlsAnchorExpired,
            Severity::Warning,
            format!(
                "the trusted CA {} expired on {}; it still vouches here, and other clients refuse it",
                anchor.subject,
                shown_date(anchor.not_after)
            ),
            "get the CA's current certificate and replace it in root_ca_cert_path",
        )
        .with_key("root_ca_cert_path"),
    )
}

/// A chain that ends at an intermediate of our own trust file, which the server did not send.
pub(super) fn completeness_finding(anchor: &CertificateFacts) -> Finding {
    Finding::new(
        Reason::TlsIncompleteChain,
        Severity::Warning,
        format!(
            "the chain is complete only because the intermediate CA {} is in root_ca_cert_path: complete for this gateway, incomplete for \
             other clients",
            anchor.subject
        ),
        "let the server send it; here, move it to intermediates_path and put its root into root_ca_cert_path",
    )
    .with_key("intermediates_path")
}

/// A chain that `intermediates_path` completes.
pub(super) fn help_finding(helper: &CertificateFacts) -> Finding {
    Finding::new(
        Reason::TlsIncompleteChain,
        Severity::Info,
        format!("the server does not send the intermediate certificate {}; it comes from intermediates_path", helper.subject),
        "let the server send its full chain, for its other clients",
    )
    .with_key("intermediates_path")
}
