//! Client certificates: who gets in, and that nobody stays in past the CA that let them in.

use nexus::downstream::Swapped;
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};

use super::*;
use crate::support::{
    https::TlsClient,
    nexus::Nexus,
    pki::{Authority, Chain, Leaf},
};

/// A client is served over a connection of its own, or it is not. With TLS 1.3 a refusal comes after the client's handshake.
async fn is_served(client: &TlsClient, nexus: &Nexus) -> bool {
    client.get(nexus.address, "/health").await.is_ok_and(|got| got.status.is_success())
}

/// Every kind of certificate that must not get in.
fn bad(pki: &Pki) -> Vec<(&'static str, Chain)> {
    let stranger = Authority::root("Client CA");
    vec![
        ("of another CA with the same name", stranger.sign(Leaf::client("stranger"))),
        ("expired", pki.clients.sign(Leaf::client("late").expired())),
        ("not valid yet", pki.clients.sign(Leaf::client("early").not_yet_valid())),
        ("for servers", pki.clients.sign(Leaf::server(&["localhost"]))),
        ("self-signed", Leaf::client("alone").self_signed()),
    ]
}

#[tokio::test]
async fn required_certificates_let_nobody_in_without_a_good_one() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), ", client_ca = \"/tls/clients.pem\"").start_at_once().await;
    let good = pki.clients.sign(Leaf::client("agent"));
    let below = pki.clients.intermediate("Client CA 2").sign(Leaf::client("agent"));
    for version in [&TLS12, &TLS13] {
        assert!(!is_served(&pki.client().only(version), &nexus).await, "without a certificate, {version:?}");
        for (what, chain) in bad(&pki) {
            assert!(!is_served(&pki.client().showing(&chain, version), &nexus).await, "{what}, {version:?}");
        }
        assert!(is_served(&pki.client().showing(&good, version), &nexus).await, "{version:?}");
        assert!(is_served(&pki.client().showing(&below, version), &nexus).await, "with its intermediate, {version:?}");
    }
}

