//! A bound on the search for a path to a trust anchor, which a chain can be made to draw out.
//!
//! The search follows names, and checks signatures only where it arrives at an anchor (RFC 4158 §2.3). At each step it looks
//! at every certificate anew. Ten CAs of one name can follow each other in 150,000 ways, so that one small message would keep
//! a thread busy for seconds, before anything is known of who sent it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rustls::{CertificateError, Error, OtherError, pki_types::CertificateDer};
use webpki::EndEntityCert;

/// Most looks at a certificate in one search, well below a tenth of a second. An ordinary chain takes a dozen.
const MOST_LOOKS: u64 = 100_000;

/// So few that all their combinations may be tried.
const FEW: usize = 4;

/// Most intermediates on a path; the search itself goes no further.
const LONGEST_PATH: usize = 6;

/// The certificates that a path from `leaf` is searched in, each once, in their order.
///
/// # Errors
/// [`webpki::Error::MaximumPathBuildCallsExceeded`] where their names allow too many paths to try them all.
pub(super) fn bounded<'a>(
    leaf: &CertificateDer<'_>,
    certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
) -> Result<Vec<CertificateDer<'a>>, webpki::Error> {
    let mut seen = HashSet::new();
    let distinct: Vec<_> = certificates.map(AsRef::as_ref).filter(|der| seen.insert(*der)).map(CertificateDer::from).collect();
    if distinct.len() > FEW && looks(leaf, &distinct) > MOST_LOOKS {
        return Err(webpki::Error::MaximumPathBuildCallsExceeded);
    }
    Ok(distinct)
}

/// As rustls says it when the search itself gives up.
pub(super) fn refusal(error: webpki::Error) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// How many looks the search takes at most: at each certificate, in each step of each path.
///
/// Read as the search reads them, so that nothing is found there that is not counted here.
fn looks(leaf: &CertificateDer<'_>, certificates: &[CertificateDer<'_>]) -> u64 {
    let Ok(leaf) = EndEntityCert::try_from(leaf) else { return 0 };
    let readable: Vec<_> = certificates.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
    let mut by_subject: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (index, certificate) in readable.iter().enumerate() {
        by_subject.entry(certificate.subject()).or_default().push(index);
    }
    let named = |name: &[u8]| by_subject.get(name).map(Vec::as_slice).unwrap_or_default();
    // In how many ways each certificate is arrived at, by paths of one length.
    let mut ways: HashMap<usize, u64> = named(leaf.issuer()).iter().map(|index| (*index, 1)).collect();
    let mut steps = 1_u64;
    for _ in 0..LONGEST_PATH {
        let mut next: HashMap<usize, u64> = HashMap::new();
        for (index, count) in &ways {
            steps = steps.saturating_add(*count);
            let issuer = readable.get(*index).map(|certificate| certificate.issuer()).unwrap_or_default();
            for above in named(issuer).iter().filter(|above| *above != index) {
                let arrived = next.entry(*above).or_default();
                *arrived = arrived.saturating_add(*count);
            }
        }
        ways = next;
    }
    steps.saturating_mul(u64::try_from(certificates.len()).unwrap_or(u64::MAX))
}
