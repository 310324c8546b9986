//! Which server is accepted under which policy, and with what words it is refused.

use nexus::{
    reason::Reason,
    tls::{MinVersion, TlsSettings},
};
use rustls::version::{TLS12, TLS13};

use super::{Upstream, get, refusal};
use crate::support::{
    pki::{Authority, Chain, Leaf, pem},
    tls_peer::{Peer, impostor_config, server_config, server_config_for, unchecked_config},
};

/// Serves `chain` and asks for it at `localhost` under each policy.
async fn expect(chain: Chain, rows: &[(&str, Upstream, Option<Reason>)]) {
    let peer = Peer::tls(server_config(&chain)).await;
    for (row, upstream, expected) in rows {
        assert_eq!(upstream.reason("localhost", &peer).await, *expected, "{row}");
    }
}

fn any_name(upstream: Upstream) -> Upstream {
    upstream.set(|s| s.accept_invalid_hostnames = true)
}

#[tokio::test]
async fn a_good_server_is_accepted_under_every_policy_that_trusts_its_ca() {
    let (company, other) = (Authority::root("Company CA"), Authority::root("Other CA"));
    expect(
        company.sign(Leaf::server(&["localhost"])),
        &[
            ("system CAs that know it", Upstream::default().system_ca(&company), None),
            ("system CAs that do not", Upstream::default().system_ca(&other), Some(Reason::TlsUnknownCa)),
            ("its CA in the file", Upstream::trusting(&company), None),
            ("another CA in the file", Upstream::trusting(&other), Some(Reason::TlsUnknownCa)),
            ("the file replaces the system", Upstream::trusting(&other).system_ca(&company), Some(Reason::TlsUnknownCa)),
            ("the system is added", Upstream::trusting(&other).system_ca(&company).set(|s| s.include_system_cas = true), None),
            (
                "the file stays when the system is added",
                Upstream::trusting(&company).system_ca(&other).set(|s| s.include_system_cas = true),
                None,
            ),
            ("the name is skipped", any_name(Upstream::trusting(&company)), None),
            ("the name is skipped, the CA is not", any_name(Upstream::trusting(&other)), Some(Reason::TlsUnknownCa)),
            ("nothing is verified", Upstream::unverified(), None),
            ("nothing is verified, twice", any_name(Upstream::unverified()), None),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_server_with_another_name_needs_server_name_or_forgiveness() {
    let company = Authority::root("Company CA");
    expect(
        company.sign(Leaf::server(&["crm.corp", "10.0.0.1"])),
        &[
            ("strict", Upstream::trusting(&company), Some(Reason::TlsHostnameMismatch)),
            ("its DNS name", Upstream::trusting(&company).server_name("crm.corp"), None),
            ("its DNS name in capitals", Upstream::trusting(&company).server_name("CRM.corp"), None),
            ("its address", Upstream::trusting(&company).server_name("10.0.0.1"), None),
            ("a third name", Upstream::trusting(&company).server_name("erp.corp"), Some(Reason::TlsHostnameMismatch)),
            ("forgiven", any_name(Upstream::trusting(&company)), None),
            ("nothing is verified", Upstream::unverified(), None),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_expired_or_future_server_is_forgiven_only_without_verification() {
    let company = Authority::root("Company CA");
    for (leaf, reason) in [
        (Leaf::server(&["localhost"]).expired(), Reason::TlsExpired),
        (Leaf::server(&["localhost"]).not_yet_valid(), Reason::TlsNotYetValid),
        (Leaf::client("a client"), Reason::TlsWrongUsage),
    ] {
        expect(
            company.sign(leaf),
            &[
                ("strict", Upstream::trusting(&company), Some(reason)),
                ("the name is skipped", any_name(Upstream::trusting(&company)), Some(reason)),
                ("nothing is verified", Upstream::unverified(), None),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_name_error_does_not_hide_a_worse_one_when_names_are_skipped() {
    let (company, other) = (Authority::root("Company CA"), Authority::root("Other CA"));
    expect(
        other.sign(Leaf::server(&["crm.corp"])),
        &[("unknown CA and wrong name", any_name(Upstream::trusting(&company)), Some(Reason::TlsUnknownCa))],
    )
    .await;
}

#[tokio::test]
async fn intermediates_are_followed_and_a_missing_one_is_named() {
    let root = Authority::root("Company Root");
    let issuing = root.intermediate("Company Issuing CA");
    expect(issuing.sign(Leaf::server(&["localhost"])), &[("full chain", Upstream::trusting(&root), None)]).await;
    expect(
        issuing.sign(Leaf::server(&["localhost"])).leaf_only(),
        &[
            ("leaf only", Upstream::trusting(&root), Some(Reason::TlsIncompleteChain)),
            ("the intermediate is trusted", Upstream::trusting(&issuing), None),
        ],
    )
    .await;
    let lapsed = root.intermediate_until("Company Old CA", 2021);
    let peer = Peer::tls(server_config(&lapsed.sign(Leaf::server(&["localhost"])))).await;
    let refused = refusal(&Upstream::trusting(&root).client("localhost", &peer)).await.explanation;
    assert_eq!(refused.reason, Reason::TlsIntermediateExpired);
    assert!(refused.detail.contains("Company Old CA"), "{refused}");
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_when_the_file_holds_that_very_certificate() {
    for (leaf, untrusted) in
        [(Leaf::server(&["localhost"]).with_ca_flag(), Reason::TlsSelfSignedCa), (Leaf::server(&["localhost"]), Reason::TlsSelfSigned)]
    {
        let own = leaf.self_signed();
        let lookalike = Leaf::server(&["localhost"]).with_ca_flag().self_signed();
        let company = Authority::root("Company CA");
        let rows = [
            ("not trusted", Upstream::trusting(&company), Some(untrusted)),
            ("trusted", Upstream::default().root_ca(own.pem()), None),
            ("trusted beside others", Upstream::default().root_ca(company.pem() + &own.pem()), None),
            (
                "trusted under another name",
                Upstream::default().root_ca(own.pem()).server_name("crm.corp"),
                Some(Reason::TlsHostnameMismatch),
            ),
        ];
        let peer = Peer::tls(server_config(&own)).await;
        for (row, upstream, expected) in rows {
            assert_eq!(upstream.reason("localhost", &peer).await, expected, "{row}");
        }
        let same_subject_other_key = Upstream::default().root_ca(lookalike.pem()).reason("localhost", &peer).await;
        assert!(same_subject_other_key.is_some(), "a certificate is trusted by its bytes, never by its subject");
    }
}

#[tokio::test]
async fn a_directly_trusted_leaf_must_still_be_valid_and_for_servers() {
    for (leaf, reason) in [
        (Leaf::server(&["localhost"]).with_ca_flag().expired(), Reason::TlsExpired),
        (Leaf::server(&["localhost"]).with_ca_flag().not_yet_valid(), Reason::TlsNotYetValid),
        (Leaf::client("a client").with_ca_flag(), Reason::TlsWrongUsage),
    ] {
        let own = leaf.self_signed();
        let pem = own.pem();
        expect(own, &[("trusted", Upstream::default().root_ca(pem), Some(reason))]).await;
    }
}

#[tokio::test]
async fn a_leaf_of_an_unknown_ca_may_be_trusted_by_itself() {
    let unknown = Authority::root("Unknown CA");
    let chain = unknown.sign(Leaf::server(&["localhost"]));
    let pem = chain.pem();
    expect(chain, &[("its leaf in the file", Upstream::default().root_ca(pem), None)]).await;
}

#[tokio::test]
async fn a_trusted_leaf_vouches_for_nobody_else() {
    for trusted in [Leaf::server(&["localhost"]), Leaf::server(&["localhost"]).expired()] {
        let trusted = trusted.self_signed();
        let (forged, company) = (trusted.misused_as_ca(Leaf::server(&["localhost"])), Authority::root("Company CA"));
        let refused = Some(Reason::TlsUnknownCa);
        let alone = Upstream::default().root_ca(trusted.pem());
        expect(
            forged,
            &[
                ("alone in the file", alone, refused),
                ("beside a CA", Upstream::default().root_ca(company.pem() + &trusted.pem()), refused),
                ("under any name", any_name(Upstream::default().root_ca(trusted.pem())), refused),
                (
                    "beside the system's CAs",
                    Upstream::default().root_ca(trusted.pem()).system_ca(&company).set(|s| s.include_system_cas = true),
                    refused,
                ),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_ca_made_anew_under_its_old_name_is_told_from_an_unknown_one() {
    let (old, new) = (Authority::root("Company CA"), Authority::root("Company CA"));
    expect(new.sign(Leaf::server(&["localhost"])), &[("the old CA's file", Upstream::trusting(&old), Some(Reason::TlsBadSignature))]).await;
}

#[tokio::test]
async fn an_expired_anchor_still_vouches() {
    let lapsed = Authority::expired_root("Company CA");
    let upstream = Upstream::trusting(&lapsed);
    assert!(upstream.load("localhost").unwrap().warnings().iter().any(|w| w.contains("expired on 2021-01-01")));
    expect(lapsed.sign(Leaf::server(&["localhost"])), &[("expired anchor", upstream, None)]).await;
}

#[tokio::test]
async fn a_mismatch_lists_the_names_that_the_server_has() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["crm.corp", "10.0.0.1"])))).await;
    let refused = refusal(&Upstream::trusting(&company).client("localhost", &peer)).await.explanation;
    assert_eq!(refused.detail, "the server's certificate is for crm.corp, 10.0.0.1, not for localhost");
    assert!(refused.remedy.contains("server_name"), "{}", refused.remedy);

    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&[]).common_name("localhost")))).await;
    let refused = refusal(&Upstream::trusting(&company).client("localhost", &peer)).await.explanation;
    assert_eq!(refused.reason, Reason::TlsCnOnly);
    assert!(refused.detail.contains("common name"), "{refused}");
}

#[tokio::test]
async fn server_name_is_sent_and_verified_while_the_connection_goes_to_the_urls_host() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["crm.corp"])))).await;
    let client = Upstream::trusting(&company).server_name("crm.corp").client("127.0.0.1", &peer);
    get(&client).await.unwrap();
    assert_eq!(peer.shown().first().unwrap().sni.as_deref(), Some("crm.corp"));
    let arrived = peer.arrived();
    assert_eq!(arrived.first().unwrap().headers["host"], format!("127.0.0.1:{}", peer.address.port()).as_str());
    assert_eq!(arrived.first().unwrap().target, "/mcp");
}

#[tokio::test]
async fn even_without_verification_the_server_must_hold_its_certificates_key() {
    let company = Authority::root("Company CA");
    let (chain, other) = (company.sign(Leaf::server(&["localhost"])), company.sign(Leaf::server(&["localhost"])));
    for version in [&TLS12, &TLS13] {
        let impostor = Peer::tls(impostor_config(&chain, &other, &[version])).await;
        assert!(Upstream::unverified().reason("localhost", &impostor).await.is_some(), "{version:?}");
        assert!(Upstream::trusting(&company).reason("localhost", &impostor).await.is_some(), "{version:?}");
        assert!(impostor.arrived().is_empty());
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_accepted_only_without_verification() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]).with_unknown_critical_extension());
    let other = company.sign(Leaf::server(&["localhost"]));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(unchecked_config(&chain, &[version])).await;
        assert_eq!(Upstream::unverified().reason("localhost", &peer).await, None, "{version:?}");
        assert_eq!(Upstream::trusting(&company).reason("localhost", &peer).await, Some(Reason::TlsCertVersion), "{version:?}");
        let impostor = Peer::tls(impostor_config(&chain, &other, &[version])).await;
        assert!(Upstream::unverified().reason("localhost", &impostor).await.is_some(), "{version:?}");
    }
}

