//! What there is to say about our client certificate.

use std::time::Duration;

use crate::{
    finding::{Finding, Severity},
    reason::Reason,
    tls::{
        CertificateFacts, Observed, TlsPolicy, Validity,
        inspect::{shown_date, shown_span},
    },
};

/// Names of acceptable CAs are kept only up to this many, so that a longer list says nothing of what is not in it.
const HINTS_KEPT: usize = 8;

impl TlsPolicy {
    /// `answered`: the server took the connection to its end.
    pub(super) fn identity_findings(&self, observed: &Observed, answered: bool, now: Duration) -> Vec<Finding> {
        let asked = observed.asked_for_client_certificate();
        let Some(identity) = &self.identity else {
            if !asked || !answered {
                return Vec::new();
            }
            let finding = Finding::new(
                Reason::TlsClientCertRequired,
                Severity::Warning,
                "the server asks for a client certificate and goes on without one; it may refuse the requests, as nginx does with status 400",
                "set client_cert_path and client_key_path if calls are refused",
            );
            return vec![finding.with_key("client_cert_path")];
        };
        let mut found: Vec<Finding> = end_finding(&identity.leaf, now).into_iter().collect();
        let hints = observed.accepted_client_cas();
        let chain: Vec<_> = identity.key.cert.iter().take(HINTS_KEPT).filter_map(CertificateFacts::read).collect();
        let is_known = chain.iter().any(|c| hints.contains(&c.issuer) || hints.contains(&c.subject));
        if asked && !hints.is_empty() && hints.len() < HINTS_KEPT && !is_known {
            let finding = Finding::new(
                Reason::TlsClientCertRejected,
                Severity::Warning,
                format!(
                    "the server says that it accepts client certificates of {}; ours, {}, comes from {}",
                    hints.join("; "),
                    identity.leaf.subject,
                    identity.leaf.issuer
                ),
                "use a certificate of a CA that the server accepts, or add the intermediate certificates between to client_cert_path",
            );
            found.push(finding.with_key("client_cert_path"));
        }
        found
    }
}

/// A certificate that was good when it was read, and ended since.
fn end_finding(leaf: &CertificateFacts, now: Duration) -> Option<Finding> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    (leaf.validity_at(now) == Validity::Expired).then(|| {
        let span = shown_span(leaf.not_after, seconds);
        Finding::new(
            Reason::LocalExpired,
            Severity::Error,
            format!("our client certificate {} expired {span} ago, on {}", leaf.subject, shown_date(leaf.not_after)),
            "renew the client certificate; it is picked up by itself",
        )
        .with_key("client_cert_path")
    })
}
