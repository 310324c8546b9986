//! The only code that weakens a verification, and never the proof that the server holds its certificate's key.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
};

use super::{observed::MAX_CHAIN, revocation::Revocation, verifier::forward_signatures};

/// `accept_invalid_hostnames = true`: forgives a wrong name, and nothing else.
///
/// Sound because the verification checks the name last: a name error proves that everything else passed.
#[derive(Debug)]
pub(super) struct AnyName {
    pub(super) strict: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    forward_signatures!(strict);
}

/// `accept_expired_until`: until then forgives an end date that has passed, and nothing else.
///
/// The chain is verified again at a time when it was valid, names, usage and revocation included. A chain that was never
/// valid as a whole stays refused.
#[derive(Debug)]
pub(super) struct ExcusedExpiry {
    pub(super) strict: Arc<dyn ServerCertVerifier>,
    pub(super) until: UnixTime,
    /// What may be on the path without being sent.
    pub(super) intermediates: Arc<[CertificateDer<'static>]>,
    /// With `crl_expired = "deny"`: no excuse reaches a list that is overdue now, though it was not then.
    pub(super) revocation: Revocation,
}

/// Most times at which a chain is verified again.
const MAX_TIMES: usize = 8;

impl ExcusedExpiry {
    /// When certificates of the chain ended, the latest first.
    fn times(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> Vec<UnixTime> {
        let end = |der: &CertificateDer<'_>| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
            u64::try_from(certificate.validity().not_after.timestamp()).ok()
        };
        let sent = std::iter::once(leaf).chain(intermediates.iter()).take(MAX_CHAIN);
        let mut ends: Vec<u64> = sent.filter_map(end).chain(self.intermediates.iter().filter_map(end)).collect();
        ends.retain(|end| *end < now.as_secs());
        ends.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
        ends.dedup();
        ends.truncate(MAX_TIMES);
        ends.into_iter().map(|end| UnixTime::since_unix_epoch(Duration::from_secs(end))).collect()
    }

    fn has_overdue_list(&self, now: UnixTime) -> bool {
        self.revocation.denies_expired() && self.revocation.facts().any(|list| list.is_expired_at(Duration::from_secs(now.as_secs())))
    }
}

impl ServerCertVerifier for ExcusedExpiry {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = match self.strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(refused) if is_about_dates(&refused) && now < self.until => refused,
            outcome => return outcome,
        };
        if self.has_overdue_list(now) {
            return Err(Error::InvalidCertificate(CertificateError::ExpiredRevocationList));
        }
        for time in self.times(end_entity, intermediates, now) {
            match self.strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, time) {
                Err(again) if is_about_dates(&again) => {}
                outcome => return outcome,
            }
        }
        Err(refused)
    }

    forward_signatures!(strict);
}

fn is_about_dates(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// `verify_certs = false`: any certificate will do, but its key must have signed the handshake.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls12_signature(message, cert, dss, &self.algorithms) {
            Err(e) if is_unparsable(&e) => self.verify_tls12_with_raw_key(message, cert, dss).ok_or(e),
            outcome => outcome,
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match verify_tls13_signature(message, cert, dss, &self.algorithms) {
            Err(e) if is_unparsable(&e) => {
                let Some(key) = raw_key(cert) else { return Err(e) };
                verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            }
            outcome => outcome,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl AnyCertificate {
    fn verify_tls12_with_raw_key(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Option<HandshakeSignatureValid> {
        let key = raw_key(cert)?;
        let key = webpki::RawPublicKeyEntity::try_from(&key).ok()?;
        let (_, algorithms) = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme)?;
        // In TLS 1.2 a scheme names no curve, so that several algorithms may fit.
        let is_valid = algorithms.iter().any(|algorithm| key.verify_signature(*algorithm, message, dss.signature()).is_ok());
        is_valid.then(HandshakeSignatureValid::assertion)
    }
}

/// X.509 v1 and unknown critical extensions: webpki cannot read such a certificate, though its key is well-formed.
fn is_unparsable(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Other(_) | CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension
        )
    )
}

fn raw_key(cert: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(cert).ok()?;
    Some(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}
