//! Why a server's certificate was refused, told from the captured chain: the error alone names neither certificate nor cause.

use rustls::{CertificateError, OtherError, pki_types::UnixTime};

use super::Handshake;
use crate::{
    reason::{Explanation, Reason},
    tls::{
        diagnose::top_of,
        inspect::{CertificateFacts, shown, shown_date, shown_span},
        verifier::pins::PinMismatch,
    },
};

impl Handshake<'_> {
    pub(in crate::tls) fn certificate_refused(&self, refusal: &CertificateError) -> Explanation {
        let chain: Vec<_> = self.observed.chain().iter().filter_map(CertificateFacts::read).collect();
        match refusal {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => self.expired(refusal, &chain),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => self.not_yet_valid(refusal, &chain),
            CertificateError::UnknownIssuer => self.unknown_issuer(&chain),
            CertificateError::BadSignature => bad_signature(&chain),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => self.wrong_name(),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Explanation::new(
                Reason::TlsWrongUsage,
                format!("{} is not for servers (no serverAuth in its extended key usage)", leaf_words(&chain)),
                "reissue the server's certificate with serverAuth; a client certificate cannot serve",
            ),
            CertificateError::Revoked => {
                Explanation::new(Reason::TlsRevoked, format!("{} was revoked", leaf_words(&chain)), "renew it on the server")
            }
            CertificateError::UnknownRevocationStatus => self.no_list(&chain),
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => self.list_expired(),
            CertificateError::Other(OtherError(inner)) => {
                if let Some(mismatch) = inner.downcast_ref::<PinMismatch>() {
                    return other_key(mismatch);
                }
                match inner.downcast_ref::<webpki::Error>() {
                    Some(error) => unreadable_or_unsuitable(error, &chain),
                    None => unsupported(&chain, &shown(&inner.to_string())),
                }
            }
            CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
                unsupported(&chain, "it is malformed or has an unknown critical extension")
            }
            other if is_signature_algorithm(other) => Explanation::new(
                Reason::TlsWeakSignature,
                format!("{} or its chain is signed with an algorithm that is not accepted, such as SHA-1", leaf_words(&chain)),
                "reissue it with SHA-256 or better, from an RSA, ECDSA or Ed25519 CA",
            ),
            other => unsupported(&chain, &shown(&other.to_string())),
        }
    }

    /// The wanted list is that of the issuer of some certificate; with the usual scope, of the leaf's.
    fn no_list(&self, chain: &[CertificateFacts]) -> Explanation {
        let lists: Vec<_> = self.policy.revocation_lists().map(|list| list.issuer.as_str()).take(4).collect();
        let issuer = chain.first().map_or("its CA", |leaf| leaf.issuer.as_str());
        Explanation::new(
            Reason::TlsRevocationUnknown,
            format!(
                "no revocation list covers {}, issued by {issuer}, or a CA above it (there are lists of: {})",
                leaf_words(chain),
                lists.join("; ")
            ),
            "add the list of its CA to crl_paths, with crl_scope = \"chain\" those of every CA above it too; or set crl_missing = \"allow\"",
        )
    }

    fn list_expired(&self) -> Explanation {
        let overdue = self.policy.revocation_lists().find(|list| list.is_expired_at(self.now));
        let whose = overdue.map_or_else(|| "a revocation list".to_owned(), |list| format!("the revocation list of {}", list.issuer));
        let end = overdue.and_then(|list| list.next_update).map(|end| format!(" on {}", shown_date(end))).unwrap_or_default();
        Explanation::new(
            Reason::TlsCrlExpired,
            format!("{whose} should have been renewed{end}, and crl_expired = \"deny\" does not go without"),
            "fetch the list again from its CA (crl_paths), or set crl_expired = \"warn\"",
        )
    }

    fn expired(&self, refusal: &CertificateError, chain: &[CertificateFacts]) -> Explanation {
        let end = match refusal {
            CertificateError::ExpiredContext { not_after, .. } => Some(seconds(*not_after)),
            _ => None,
        };
        let now = self.now_seconds();
        // Only the date tells which certificate of the chain it was; without one, the first that is past its end.
        let culprit = chain.iter().position(|c| end.map_or(c.not_after < now, |end| c.not_after == end));
        let ago = |end: i64| format!("expired {} ago, on {}", shown_span(end, now), shown_date(end));
        match (culprit.and_then(|at| chain.get(at).map(|c| (at, c))), end) {
            (Some((0, leaf)), _) => Explanation::new(
                Reason::TlsExpired,
                format!("the server's certificate {} {}", leaf.subject, ago(leaf.not_after)),
                "renew the certificate on the server",
            ),
            (Some((_, intermediate)), _) => Explanation::new(
                Reason::TlsIntermediateExpired,
                format!("the intermediate certificate {} {}", intermediate.subject, ago(intermediate.not_after)),
                "replace the intermediate in the server's certificate chain",
            ),
            (None, Some(end)) => {
                Explanation::new(Reason::TlsExpired, format!("a certificate of the server's chain {}", ago(end)), "renew it on the server")
            }
            (None, None) => Explanation::new(
                Reason::TlsExpired,
                format!("{} has impossible dates: it ends before it begins", leaf_words(chain)),
                "reissue the certificate",
            ),
        }
    }

    fn not_yet_valid(&self, refusal: &CertificateError, chain: &[CertificateFacts]) -> Explanation {
        let begin = match refusal {
            CertificateError::NotValidYetContext { not_before, .. } => Some(seconds(*not_before)),
            _ => chain.first().map(|c| c.not_before),
        };
        let from = begin.map_or_else(|| "later".to_owned(), |begin| format!("from {}", shown_date(begin)));
        let whose = chain
            .iter()
            .find(|c| Some(c.not_before) == begin)
            .map_or_else(|| leaf_words(chain), |c| format!("the certificate {}", c.subject));
        Explanation::new(
            Reason::TlsNotYetValid,
            format!("{whose} is valid only {from}; the clock here says {}", shown_date(self.now_seconds())),
            "check this machine's clock first, then the server's certificate",
        )
    }

    /// One error of the verification, four causes.
    fn unknown_issuer(&self, chain: &[CertificateFacts]) -> Explanation {
        let Some(leaf) = chain.first() else {
            return Explanation::new(
                Reason::TlsUnknownCa,
                "the server's CA is not trusted",
                "set root_ca_cert_path to its CA's certificate",
            );
        };
        if leaf.self_signed {
            return self_signed(leaf);
        }
        let others: Vec<_> = chain.iter().collect();
        let top = top_of(leaf, &others);
        if self.policy.trusts_name_of_issuer(top) {
            return bad_signature(chain);
        }
        if top.self_signed {
            return self.untrusted_ca(&top.subject, None, chain.len());
        }
        let known_house = top.issuer_organization.as_deref().is_some_and(|o| self.policy.trusts_organization(o));
        if known_house || (chain.len() == 1 && top.issuer_url.is_some()) {
            return incomplete(top, chain.len());
        }
        self.untrusted_ca(&top.issuer, top.issuer_url.as_deref(), chain.len())
    }

    fn untrusted_ca(&self, ca: &str, published: Option<&str>, sent: usize) -> Explanation {
        let count = if sent == 1 { "1 certificate".to_owned() } else { format!("{sent} certificates") };
        Explanation::new(
            Reason::TlsUnknownCa,
            format!(
                "the server's certificate comes from the CA {ca}, which is not trusted here (trusted: {}; the server sent {count})",
                self.policy.trust_words()
            ),
            format!(
                "set root_ca_cert_path to that CA's certificate; if it is an intermediate CA, the server should send its full chain, or \
                 intermediates_path can hold what it leaves out{}",
                published.and_then(fetch_command).map(|command| format!(" (get it: {command})")).unwrap_or_default()
            ),
        )
    }

    fn wrong_name(&self) -> Explanation {
        match self.observed.chain().first().and_then(|leaf| self.policy.name_finding(leaf)) {
            Some(finding) => finding.explanation(),
            None => Explanation::new(
                Reason::TlsHostnameMismatch,
                format!("the server's certificate is for another name than {}", self.policy.wanted_names()),
                "set server_name to a name of the certificate",
            ),
        }
    }

    fn now_seconds(&self) -> i64 {
        i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX)
    }
}

