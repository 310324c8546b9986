//! Key exchange, and the log of keys.

use std::path::Path;

use nexus::{reason::Reason, tls::PostQuantum};
use rustls::{
    HandshakeKind, ServerConfig,
    crypto::{SupportedKxGroup, aws_lc_rs::kx_group},
    version::{TLS12, TLS13},
};

use super::{Upstream, get};
use crate::support::{
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, server_config_for},
};

/// A server that speaks one group only.
fn one_group(chain: &Chain, group: &'static dyn SupportedKxGroup) -> ServerConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![group];
    ServerConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.certificates.clone(), chain.clone_key())
        .unwrap()
}

#[tokio::test]
async fn the_post_quantum_exchange_is_preferred_offered_or_off() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let (full, retried) = (Ok(Some(HandshakeKind::Full)), Ok(Some(HandshakeKind::FullWithHelloRetryRequest)));
    for (wanted, hybrid_only, classic_only) in [
        (PostQuantum::Prefer, full, retried),
        (PostQuantum::Offer, retried, full),
        (PostQuantum::Off, Err(Reason::TlsNoSharedCipher), full),
    ] {
        for (group, expected) in [(kx_group::X25519MLKEM768, hybrid_only), (kx_group::X25519, classic_only)] {
            let peer = Peer::tls(one_group(&chain, group)).await;
            let outcome = match Upstream::trusting(&company).set(|s| s.post_quantum = wanted).reason("localhost", &peer).await {
                None => Ok(peer.shown().first().unwrap().kind),
                Some(reason) => Err(reason),
            };
            // With Prefer the classic share goes out beside the hybrid one, so that nothing has to be asked twice.
            let is_fine = outcome == expected || (wanted == PostQuantum::Prefer && outcome == full);
            assert!(is_fine, "{wanted:?} with {group:?}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn keys_are_logged_where_the_configuration_says_so_and_nowhere_else() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    for (version, label) in [(&TLS12, "CLIENT_RANDOM"), (&TLS13, "CLIENT_TRAFFIC_SECRET_0")] {
        let peer = Peer::tls(server_config_for(&chain, &[version])).await;
        let silent = Upstream::trusting(&company);
        get(&silent.client("localhost", &peer)).await.unwrap();
        assert!(silent.files.lines.lock().is_empty());
        let logging = Upstream::trusting(&company).set(|s| s.key_log_path = Some("keys.log".into()));
        get(&logging.client("localhost", &peer)).await.unwrap();
        let lines = logging.files.lines.lock().clone();
        let line = lines.iter().find(|(_, line)| line.starts_with(label)).unwrap_or_else(|| panic!("{label} is missing"));
        assert_eq!(line.0, Path::new("keys.log"));
        let fields: Vec<_> = line.1.split(' ').collect();
        assert_eq!((fields.len(), fields[1].len()), (3, 64));
        assert!(fields[1..].iter().all(|field| field.bytes().all(|b| b.is_ascii_hexdigit())));
        let policy = logging.load("localhost").unwrap();
        assert!(policy.logs_keys() && policy.words().contains("KEYS WRITTEN to keys.log"), "{}", policy.words());
    }
}
