//! The presented certificates with their place in the chain.

use rustls::pki_types::CertificateDer;

use crate::tls::{CertificateFacts, ChainLink, Position};

/// What can be read of the presented chain, in its order.
pub(super) fn links(presented: &[CertificateDer<'static>]) -> Vec<ChainLink> {
    presented
        .iter()
        .enumerate()
        .filter_map(|(index, der)| {
            let facts = CertificateFacts::read(der)?;
            let position = match index {
                0 => Position::Leaf,
                _ if facts.self_signed => Position::Root,
                _ => Position::Intermediate,
            };
            Some(ChainLink { position, spki_sha256: facts.spki_sha256.clone(), facts, on_path: index == 0, sent: true })
        })
        .collect()
}
