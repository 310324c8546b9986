//! From the error of a failed connection to words: what, which certificate, and the key to change.

mod certificate;

use std::{error::Error, io, time::Duration};

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use super::{MinVersion, Observed, TlsPolicy, inspect::shown};
use crate::reason::{Explanation, Reason};

/// Deepest error chain that is followed.
const MAX_DEPTH: usize = 32;

/// The circumstances of a failed handshake.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    pub policy: &'a TlsPolicy,
    pub observed: &'a Observed,
    /// Since 1970.
    pub now: Duration,
}

/// Explains the TLS failure in an error chain; `None` if there is none in it.
pub fn explain(error: &(dyn Error + 'static), handshake: &Handshake<'_>) -> Option<Explanation> {
    find_in_chain::<rustls::Error>(error).map(|found| handshake.explain(found))
}

/// Finds an error of one type in a chain.
///
/// `source()` alone misses it: an `io::Error` skips its own payload there, so the payload is looked into as well.
pub fn find_in_chain<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    find_within(error, MAX_DEPTH)
}

fn find_within<'a, E: Error + 'static>(error: &'a (dyn Error + 'static), depth: usize) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    let depth = depth.checked_sub(1)?;
    // An io::Error's source is its payload's source, so that the payload leads to everything behind it.
    let payload = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let next = match payload {
        Some(inner) => inner,
        None => error.source()?,
    };
    find_within(next, depth)
}

