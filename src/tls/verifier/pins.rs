//! Pins: the keys that a server's leaf may have.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::forward_signatures;
use crate::tls::SpkiPin;

const PREFIX: &str = "sha256/";

impl SpkiPin {
    /// Reads `sha256/BASE64`, as `nexus tls pin` and curl (`sha256//BASE64`) write it.
    pub fn parse(text: &str) -> Option<Self> {
        let read = |base64: &str| STANDARD.decode(base64).ok().and_then(|bytes| bytes.try_into().ok()).map(Self);
        let text = text.trim().strip_prefix(PREFIX)?;
        // One digest in 64 begins with a slash itself.
        read(text).or_else(|| read(text.strip_prefix('/')?))
    }

    /// The pin of a certificate; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
        digest.as_ref().try_into().ok().map(Self)
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

/// The server's key is none of the pinned ones, though everything else about its certificate is as the policy wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leaf's key matches none of {pins} pins")]
pub(in crate::tls) struct PinMismatch {
    /// `None` for a certificate that cannot be read.
    pub(in crate::tls) seen: Option<SpkiPin>,
    pub(in crate::tls) pins: usize,
}

/// Compares the leaf's key with the pins, after everything else has passed: a pin never rescues what the policy refuses.
///
/// Only the leaf counts. A pinned certificate elsewhere in the chain proves nothing: anybody can send it along.
#[derive(Debug)]
pub(in crate::tls) struct Pinned {
    pub(in crate::tls) inner: Arc<dyn ServerCertVerifier>,
    pub(in crate::tls) pins: Arc<[SpkiPin]>,
}

impl Pinned {
    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let seen = SpkiPin::of(leaf);
        if seen.is_some_and(|seen| self.pins.contains(&seen)) {
            return Ok(());
        }
        let mismatch = PinMismatch { seen, pins: self.pins.len() };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch)))))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity)?;
        Ok(verified)
    }

    forward_signatures!(inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_back_as_it_is_written_and_as_curl_writes_it() {
        // The base64 of the second begins with a slash.
        for pin in [SpkiPin([7; 32]), SpkiPin([0xff; 32])] {
            assert_eq!(SpkiPin::parse(&pin.to_string()), Some(pin));
            assert_eq!(SpkiPin::parse(&pin.to_string().replacen("sha256/", "sha256//", 1)), Some(pin));
        }
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        let short = STANDARD.encode([7; 31]);
        for text in ["", "sha256/", "md5/AAAA", "AAAA", "sha1/AAAA", &format!("sha256/{short}"), "sha256/not base64"] {
            assert_eq!(SpkiPin::parse(text), None, "{text}");
        }
    }
}
