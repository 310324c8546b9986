//! The verification of a server: chain, then name. What weakens it is in `danger`.

pub(super) mod expected;
pub(super) mod pins;

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{
    effort,
    inspect::{CertificateFacts, Validity},
    observed::Observed,
    resumption::LONGEST,
    revocation::Revocation,
};

/// Passes what concerns signatures on to a field: a layer over a verification changes what it says of certificates only.
macro_rules! forward_signatures {
    ($field:ident) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$field.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.$field.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$field.supported_verify_schemes()
        }
    };
}

pub(super) use forward_signatures;

/// Chain and name in full, plus the rule for a leaf that is itself in the trust file.
#[derive(Debug)]
pub(super) struct Strict {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// The certificates of `root_ca_cert_path`.
    pub(super) exact: Arc<[CertificateDer<'static>]>,
    /// Of `intermediates_path`: they help to find a path, and vouch for nothing.
    pub(super) intermediates: Arc<[CertificateDer<'static>]>,
    pub(super) revocation: Revocation,
}

impl ServerCertVerifier for Strict {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // What the server sends comes first; ours only fill the gaps.
        let outcome = match effort::bounded(end_entity, intermediates.iter().chain(&*self.intermediates)) {
            Ok(both) => self.inner.verify_server_cert(end_entity, &both, server_name, ocsp_response, now),
            Err(too_many) => Err(effort::refusal(too_many)),
        };
        match outcome {
            Err(e) if may_be_trusted_directly(&e) && self.exact.iter().any(|c| c.as_ref() == end_entity.as_ref()) => {
                if let Some(refusal) = self.revocation.refusal(end_entity, Duration::from_secs(now.as_secs())) {
                    return Err(Error::InvalidCertificate(refusal));
                }
                verify_trusted_leaf(end_entity, server_name, now).map_err(|own| own.unwrap_or(e))
            }
            outcome => outcome,
        }
    }

    forward_signatures!(inner);
}

/// The refusals of a leaf that an operator trusts by naming it: `openssl req -x509` makes CA certificates, a leaf of an
/// unknown CA is no path to an anchor, and what else the server sends does not matter then.
fn may_be_trusted_directly(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            let error = inner.downcast_ref::<webpki::Error>();
            matches!(error, Some(webpki::Error::CaUsedAsEndEntity | webpki::Error::MaximumPathBuildCallsExceeded))
        }
        _ => false,
    }
}

/// Everything but the path: dates, usage, name.
fn verify_trusted_leaf(leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Option<Error>> {
    let refused = |e| Some(Error::InvalidCertificate(e));
    let facts = CertificateFacts::read(leaf).ok_or(None)?;
    let time_of = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    match facts.validity_at(Duration::from_secs(now.as_secs())) {
        Validity::Valid => {}
        Validity::Expired => return Err(refused(CertificateError::ExpiredContext { time: now, not_after: time_of(facts.not_after) })),
        Validity::NotYet => return Err(refused(CertificateError::NotValidYetContext { time: now, not_before: time_of(facts.not_before) })),
    }
    if !facts.for_servers {
        return Err(refused(CertificateError::InvalidPurpose));
    }
    let parsed = ParsedCertificate::try_from(leaf).map_err(Some)?;
    verify_server_name(&parsed, name).map_err(Some)?;
    Ok(ServerCertVerified::assertion())
}

/// Holds every handshake to the policy's own name, and notes what was presented and what came of it.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    /// Verified whatever name the connection was made under.
    pub(super) name: ServerName<'static>,
    /// Of the policy, whose ends it may depend on.
    pub(super) revocation: Revocation,
    pub(super) observed: Arc<Observed>,
}

impl Recording {
    /// How long a verification at `now` may be relied on. What has ended already did not matter to it.
    fn lasts_until(&self, leaf: &CertificateDer<'_>, now: Duration) -> Duration {
        let end = CertificateFacts::read(leaf).and_then(|facts| u64::try_from(facts.not_after).ok()).map(Duration::from_secs);
        let ends = end.into_iter().chain(self.revocation.ends());
        ends.filter(|end| *end > now).fold(now.saturating_add(LONGEST), Duration::min)
    }
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome = self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now);
        if outcome.is_ok() {
            self.observed.note_verified_until(self.lasts_until(end_entity, Duration::from_secs(now.as_secs())));
        }
        self.observed.note_staple(ocsp_response);
        self.observed.record(end_entity, intermediates, outcome.as_ref().err());
        outcome
    }

    forward_signatures!(inner);
}