impl Handshake<'_> {
    /// Explains one error of the handshake.
    pub fn explain(&self, error: &rustls::Error) -> Explanation {
        match error {
            rustls::Error::InvalidCertificate(refusal) => self.certificate_refused(refusal),
            rustls::Error::InvalidCertRevocationList(why) => Explanation::new(
                Reason::TlsRevocationUnknown,
                format!("a revocation list for the server's certificate is not valid: {why:?}"),
                "fetch the list again from its CA; it must be signed by the CA that issued the certificate (crl_paths)",
            ),
            rustls::Error::AlertReceived(alert) => self.alert(*alert),
            rustls::Error::InvalidMessage(InvalidMessage::CertificatePayloadTooLarge | InvalidMessage::HandshakePayloadTooLarge) => {
                Explanation::new(
                    Reason::TlsCertVersion,
                    "the server's certificate chain is larger than 64 KiB",
                    "let the server send a smaller certificate",
                )
            }
            rustls::Error::InvalidMessage(_) if self.observed.chain().is_empty() => not_tls(None),
            rustls::Error::PeerIncompatible(why) => self.incompatible(why),
            rustls::Error::NoApplicationProtocol => alpn(),
            other => Explanation::new(
                Reason::Protocol,
                format!("the TLS connection failed: {}", shown(&other.to_string())),
                "look at the server's TLS configuration and at what stands between",
            ),
        }
    }

    /// An alert that we receive judges our hello or our certificate, never the server's.
    fn alert(&self, alert: AlertDescription) -> Explanation {
        let asked = self.observed.asked_for_client_certificate();
        match alert {
            AlertDescription::CertificateRequired => self.client_certificate_required(),
            AlertDescription::ProtocolVersion => self.protocol_version(),
            AlertDescription::UnrecognisedName => Explanation::new(
                Reason::TlsSniUnknown,
                format!("the server does not know the name {}", self.policy.name().to_str()),
                "correct the host in url, or set server_name to a name that the server has",
            ),
            AlertDescription::NoApplicationProtocol => alpn(),
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity if !asked => Explanation::new(
                Reason::TlsNoSharedCipher,
                "the server shares no cipher suite, group or signature algorithm with us (alert handshake_failure)",
                "let the server offer an ECDHE suite with AES-GCM or ChaCha20-Poly1305, on X25519 or P-256",
            ),
            _ if self.policy.has_identity() && asked => self.client_certificate_rejected(alert),
            _ if asked => self.client_certificate_required(),
            _ => Explanation::new(
                Reason::Protocol,
                format!("the server ended the TLS handshake with the alert {alert:?}"),
                "look into the server's log",
            ),
        }
    }

    fn client_certificate_required(&self) -> Explanation {
        if self.policy.has_identity() {
            return self.client_certificate_rejected(AlertDescription::CertificateRequired);
        }
        Explanation::new(
            Reason::TlsClientCertRequired,
            format!("the server demands a client certificate{}", self.accepted_cas()),
            "set client_cert_path and client_key_path",
        )
    }

    /// What to say when a server that asked for a client certificate goes silent before its first answer: in TLS 1.3 its
    /// refusal comes after our handshake is over, and the alert may be lost in the closing.
    pub fn client_certificate_suspected(&self) -> Explanation {
        let Some(ours) = self.policy.identity_subject() else { return self.client_certificate_required() };
        Explanation::new(
            Reason::TlsClientCertRejected,
            format!(
                "the server got our client certificate {ours} and closed the connection before its first answer{}",
                self.accepted_cas()
            ),
            "look into the server's log; most often it does not trust the CA of client_cert_path",
        )
    }

    /// What to say when the refusal of our client certificate, or of its absence, is an HTTP answer.
    pub fn client_certificate_refused_in_http(&self) -> Explanation {
        let Some(ours) = self.policy.identity_subject() else { return self.client_certificate_required() };
        Explanation::new(
            Reason::TlsClientCertRejected,
            format!("the server refused our client certificate {ours} in its HTTP answer{}", self.accepted_cas()),
            "look into the server's log; most often it does not trust the CA of client_cert_path",
        )
    }

    fn client_certificate_rejected(&self, alert: AlertDescription) -> Explanation {
        let ours = self.policy.identity_subject().unwrap_or_default();
        let (why, remedy) = match alert {
            AlertDescription::UnknownCA => {
                ("it does not know its CA", "let the server trust its CA, or add our intermediate certificates to client_cert_path")
            }
            AlertDescription::CertificateExpired => {
                ("it holds it for expired, or not valid yet", "check the dates of the certificate and both clocks")
            }
            AlertDescription::UnsupportedCertificate => {
                ("it is not for client authentication", "use a certificate with clientAuth in its extended key usage")
            }
            AlertDescription::CertificateRevoked => ("it was revoked", "get a new client certificate"),
            AlertDescription::AccessDenied => ("it may not come in", "let the server admit this certificate"),
            AlertDescription::CertificateRequired => {
                ("none of ours was acceptable to it", "use a certificate of a CA that the server accepts")
            }
            _ => ("it does not say why", "look into the server's log; most often its CA, dates or usage do not suit"),
        };
        Explanation::new(
            Reason::TlsClientCertRejected,
            format!("the server refused our client certificate {ours}: {why} (alert {alert:?}){}", self.accepted_cas()),
            format!("{remedy} (client_cert_path)"),
        )
    }

    fn accepted_cas(&self) -> String {
        let hints = self.observed.accepted_client_cas();
        if hints.is_empty() { String::new() } else { format!(", and accepts those of: {}", hints.join("; ")) }
    }

    fn incompatible(&self, why: &PeerIncompatible) -> Explanation {
        match why {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => self.protocol_version(),
            other => Explanation::new(
                Reason::TlsNoSharedCipher,
                format!("the server's TLS does not fit ours: {other:?}"),
                "look at the server's cipher suites, groups and signature algorithms",
            ),
        }
    }

    fn protocol_version(&self) -> Explanation {
        match self.policy.min_version() {
            MinVersion::Tls12 => Explanation::new(
                Reason::TlsProtocolVersion,
                "the server speaks neither TLS 1.2 nor TLS 1.3",
                "turn on TLS 1.2 or 1.3 on the server; older versions are never used",
            ),
            MinVersion::Tls13 => Explanation::new(
                Reason::TlsProtocolVersion,
                "the server does not speak TLS 1.3",
                "turn on TLS 1.3 on the server, or set min_version = \"1.2\"",
            ),
        }
    }
}

/// What answers on the port, when it is known: `HTTP`, `SSH`.
pub fn not_tls(what: Option<&str>) -> Explanation {
    match what {
        Some("HTTP") => Explanation::new(
            Reason::TlsNotTls,
            "plain HTTP answers on that port, not TLS",
            "correct the port in url, or write http:// if the server has no TLS",
        ),
        Some(what) => Explanation::new(Reason::TlsNotTls, format!("{what} answers on that port, not TLS"), "correct the port in url"),
        None => Explanation::new(
            Reason::TlsNotTls,
            "what answers on that port does not speak TLS; often it is plain HTTP",
            "correct the port in url, or write http:// if the server has no TLS",
        ),
    }
}

fn alpn() -> Explanation {
    Explanation::new(
        Reason::TlsAlpn,
        "the server accepts no version of HTTP that is offered to it (ALPN)",
        "set http_version = \"auto\", or let the server offer the version that is configured",
    )
}

#[cfg(test)]
mod tests;
