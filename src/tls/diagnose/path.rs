//! The path from the leaf to a trust anchor: now, or at a time when its certificates were valid.

use std::sync::Arc;

use rustls::{
    CertificateError, OtherError, RootCertStore,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::Certificate;
use crate::tls::{effort, policy::provider};

/// Most times at which a path is looked for.
const MOST_TIMES: usize = 8;

/// A path that holds, but perhaps not today.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The intermediates in use, from the leaf upwards.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    pub(super) anchor: TrustAnchor<'static>,
}

/// What to look for a path in.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) anchors: &'a RootCertStore,
    /// What the server sent, without the leaf, and what we have ourselves.
    pub(super) intermediates: &'a [CertificateDer<'static>],
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Looks for a path now, and then at the times at which certificates begin and end.
///
/// # Errors
/// Why there is none at any time, as far as it does not concern dates.
pub(super) fn find(leaf: &Certificate<'_>, others: &[Certificate<'_>], around: Surroundings<'_>) -> Result<Path, CertificateError> {
    let today = match find_at(leaf, around, around.now) {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    let mut why = today.clone();
    for time in times(leaf, others) {
        if !is_about_dates(&why) {
            break;
        }
        match find_at(leaf, around, time) {
            Ok(path) => return Ok(path),
            Err(error) => why = error,
        }
    }
    // Where no time suits all, what is wrong at another time than now is wrong nowhere else.
    Err(refusal(if is_about_dates(&why) { today } else { why }))
}

/// When all might have been valid at once: at the latest begin, at the earliest end, and around the leaf's life.
fn times(leaf: &Certificate<'_>, others: &[Certificate<'_>]) -> Vec<i64> {
    let all = || std::iter::once(leaf).chain(others).map(|c| &c.facts);
    let mut times = vec![leaf.facts.not_after, leaf.facts.not_before];
    times.extend(all().map(|facts| facts.not_before).max());
    times.extend(all().map(|facts| facts.not_after).min());
    times.extend(others.iter().map(|c| c.facts.not_after));
    times.dedup();
    times.truncate(MOST_TIMES);
    times
}

fn find_at(leaf: &Certificate<'_>, around: Surroundings<'_>, time: i64) -> Result<Path, webpki::Error> {
    let end_entity = EndEntityCert::try_from(leaf.der)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time).unwrap_or_default()));
    let algorithms = provider().signature_verification_algorithms.all;
    // Another usage is a finding of its own, and must not hide what is wrong with the path.
    let usage = if leaf.facts.for_servers { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
    let intermediates = effort::bounded(leaf.der, around.intermediates.iter())?;
    let path = end_entity.verify_for_usage(algorithms, &around.anchors.roots, &intermediates, time, usage, None, None)?;
    Ok(Path { intermediates: path.intermediate_certificates().map(|c| c.der().into_owned()).collect(), anchor: path.anchor().to_owned() })
}

fn is_about_dates(error: &webpki::Error) -> bool {
    matches!(error, webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } | webpki::Error::InvalidCertValidity)
}

/// As rustls would say it.
fn refusal(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::UnsupportedSignatureAlgorithmContext(_) | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: Vec::new(), supported_algorithms: Vec::new() }
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}
