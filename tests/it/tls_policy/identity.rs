//! Client certificates, with servers that verify them.

use nexus::reason::Reason;
use rustls::version::{TLS12, TLS13};

use super::{Upstream, get, refusal};
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, mtls_config},
};

#[tokio::test]
async fn a_server_that_verifies_sees_the_configured_identity() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let chain = servers.sign(Leaf::server(&["localhost"]));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(mtls_config(&chain, &clients, &[version])).await;
        let client = Upstream::trusting(&servers).identity(&clients.sign(Leaf::client("nexus"))).client("localhost", &peer);
        get(&client).await.unwrap();
        assert_eq!(peer.shown().first().unwrap().client.as_deref(), Some("CN=nexus"), "{version:?}");
    }
}

#[tokio::test]
async fn a_chain_with_its_intermediate_is_sent_whole() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let issuing = clients.intermediate("Client Issuing CA");
    let peer = Peer::tls(mtls_config(&servers.sign(Leaf::server(&["localhost"])), &clients, rustls::ALL_VERSIONS)).await;
    let upstream = Upstream::trusting(&servers).identity(&issuing.sign(Leaf::client("nexus")));
    assert_eq!(upstream.reason("localhost", &peer).await, None);
    let upstream = Upstream::trusting(&servers).identity(&issuing.sign(Leaf::client("nexus")).leaf_only());
    assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsClientCertRejected));
}

#[tokio::test]
async fn a_missing_client_certificate_is_told_apart_in_both_versions() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let chain = servers.sign(Leaf::server(&["localhost"]));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(mtls_config(&chain, &clients, &[version])).await;
        // In TLS 1.3 the alert races with our request; both ways out must say the same.
        for _ in 0..10 {
            let refused = refusal(&Upstream::trusting(&servers).client("localhost", &peer)).await.explanation;
            assert_eq!(refused.reason, Reason::TlsClientCertRequired, "{version:?}: {refused}");
            assert!(refused.detail.contains("Client CA"), "{refused}");
            assert!(refused.remedy.contains("client_cert_path"), "{}", refused.remedy);
        }
        assert!(peer.arrived().is_empty());
    }
}

#[tokio::test]
async fn a_client_certificate_of_the_wrong_ca_is_told_as_rejected() {
    let (servers, clients, strangers) = (Authority::root("Server CA"), Authority::root("Client CA"), Authority::root("Stranger CA"));
    let chain = servers.sign(Leaf::server(&["localhost"]));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(mtls_config(&chain, &clients, &[version])).await;
        let client = Upstream::trusting(&servers).identity(&strangers.sign(Leaf::client("nexus"))).client("localhost", &peer);
        let refused = refusal(&client).await.explanation;
        assert_eq!(refused.reason, Reason::TlsClientCertRejected, "{version:?}: {refused}");
        assert!(refused.detail.contains("CN=nexus"), "{refused}");
        assert!(peer.arrived().is_empty());
    }
}

#[tokio::test]
async fn a_wrong_server_never_gets_to_see_the_client_certificate() {
    let (company, strangers) = (Authority::root("Company CA"), Authority::root("Stranger CA"));
    let peer = Peer::tls(mtls_config(&strangers.sign(Leaf::server(&["localhost"])), &company, rustls::ALL_VERSIONS)).await;
    let upstream = Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus")));
    assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsUnknownCa));
    assert!(peer.shown().is_empty());
}

#[test]
fn a_bad_identity_never_becomes_no_identity() {
    let company = Authority::root("Company CA");
    let good = company.sign(Leaf::client("nexus"));
    let other = company.sign(Leaf::client("other"));
    let upstream = || Upstream::trusting(&company).identity(&good);
    let with = |file: &str, bytes: String| {
        let mut changed = upstream();
        changed.files = changed.files.with_file(file, bytes);
        changed
    };
    let without = |file: &str| {
        let mut changed = upstream();
        changed.files.files.remove(std::path::Path::new(file));
        changed
    };
    assert_eq!(upstream().load("localhost").err(), None);
    for (row, upstream, reason) in [
        ("the key of another", with("client.key", other.key_pem()), Reason::LocalKeyMismatch),
        ("no key in the file", with("client.key", good.pem()), Reason::LocalInvalid),
        ("no certificate in the file", with("client.pem", good.key_pem()), Reason::LocalInvalid),
        ("an empty key", with("client.key", String::new()), Reason::LocalInvalid),
        ("no key file", without("client.key"), Reason::LocalMissing),
        ("no certificate file", without("client.pem"), Reason::LocalMissing),
        ("expired", Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus").expired())), Reason::LocalExpired),
        (
            "not yet valid",
            Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus").not_yet_valid())),
            Reason::LocalExpired,
        ),
    ] {
        assert_eq!(upstream.load("localhost").err().map(|e| e.reason), Some(reason), "{row}");
    }
}

#[test]
fn a_server_certificate_as_client_certificate_is_warned_about() {
    let company = Authority::root("Company CA");
    let policy = Upstream::trusting(&company).identity(&company.sign(Leaf::server(&["nexus.corp"]))).load("localhost").unwrap();
    assert!(policy.warnings().iter().any(|w| w.contains("clientAuth")), "{:?}", policy.warnings());
    let policy = Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus"))).load("localhost").unwrap();
    assert_eq!(policy.warnings(), [] as [String; 0]);
}
