//! What the handshakes of one client configuration showed, for the explanation of their failures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{SignatureScheme, client::ResolvesClientCert, pki_types::CertificateDer, sign::CertifiedKey};

use super::inspect;

/// Most certificates of a presented chain that are kept, and most bytes of them together.
pub(super) const MAX_CHAIN: usize = 10;
const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// Most names of acceptable client CAs that are kept.
const MAX_HINTS: usize = 8;

/// What the handshakes of one client configuration showed. Never shared between two upstreams.
#[derive(Debug, Default)]
pub struct Observed {
    asked: AtomicBool,
    /// Seconds since 1970; 0 before the first verification that succeeded.
    verified_until: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    chain: Vec<CertificateDer<'static>>,
    hints: Vec<String>,
    refusal: Option<rustls::Error>,
    staple: Option<Vec<u8>>,
}

impl Observed {
    /// The server has asked for a client certificate in some handshake; it may do without one.
    pub fn asked_for_client_certificate(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The CAs that the server says it accepts client certificates from; often empty.
    pub fn accepted_client_cas(&self) -> Vec<String> {
        self.last.lock().hints.clone()
    }

    /// The chain that the server presented last, leaf first; cut at 10 certificates or 64 KiB.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.last.lock().chain.clone()
    }

    /// Why the last presented chain was refused; `None` if it was accepted, or if none was presented.
    pub fn refusal(&self) -> Option<rustls::Error> {
        self.last.lock().refusal.clone()
    }

    /// The OCSP response that came with the last presented chain, as it is; cut at 64 KiB.
    pub fn staple(&self) -> Option<Vec<u8>> {
        self.last.lock().staple.clone()
    }

    /// Until when (since 1970) a session may be resumed on the strength of the last verification.
    pub(super) fn verified_until(&self) -> Duration {
        Duration::from_secs(self.verified_until.load(Ordering::Relaxed))
    }

    pub(super) fn note_verified_until(&self, end: Duration) {
        self.verified_until.store(end.as_secs(), Ordering::Relaxed);
    }

    pub(super) fn note_staple(&self, ocsp_response: &[u8]) {
        let kept = ocsp_response.get(..MAX_CHAIN_BYTES).unwrap_or(ocsp_response);
        self.last.lock().staple = (!kept.is_empty()).then(|| kept.to_vec());
    }

    pub(super) fn record(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], refusal: Option<&rustls::Error>) {
        let mut room = MAX_CHAIN_BYTES;
        let chain = std::iter::once(leaf)
            .chain(intermediates)
            .take(MAX_CHAIN)
            .take_while(|certificate| {
                let fits = certificate.len() <= room;
                room = room.saturating_sub(certificate.len());
                fits
            })
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        let mut last = self.last.lock();
        last.chain = chain;
        last.refusal = refusal.cloned();
    }
}

/// Presents the identity, and notes that the server asked for one.
///
/// It never changes its answer: a new identity means a new client configuration, because resumed sessions and pooled
/// connections would keep the old one.
#[derive(Debug)]
pub(super) struct RecordingResolver {
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) observed: Arc<Observed>,
}

impl ResolvesClientCert for RecordingResolver {
    fn resolve(&self, root_hint_subjects: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.observed.asked.store(true, Ordering::Relaxed);
        let hints = root_hint_subjects.iter().take(MAX_HINTS).filter_map(|name| inspect::shown_raw_name(name)).collect();
        self.observed.last.lock().hints = hints;
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_chain_is_kept_only_in_part() {
        let observed = Observed::default();
        let big = CertificateDer::from(vec![0; 30 * 1024]);
        observed.record(&big, &vec![big.clone(); 5], None);
        assert_eq!(observed.chain().len(), 2);
        let small = CertificateDer::from(vec![0; 10]);
        observed.record(&small, &vec![small.clone(); 50], None);
        assert_eq!(observed.chain().len(), MAX_CHAIN);
    }
}