fn other_key(mismatch: &PinMismatch) -> Explanation {
    let pins = if mismatch.pins == 1 { "the one pin".to_owned() } else { format!("any of {} pins", mismatch.pins) };
    let seen = mismatch.seen.map_or_else(|| "which cannot be read".to_owned(), |seen| seen.to_string());
    Explanation::new(
        Reason::TlsPinMismatch,
        format!("the key of the server's certificate, {seen}, does not match {pins}"),
        "if the server's key was changed on purpose, add this pin to spki_pins; if not, somebody stands in between",
    )
}

fn bad_signature(chain: &[CertificateFacts]) -> Explanation {
    if let Some(bits) = chain.iter().find_map(|c| c.rsa_bits.filter(|bits| *bits < 2048)) {
        return weak_key(bits);
    }
    let issuer = chain.first().map_or("its CA", |leaf| leaf.issuer.as_str());
    Explanation::new(
        Reason::TlsBadSignature,
        format!(
            "{} was not signed by the trusted CA of the same name, {issuer}: the CA was made anew, or the trust file is stale",
            leaf_words(chain)
        ),
        "replace the certificate in root_ca_cert_path by the CA's current one",
    )
}

fn unreadable_or_unsuitable(error: &webpki::Error, chain: &[CertificateFacts]) -> Explanation {
    match error {
        webpki::Error::CaUsedAsEndEntity => match chain.first() {
            Some(leaf) if leaf.self_signed => self_signed(leaf),
            _ => Explanation::new(
                Reason::TlsSelfSignedCa,
                format!("{} is a CA certificate, which cannot serve", leaf_words(chain)),
                "reissue the server's certificate with CA:FALSE, or put this very certificate into root_ca_cert_path",
            ),
        },
        webpki::Error::UnsupportedCertVersion => unsupported(chain, "it is an X.509 version 1 certificate"),
        webpki::Error::UnsupportedCriticalExtension => unsupported(chain, "it has a critical extension that is not understood"),
        webpki::Error::NameConstraintViolation => unsuitable(chain, "its CA may not issue for this name (name constraints)"),
        webpki::Error::PathLenConstraintViolated => {
            unsuitable(chain, "there are more CAs in its chain than one of them permits (path length)")
        }
        webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded
        | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
            unsuitable(chain, "its certificates can be put together in too many ways to try them all")
        }
        webpki::Error::EndEntityUsedAsCa => unsuitable(chain, "one of its issuers is not a CA"),
        other => unsupported(chain, &shown(&other.to_string())),
    }
}