#[tokio::test]
async fn optional_certificates_may_be_left_out_but_not_be_bad() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), ", client_ca = \"/tls/clients.pem\", client_auth = \"optional\"").start_at_once().await;
    for version in [&TLS12, &TLS13] {
        assert!(is_served(&pki.client().only(version), &nexus).await);
        assert!(is_served(&pki.client().showing(&pki.clients.sign(Leaf::client("agent")), version), &nexus).await);
        for (what, chain) in bad(&pki) {
            assert!(!is_served(&pki.client().showing(&chain, version), &nexus).await, "{what}, {version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_whose_ca_was_taken_away_is_refused_whatever_sessions_it_remembers() {
    for (demand, stays) in [("required", false), ("optional", false)] {
        for version in [&TLS12, &TLS13] {
            let pki = Pki::new();
            let keys = format!(", client_ca = \"/tls/clients.pem\", client_auth = \"{demand}\"");
            let nexus = pki.serve(gateway(), &keys).start_at_once().await;
            let client = pki.client().showing(&pki.clients.sign(Leaf::client("agent")), version);
            for _ in 0..2 {
                let mut connection = client.connect(nexus.address).await.unwrap();
                assert_eq!(connection.kind, Some(HandshakeKind::Full), "the certificate is shown every time");
                assert!(connection.get("/health").await.unwrap().status.is_success());
            }
            let others = Pki { servers: pki.servers, clients: Authority::root("New client CA") };
            // The same certificate as before would do as well; what matters is the CA.
            let files = others.files(&others.server());
            assert!(matches!(nexus.tls().reload(&files, NOW), Ok(Swapped::Changed(_))));
            assert_eq!(is_served(&client, &nexus).await, stays, "{demand} {version:?}");
            let new = others.client().showing(&others.clients.sign(Leaf::client("agent")), version);
            assert!(is_served(&new, &nexus).await, "{demand} {version:?}");
        }
    }
}

#[tokio::test]
async fn without_client_certificates_sessions_are_resumed_until_the_certificate_changes() {
    for version in [&TLS12, &TLS13] {
        let pki = Pki::new();
        let nexus = pki.serve(gateway(), "").start_at_once().await;
        let client = pki.client().only(version);
        let kind = || async {
            let mut connection = client.connect(nexus.address).await.unwrap();
            // The ticket of TLS 1.3 comes with the first answer.
            connection.get("/health").await.unwrap();
            connection.kind.unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
        assert!(matches!(nexus.tls().reload(&pki.files(&pki.server()), NOW), Ok(Swapped::Changed(_))));
        assert_eq!(kind().await, HandshakeKind::Full, "{version:?}: nothing is kept from before the change");
    }
}

#[tokio::test]
async fn a_client_on_a_new_revocation_list_is_refused_whatever_sessions_it_remembers() {
    for version in [&TLS12, &TLS13] {
        let pki = Pki::new();
        let keys = ", client_ca = \"/tls/clients.pem\", client_crl_paths = [\"/tls/clients.crl\"]";
        let (honest, revoked) = (pki.clients.sign(Leaf::client("honest")), pki.clients.sign(Leaf::client("revoked")));
        let spec = gateway().file("/tls/clients.crl", pki.clients.revoke(&[], 1));
        let nexus = pki.serve(spec, keys).start_at_once().await;
        let (honest, known) = (pki.client().showing(&honest, version), pki.client().showing(&revoked, version));
        let mut open = known.connect(nexus.address).await.unwrap();
        assert!(open.get("/health").await.unwrap().status.is_success());
        assert!(is_served(&known, &nexus).await && is_served(&honest, &nexus).await);

        let files = |number| pki.files(&pki.server()).with_file("/tls/clients.crl", pki.clients.revoke(&[&revoked], number));
        assert!(matches!(nexus.tls().reload(&files(2), NOW), Ok(Swapped::Changed(_))));
        assert!(!is_served(&known, &nexus).await, "{version:?}");
        assert!(is_served(&honest, &nexus).await, "{version:?}");
        // What it had open before ends too.
        open.ends().await;

        let older = pki.files(&pki.server()).with_file("/tls/clients.crl", pki.clients.revoke(&[], 1));
        let problem = nexus.tls().reload(&older, NOW).unwrap_err();
        assert!(problem.key == "server.tls.client_crl_paths" && problem.what.contains("older than the one in use"), "{problem}");
        assert!(!is_served(&known, &nexus).await, "an old list brings nobody back, {version:?}");
    }
}

#[tokio::test]
async fn with_revocation_lists_a_client_of_a_ca_without_one_is_refused() {
    let pki = Pki::new();
    let other = Authority::root("Other CA");
    let keys = ", client_ca = \"/tls/both.pem\", client_crl_paths = [\"/tls/clients.crl\"]";
    let spec = gateway().file("/tls/clients.crl", pki.clients.revoke(&[], 1)).file("/tls/both.pem", pki.clients.pem() + &other.pem());
    let nexus = pki.serve(spec, keys).start_at_once().await;
    assert!(is_served(&pki.client().showing(&pki.clients.sign(Leaf::client("agent")), &TLS13), &nexus).await);
    assert!(!is_served(&pki.client().showing(&other.sign(Leaf::client("agent")), &TLS13), &nexus).await);
}

#[tokio::test]
async fn of_several_lists_of_one_ca_the_newest_counts_and_its_file_can_be_read_again() {
    let pki = Pki::new();
    let keys = ", client_ca = \"/tls/clients.pem\", client_crl_paths = [\"/tls/clients.crl\"]";
    let revoked = pki.clients.sign(Leaf::client("revoked"));
    let both = pki.clients.revoke(&[], 1) + &pki.clients.revoke(&[&revoked], 2);
    let nexus = pki.serve(gateway().file("/tls/clients.crl", both.clone()), keys).start_at_once().await;
    assert!(!is_served(&pki.client().showing(&revoked, &TLS13), &nexus).await);
    let renewed = pki.files(&pki.server()).with_file("/tls/clients.crl", both);
    assert!(matches!(nexus.tls().reload(&renewed, NOW), Ok(Swapped::Changed(_))), "an old list beside the newest keeps nothing out");
}