#[tokio::test]
async fn min_version_refuses_an_older_server() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let newest_only = || Upstream::trusting(&company).set(|s| s.min_version = MinVersion::Tls13);
    let old = Peer::tls(server_config_for(&chain, &[&TLS12])).await;
    assert_eq!(newest_only().reason("localhost", &old).await, Some(Reason::TlsProtocolVersion));
    assert_eq!(Upstream::trusting(&company).reason("localhost", &old).await, None);
    let new = Peer::tls(server_config_for(&chain, &[&TLS13])).await;
    assert_eq!(newest_only().reason("localhost", &new).await, None);
}

#[tokio::test]
async fn only_http_1_1_is_offered() {
    let company = Authority::root("Company CA");
    let mut config = server_config(&company.sign(Leaf::server(&["localhost"])));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let peer = Peer::tls(config).await;
    get(&Upstream::trusting(&company).client("localhost", &peer)).await.unwrap();
    assert_eq!(peer.shown().first().unwrap().alpn.as_deref(), Some(&b"http/1.1"[..]));
}

#[test]
fn combinations_that_weaken_silently_are_refused_by_the_policy_itself() {
    let company = Authority::root("Company CA");
    for (row, upstream) in [
        ("a CA that is never asked", Upstream::trusting(&company).set(|s| s.verify_certs = false)),
        ("any public certificate", any_name(Upstream::default().system_ca(&company))),
        ("any public certificate, again", any_name(Upstream::trusting(&company).system_ca(&company).set(|s| s.include_system_cas = true))),
        ("a name that no certificate carries", Upstream::trusting(&company).server_name("no name")),
    ] {
        assert_eq!(upstream.load("localhost").err().map(|e| e.reason), Some(Reason::LocalInvalid), "{row}");
    }
}

#[test]
fn garbage_in_the_trust_file_never_falls_back_to_another_trust() {
    let company = Authority::root("Company CA");
    let bad_block = company.pem() + &pem("CERTIFICATE", b"no certificate") + &company.pem();
    for (row, bytes, reason) in [
        ("empty", Vec::new(), Reason::LocalInvalid),
        ("garbage", b"garbage".to_vec(), Reason::LocalInvalid),
        ("one bad block", bad_block.into_bytes(), Reason::LocalInvalid),
    ] {
        let upstream = Upstream::default().system_ca(&company).root_ca(bytes).set(|s| s.include_system_cas = true);
        assert_eq!(upstream.load("localhost").err().map(|e| e.reason), Some(reason), "{row}");
    }
    let mut absent = Upstream::default().system_ca(&company);
    absent.settings = TlsSettings { root_ca_cert_path: Some("absent.pem".into()), ..TlsSettings::default() };
    assert_eq!(absent.load("localhost").err().map(|e| e.reason), Some(Reason::LocalMissing));
    assert_eq!(Upstream::default().load("localhost").err().map(|e| e.reason), Some(Reason::LocalMissing), "no system CAs at all");
}