/// `top`: the last certificate that came, whose issuer is missing.
fn incomplete(top: &CertificateFacts, sent: usize) -> Explanation {
    let published = top.issuer_url.as_ref().map(|url| format!("; its CA says that it is published at {url}")).unwrap_or_default();
    let detail = if sent == 1 {
        format!(
            "the server sends its certificate {} alone; the certificate of its issuer {} is missing{published}",
            top.subject, top.issuer
        )
    } else {
        format!("the server's chain ends at {}; the certificate of its issuer {} is missing{published}", top.subject, top.issuer)
    };
    let fetch = top.issuer_url.as_deref().and_then(fetch_command).map(|command| format!(" (get it: {command})")).unwrap_or_default();
    let remedy = format!("let the server send its full chain, or set intermediates_path to the missing certificate{fetch}");
    Explanation::new(Reason::TlsIncompleteChain, detail, remedy)
}

/// A command that is safe to paste, although the URL comes from a certificate; nothing is ever fetched by ourselves.
fn fetch_command(url: &str) -> Option<String> {
    let is_plain = url.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?=&%+".contains(&b));
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    (is_plain && is_web).then(|| {
        let convert = if url.ends_with(".p7c") { "pkcs7 -inform DER -print_certs" } else { "x509 -inform DER" };
        format!("curl -s '{url}' | openssl {convert} -out missing.pem")
    })
}

fn self_signed(leaf: &CertificateFacts) -> Explanation {
    let reason = if leaf.is_ca { Reason::TlsSelfSignedCa } else { Reason::TlsSelfSigned };
    Explanation::new(
        reason,
        format!("the server's certificate {} is self-signed and not trusted here; SHA-256 {}", leaf.subject, leaf.fingerprint),
        "compare the fingerprint with the server's owner, save the certificate (nexus tls probe --save-chain DIR), and set \
         root_ca_cert_path to it",
    )
}

fn weak_key(bits: usize) -> Explanation {
    Explanation::new(
        Reason::TlsWeakKey,
        format!("the server's chain has an RSA key of {bits} bits; at least 2048 are needed"),
        "reissue the certificate with a key of 2048 bits or more",
    )
}

fn unsupported(chain: &[CertificateFacts], why: &str) -> Explanation {
    Explanation::new(
        Reason::TlsCertVersion,
        format!("{} cannot be verified: {why}", leaf_words(chain)),
        "reissue it as an ordinary X.509 version 3 certificate",
    )
}

fn unsuitable(chain: &[CertificateFacts], why: &str) -> Explanation {
    Explanation::new(
        Reason::TlsUnknownCa,
        format!("{} has no valid chain: {why}", leaf_words(chain)),
        "reissue it from a CA that may issue it",
    )
}

fn leaf_words(chain: &[CertificateFacts]) -> String {
    chain.first().map_or_else(|| "the server's certificate".to_owned(), |leaf| format!("the server's certificate {}", leaf.subject))
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[allow(deprecated, reason = "older variants of one meaning")]
fn is_signature_algorithm(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}
