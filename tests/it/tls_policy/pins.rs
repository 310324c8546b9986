//! Pinned keys.

use nexus::{reason::Reason, tls::SpkiPin};
use rustls::version::{TLS12, TLS13};

use super::{Upstream, refusal};
use crate::support::{
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, impostor_config, server_config, server_config_for},
};

fn pin(chain: &Chain) -> SpkiPin {
    SpkiPin::of(chain.certificates.first().unwrap()).unwrap()
}

fn pinned(upstream: Upstream, pins: &[SpkiPin]) -> Upstream {
    upstream.set(|s| s.spki_pins = pins.to_vec())
}

#[tokio::test]
async fn one_of_several_pins_is_enough_and_none_is_told_with_the_key_that_was_seen() {
    let company = Authority::root("Company CA");
    let (chain, reserve, other) = (
        company.sign(Leaf::server(&["localhost"])),
        company.sign(Leaf::server(&["localhost"])),
        company.sign(Leaf::server(&["localhost"])),
    );
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(server_config_for(&chain, &[version])).await;
        let good = pinned(Upstream::trusting(&company), &[pin(&reserve), pin(&chain)]);
        assert_eq!(good.reason("localhost", &peer).await, None, "{version:?}");
        let bad = pinned(Upstream::trusting(&company), &[pin(&reserve), pin(&other)]);
        let refused = refusal(&bad.client("localhost", &peer)).await.explanation;
        assert_eq!(refused.reason, Reason::TlsPinMismatch, "{version:?}: {refused}");
        assert!(refused.detail.contains(&pin(&chain).to_string()) && refused.detail.contains("any of 2 pins"), "{refused}");
        assert_eq!(peer.arrived().len(), 1);
    }
}

/// Whoever holds some certificate of the CA can send the pinned one along: it is public.
#[tokio::test]
async fn a_pinned_certificate_beside_the_servers_own_proves_nothing() {
    let company = Authority::root("Company CA");
    let pinned_chain = company.sign(Leaf::server(&["localhost"]));
    let mut attacker = company.sign(Leaf::server(&["localhost"]));
    attacker.certificates.extend(pinned_chain.certificates.iter().cloned());
    let peer = Peer::tls(server_config(&attacker)).await;
    let upstream = pinned(Upstream::trusting(&company), &[pin(&pinned_chain)]);
    assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsPinMismatch));
    let unverified = pinned(Upstream::unverified(), &[pin(&pinned_chain)]);
    assert_eq!(unverified.reason("localhost", &peer).await, Some(Reason::TlsPinMismatch));
    assert!(peer.arrived().is_empty());
}

#[tokio::test]
async fn a_pin_of_the_ca_is_no_pin_of_the_leaf() {
    let company = Authority::root("Company CA");
    let issuing = company.intermediate("Company Issuing CA");
    let peer = Peer::tls(server_config(&issuing.sign(Leaf::server(&["localhost"])))).await;
    let upstream = pinned(Upstream::trusting(&company), &[SpkiPin::of(issuing.certificate()).unwrap()]);
    assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsPinMismatch));
}

#[tokio::test]
async fn a_pin_rescues_neither_an_untrusted_chain_nor_a_wrong_name_nor_an_old_certificate() {
    let company = Authority::root("Company CA");
    for (chain, reason) in [
        (Authority::root("Stranger CA").sign(Leaf::server(&["localhost"])), Reason::TlsUnknownCa),
        (company.sign(Leaf::server(&["other.test"])), Reason::TlsHostnameMismatch),
        (company.sign(Leaf::server(&["localhost"]).expired()), Reason::TlsExpired),
    ] {
        let peer = Peer::tls(server_config(&chain)).await;
        let upstream = pinned(Upstream::trusting(&company), &[pin(&chain)]);
        assert_eq!(upstream.reason("localhost", &peer).await, Some(reason));
    }
}

#[tokio::test]
async fn without_verification_a_pin_means_exactly_that_key_and_the_key_must_be_held() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["elsewhere.test"]).expired().with_unknown_critical_extension());
    let upstream = pinned(Upstream::unverified(), &[pin(&chain)]);
    assert!(!upstream.load("localhost").unwrap().is_unverified());
    let peer = Peer::tls(crate::support::tls_peer::unchecked_config(&chain, rustls::ALL_VERSIONS)).await;
    assert_eq!(upstream.reason("localhost", &peer).await, None);
    let thief = Peer::tls(impostor_config(&chain, &company.sign(Leaf::server(&["localhost"])), rustls::ALL_VERSIONS)).await;
    assert!(upstream.reason("localhost", &thief).await.is_some());
    assert!(thief.arrived().is_empty());
}

#[tokio::test]
async fn with_a_pin_any_name_is_acceptable_even_of_the_systems_cas() {
    let public = Authority::root("Public CA");
    let chain = public.sign(Leaf::server(&["other.test"]));
    let peer = Peer::tls(server_config(&chain)).await;
    let any_name = || Upstream::default().system_ca(&public).set(|s| s.accept_invalid_hostnames = true);
    let upstream = pinned(any_name(), &[pin(&chain)]);
    assert_eq!(upstream.reason("localhost", &peer).await, None);
    let policy = upstream.load("localhost").unwrap();
    assert!(!policy.is_unverified());
    assert_eq!(policy.words(), "system CAs (1), name not verified, 1 pinned key");
    assert_eq!(any_name().load("localhost").err().map(|e| e.reason), Some(Reason::LocalInvalid), "without the pin");
}
