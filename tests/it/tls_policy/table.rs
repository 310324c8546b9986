//! Every situation of a failed handshake that a rustls server can make, by row: the prober names it ten times of ten, and
//! traffic names it too.
//!
//! The rows with other programs' servers are in `tests/e2e/test_tls_table.py`.

use std::time::Duration;

use nexus::{
    reason::Reason,
    tls::{CrlExpired, MinVersion, Position, Report, SpkiPin, Verdict},
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints, SanType, date_time_ymd};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Upstream, get, probing::target, revocation::listed};
use crate::support::{
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, mtls_config, server_config, server_config_for, unchecked_config},
};

/// Of the prober, for each row.
const TIMES: usize = 10;

const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// What a row expects of traffic.
enum Traffic {
    /// The same code.
    Same,
    /// It works.
    Works,
}

/// Probes `TIMES` times, expects the same cause each time, and gives the last report.
async fn probed(upstream: &Upstream, host: &str, peer: &Peer, expected: Option<Reason>) -> Report {
    let policy = upstream.load(host).unwrap();
    let mut last = None;
    for _ in 0..TIMES {
        let report = nexus::outbound::probe::probe(&target(host, peer), &policy, nexus::outbound::probe::BUDGET).await;
        assert_eq!(report.cause().map(|finding| finding.reason), expected, "{report:#?}");
        last = Some(report);
    }
    last.unwrap()
}

async fn row(upstream: &Upstream, peer: &Peer, expected: Option<Reason>, traffic: Traffic) -> Report {
    row_for(upstream, "localhost", peer, expected, traffic).await
}

async fn row_for(upstream: &Upstream, host: &str, peer: &Peer, expected: Option<Reason>, traffic: Traffic) -> Report {
    let before = peer.arrived().len();
    let report = probed(upstream, host, peer, expected).await;
    assert_eq!(peer.arrived().len(), before, "a probe sends no request");
    let heard = upstream.reason(host, peer).await;
    match traffic {
        Traffic::Same => assert_eq!(heard, expected, "traffic"),
        Traffic::Works => assert_eq!(heard, None, "traffic"),
    }
    report
}

/// A server with this chain must be refused, and the detail must hold `words`.
async fn refused(upstream: &Upstream, config: ServerConfig, expected: Reason, words: &str) -> Report {
    let report = row(upstream, &Peer::tls(config).await, Some(expected), Traffic::Same).await;
    assert_eq!(report.verdict, Verdict::Fail);
    let cause = report.cause().unwrap();
    assert!(cause.detail.contains(words), "{words:?} is missing in {cause:?}");
    assert!(!cause.remedy.is_empty());
    report
}

fn leaf() -> Leaf {
    Leaf::server(&["localhost"])
}

#[tokio::test]
async fn row_01_expired_leaf() {
    let ca = Authority::root("Company CA");
    refused(&Upstream::trusting(&ca), server_config(&ca.sign(leaf().expired())), Reason::TlsExpired, "2021-01-01").await;
}

#[tokio::test]
async fn row_02_expired_intermediate() {
    let ca = Authority::root("Company CA");
    let chain = ca.intermediate_until("Company Old", 2021).sign(leaf());
    refused(&Upstream::trusting(&ca), server_config(&chain), Reason::TlsIntermediateExpired, "CN=Company Old").await;
}

#[tokio::test]
async fn row_02_intermediate_that_had_expired_before_the_leaf_began() {
    let ca = Authority::root("Company CA");
    let chain = ca.intermediate_until("Company Old", 2021).sign(leaf().set(|params| params.not_before = date_time_ymd(2022, 1, 1)));
    let report = refused(&Upstream::trusting(&ca), server_config(&chain), Reason::TlsIntermediateExpired, "CN=Company Old").await;
    assert_eq!(report.findings.len(), 1, "the leaf is valid today: {:?}", report.findings);
}

#[tokio::test]
async fn row_03_expired_root_in_the_trust_file() {
    let ca = Authority::expired_root("Company CA");
    let peer = Peer::tls(server_config(&ca.sign(leaf()))).await;
    let report = row(&Upstream::trusting(&ca), &peer, None, Traffic::Works).await;
    assert_eq!(report.verdict, Verdict::Ok);
    assert!(report.has(Reason::TlsAnchorExpired), "{:?}", report.findings);
}

#[tokio::test]
async fn row_04_not_yet_valid() {
    let ca = Authority::root("Company CA");
    refused(&Upstream::trusting(&ca), server_config(&ca.sign(leaf().not_yet_valid())), Reason::TlsNotYetValid, "the clock here says").await;
}

#[tokio::test]
async fn row_05_an_end_before_the_beginning() {
    let ca = Authority::root("Company CA");
    let chain = ca.sign(leaf().set(|params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    }));
    refused(&Upstream::trusting(&ca), unchecked_config(&chain, rustls::ALL_VERSIONS), Reason::TlsExpired, "impossible dates").await;
}

#[tokio::test]
async fn row_06_unknown_ca_with_its_full_chain() {
    let chain = Authority::root("Other Root").intermediate("Other Issuing").sign(leaf());
    let report =
        refused(&Upstream::trusting(&Authority::root("Company CA")), server_config(&chain), Reason::TlsUnknownCa, "CN=Other Root").await;
    assert_eq!(report.cause().unwrap().key, Some("root_ca_cert_path"));
}

#[tokio::test]
async fn row_06_unknown_ca_that_the_system_knows() {
    let (company, public) = (Authority::root("Company CA"), Authority::root("Public Root"));
    let chain = public.sign(leaf());
    let policy = Upstream::trusting(&company).load("localhost").unwrap();
    let system = std::sync::Arc::new(nexus::tls::SystemCas::new([public.certificate().clone()], Vec::new(), "the test's store"));
    let report = policy.check_chain(&chain.certificates, &|| std::sync::Arc::clone(&system), now());
    let cause = report.cause().unwrap();
    assert_eq!((cause.reason, cause.key), (Reason::TlsUnknownCa, Some("include_system_cas")));
    assert!(cause.detail.contains("the system's CAs would accept it"), "{cause:?}");
}

#[tokio::test]
async fn row_07_leaf_without_its_intermediate() {
    let ca = Authority::root("Company CA");
    let chain = ca.intermediate("Company Issuing").sign(leaf()).leaf_only();
    let report = refused(&Upstream::trusting(&ca), server_config(&chain), Reason::TlsIncompleteChain, "CN=Company Issuing").await;
    let cause = report.cause().unwrap();
    assert!(cause.remedy.contains("intermediates_path") && !cause.remedy.contains("root_ca_cert_path"), "{cause:?}");
    assert_eq!(cause.key, Some("intermediates_path"));
}

#[tokio::test]
async fn row_08_self_signed_and_not_trusted() {
    let upstream = Upstream::trusting(&Authority::root("Company CA"));
    let plain = leaf().set(|params| params.is_ca = IsCa::ExplicitNoCa).self_signed();
    refused(&upstream, server_config(&plain), Reason::TlsSelfSigned, "SHA-256").await;
    let ca = leaf().with_ca_flag().self_signed();
    refused(&upstream, server_config(&ca), Reason::TlsSelfSignedCa, "SHA-256").await;
}

#[tokio::test]
async fn row_09_ca_created_anew_under_the_same_name() {
    let (old, new) = (Authority::root("Company CA"), Authority::root("Company CA"));
    let report = refused(&Upstream::trusting(&old), server_config(&new.sign(leaf())), Reason::TlsBadSignature, "was made anew").await;
    assert_eq!(report.cause().unwrap().key, Some("root_ca_cert_path"));
    // With the new root in the chain as well.
    let mut chain = new.sign(leaf());
    chain.certificates.push(new.certificate().clone());
    refused(&Upstream::trusting(&old), server_config(&chain), Reason::TlsBadSignature, "was made anew").await;
}

#[tokio::test]
async fn row_10_corrupted_signature() {
    let ca = Authority::root("Company CA");
    let mut chain = ca.sign(leaf());
    let mut der = chain.certificates[0].to_vec();
    // Inside the signature's last number, so that its form stays valid.
    let at = der.len() - 3;
    der[at] ^= 0x55;
    chain.certificates[0] = der.into();
    refused(&Upstream::trusting(&ca), unchecked_config(&chain, rustls::ALL_VERSIONS), Reason::TlsBadSignature, "was not signed by").await;
}

#[tokio::test]
async fn row_11_another_name() {
    let ca = Authority::root("Company CA");
    let chain = ca.sign(Leaf::server(&["crm.corp.test", "10.0.0.1"]));
    refused(&Upstream::trusting(&ca), server_config(&chain), Reason::TlsHostnameMismatch, "crm.corp.test, 10.0.0.1, not for localhost")
        .await;
    let wildcard = ca.sign(Leaf::server(&["*.corp.test"]));
    let upstream = Upstream::trusting(&ca).server_name("a.b.corp.test");
    refused(&upstream, server_config(&wildcard), Reason::TlsHostnameMismatch, "covers one label").await;
}

#[tokio::test]
async fn row_12_common_name_only() {
    let ca = Authority::root("Company CA");
    let cn_only = ca.sign(Leaf::server(&[]).common_name("localhost"));
    refused(&Upstream::trusting(&ca), server_config(&cn_only), Reason::TlsCnOnly, "common name").await;
    let with_mail = ca.sign(
        Leaf::server(&[])
            .common_name("localhost")
            .set(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@b.test".try_into().unwrap())]),
    );
    refused(&Upstream::trusting(&ca), server_config(&with_mail), Reason::TlsCnOnly, "common name").await;
}

#[tokio::test]
async fn row_13_address_without_an_address_in_the_certificate() {
    let ca = Authority::root("Company CA");
    for name in [SanType::DnsName("127.0.0.1".try_into().unwrap()), SanType::DnsName("localhost".try_into().unwrap())] {
        let is_address = name == SanType::DnsName("127.0.0.1".try_into().unwrap());
        let chain = ca.sign(Leaf::server(&[]).set(|params| params.subject_alt_names = vec![name]));
        let peer = Peer::tls(server_config(&chain)).await;
        let report = row_for(&Upstream::trusting(&ca), "127.0.0.1", &peer, Some(Reason::TlsHostnameMismatch), Traffic::Same).await;
        assert_eq!(report.cause().unwrap().detail.contains("counts only as an IP address"), is_address, "{report:?}");
    }
}

#[tokio::test]
async fn row_14_wrong_usage() {
    let ca = Authority::root("Company CA");
    let client = ca.sign(leaf().set(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]));
    refused(&Upstream::trusting(&ca), server_config(&client), Reason::TlsWrongUsage, "for clients, not for servers").await;
    let any = ca.sign(leaf().set(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]));
    refused(&Upstream::trusting(&ca), server_config(&any), Reason::TlsWrongUsage, "not for servers").await;
}

#[tokio::test]
async fn row_15_certificates_that_cannot_be_verified() {
    let ca = Authority::root("Company CA");
    let upstream = Upstream::trusting(&ca);
    let critical = unchecked_config(&ca.sign(leaf().with_unknown_critical_extension()), rustls::ALL_VERSIONS);
    refused(&upstream, critical, Reason::TlsCertVersion, "1.3.6.1.4.1.99999.1").await;

    let permitted = NameConstraints { permitted_subtrees: vec![GeneralSubtree::DnsName("corp.test".into())], excluded_subtrees: vec![] };
    let constrained = ca.intermediate_with("Company Constrained", |params| params.name_constraints = Some(permitted));
    refused(&upstream, server_config(&constrained.sign(leaf())), Reason::TlsUnknownCa, "name constraints").await;

    let narrow = ca.intermediate_with("Company Narrow", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let deep = narrow.intermediate("Company Deep").sign(leaf());
    refused(&upstream, server_config(&deep), Reason::TlsUnknownCa, "path length").await;

    let no_ca = ca.intermediate_with("Company Clerk", |params| params.is_ca = IsCa::ExplicitNoCa);
    refused(&upstream, server_config(&no_ca.sign(leaf())), Reason::TlsUnknownCa, "not a CA").await;
}

#[tokio::test]
async fn rows_17_to_20_revocation() {
    let (ca, other) = (Authority::root("Company CA"), Authority::root("Other CA"));
    let chain = ca.sign(leaf());
    let peer = Peer::tls(server_config(&chain)).await;
    let with = |list: Vec<u8>| listed(Upstream::trusting(&ca), &[list]);
    row(&with(ca.crl(&[&chain], 2090)), &peer, Some(Reason::TlsRevoked), Traffic::Same).await;
    let uncovered = row(&with(other.crl(&[], 2090)), &peer, Some(Reason::TlsRevocationUnknown), Traffic::Same).await;
    assert_eq!(uncovered.cause().unwrap().key, Some("crl_paths"), "row 18");
    let strict = with(ca.crl(&[], 2022)).set(|settings| settings.revocation.expired = CrlExpired::Deny);
    row(&strict, &peer, Some(Reason::TlsCrlExpired), Traffic::Same).await;
    let overdue = row(&with(ca.crl(&[], 2022)), &peer, None, Traffic::Works).await;
    assert!(overdue.has(Reason::TlsCrlExpired), "row 19, when it is only warned about: {:?}", overdue.findings);
    let forged = Authority::root("Company CA").crl(&[], 2090);
    row(&with(forged), &peer, Some(Reason::TlsRevocationUnknown), Traffic::Same).await;
}

#[tokio::test]
async fn a_pin_mismatch_is_listed_beside_what_else_is_wrong() {
    let ca = Authority::root("Company CA");
    let pinned = |upstream: Upstream| upstream.set(|settings| settings.spki_pins = vec![SpkiPin([7; 32])]);
    let report = refused(&pinned(Upstream::trusting(&ca)), server_config(&ca.sign(leaf())), Reason::TlsPinMismatch, "sha256/").await;
    assert_eq!(report.cause().unwrap().key, Some("spki_pins"));
    let expired = refused(&pinned(Upstream::trusting(&ca)), server_config(&ca.sign(leaf().expired())), Reason::TlsExpired, "2021").await;
    assert!(expired.has(Reason::TlsPinMismatch), "{:?}", expired.findings);
}

#[tokio::test]
async fn what_intermediates_path_completes_works_and_is_told() {
    let ca = Authority::root("Company CA");
    let issuing = ca.intermediate("Company Issuing");
    let peer = Peer::tls(server_config(&issuing.sign(leaf()).leaf_only())).await;
    let helped = Upstream::trusting(&ca).file("more.pem", issuing.pem()).set(|s| s.intermediates_path = Some("more.pem".into()));
    let report = row(&helped, &peer, None, Traffic::Works).await;
    assert!(report.has(Reason::TlsIncompleteChain), "{:?}", report.findings);
    let chain: Vec<_> = report.chain.iter().map(|link| (link.position, link.on_path, link.sent)).collect();
    assert_eq!(chain, [(Position::Leaf, true, true), (Position::Intermediate, true, false), (Position::Root, true, false)]);
}

#[tokio::test]
async fn a_thousand_names_work_and_ten_thousand_are_too_many_but_no_other_name() {
    let ca = Authority::root("Company CA");
    let names = |count: usize| -> Vec<SanType> {
        let others = (0..count).map(|n| SanType::DnsName(format!("host-{n}.corp.test").try_into().unwrap()));
        others.chain([SanType::DnsName("localhost".try_into().unwrap())]).collect()
    };
    let many = ca.sign(leaf().set(|params| params.subject_alt_names = names(1_000)));
    let report = row(&Upstream::trusting(&ca), &Peer::tls(server_config(&many)).await, None, Traffic::Works).await;
    assert_eq!(report.leaf().map(|leaf| leaf.facts.names.len() + leaf.facts.more_names), Some(1_001));
    let too_many = ca.sign(leaf().set(|params| params.subject_alt_names = names(10_000)));
    refused(&Upstream::trusting(&ca), unchecked_config(&too_many, rustls::ALL_VERSIONS), Reason::TlsCertVersion, "64 KiB").await;
}

#[tokio::test]
async fn every_finding_is_listed_and_not_only_the_first() {
    let old = Authority::expired_root("Company CA");
    let intermediate = old.intermediate_until("Company Old", 2021);
    let chain = intermediate.sign(Leaf::server(&["elsewhere.test"]).expired().set(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }));
    let report = refused(&Upstream::trusting(&old), server_config(&chain), Reason::TlsExpired, "a server").await;
    for reason in
        [Reason::TlsExpired, Reason::TlsIntermediateExpired, Reason::TlsAnchorExpired, Reason::TlsHostnameMismatch, Reason::TlsWrongUsage]
    {
        assert!(report.has(reason), "{reason} is missing in {:#?}", report.findings);
    }
}

#[tokio::test]
async fn row_22_client_certificate_demanded_in_tls_12() {
    client_certificate_demanded(TLS12).await;
}

#[tokio::test]
async fn row_23_client_certificate_demanded_in_tls_13() {
    client_certificate_demanded(TLS13).await;
}

async fn client_certificate_demanded(versions: &[&'static SupportedProtocolVersion]) {
    let ca = Authority::root("Company CA");
    let peer = Peer::tls(mtls_config(&ca.sign(leaf()), &ca, versions)).await;
    let report = row(&Upstream::trusting(&ca), &peer, Some(Reason::TlsClientCertRequired), Traffic::Same).await;
    assert!(report.cause().unwrap().detail.contains("Company CA"), "its hints are told: {report:?}");
    assert!(report.negotiated.unwrap().client_cert_requested);
}

/// The server's view of a client identity that was read at `read_at`, years before now.
async fn client_certificate_refused(client: &Chain, read_at: Duration, words: &str) {
    let ca = Authority::root("Company CA");
    let clients = Authority::root("Clients CA");
    for versions in [TLS12, TLS13] {
        let peer = Peer::tls(mtls_config(&ca.sign(leaf()), &clients, versions)).await;
        let upstream = Upstream::trusting(&ca).identity(client);
        let policy = upstream.load_at("localhost", read_at).unwrap();
        for _ in 0..TIMES {
            let report = nexus::outbound::probe::probe(&target("localhost", &peer), &policy, nexus::outbound::probe::BUDGET).await;
            let cause = report.cause().unwrap();
            assert_eq!(cause.reason, Reason::TlsClientCertRejected, "{report:#?}");
            assert!(cause.detail.contains(words), "{words:?} is missing in {cause:?}");
        }
        let url = url::Url::parse(&format!("https://localhost:{}/mcp", peer.address.port())).unwrap();
        let client = nexus::outbound::HttpClient::new(&url, Some(&policy), super::CONNECT).unwrap();
        assert_eq!(get(&client).await.unwrap_err().explanation.reason, Reason::TlsClientCertRejected);
    }
}

#[tokio::test]
async fn row_24_client_certificate_of_an_unknown_ca() {
    client_certificate_refused(&Authority::root("Stranger CA").sign(Leaf::client("nexus")), now(), "it does not know its CA").await;
}

#[tokio::test]
async fn row_25_client_certificate_that_has_expired() {
    let clients = Authority::root("Clients CA");
    let lapsed = clients.sign(Leaf::client("nexus").expired());
    let ca = Authority::root("Company CA");
    let in_2020 = Duration::from_secs(1_600_000_000);
    for versions in [TLS12, TLS13] {
        let peer = Peer::tls(mtls_config(&ca.sign(leaf()), &clients, versions)).await;
        let policy = Upstream::trusting(&ca).identity(&lapsed).load_at("localhost", in_2020).unwrap();
        for _ in 0..TIMES {
            let report = nexus::outbound::probe::probe(&target("localhost", &peer), &policy, nexus::outbound::probe::BUDGET).await;
            assert_eq!(report.cause().map(|f| f.reason), Some(Reason::TlsClientCertRejected), "{report:#?}");
            assert!(report.has(Reason::LocalExpired), "what is known here is said as well: {report:#?}");
        }
    }
}

#[tokio::test]
async fn row_26_client_certificate_for_another_usage() {
    let clients = Authority::root("Clients CA");
    let wrong = clients.sign(Leaf::server(&["nexus.test"]));
    let ca = Authority::root("Company CA");
    for versions in [TLS12, TLS13] {
        let peer = Peer::tls(mtls_config(&ca.sign(leaf()), &clients, versions)).await;
        let report = row(&Upstream::trusting(&ca).identity(&wrong), &peer, Some(Reason::TlsClientCertRejected), Traffic::Same).await;
        assert!(report.cause().unwrap().detail.contains("not for client authentication"), "{report:?}");
    }
}

#[tokio::test]
async fn row_28_no_common_version() {
    let ca = Authority::root("Company CA");
    let upstream = Upstream::trusting(&ca).set(|settings| settings.min_version = MinVersion::Tls13);
    let report = refused(&upstream, server_config_for(&ca.sign(leaf()), TLS12), Reason::TlsProtocolVersion, "TLS 1.3").await;
    assert_eq!(report.cause().unwrap().key, Some("min_version"));
}

#[tokio::test]
async fn row_29_no_common_group() {
    let ca = Authority::root("Company CA");
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::MLKEM1024];
    let config = ServerConfig::builder_with_provider(std::sync::Arc::new(provider)).with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let chain = ca.sign(leaf());
    let config = config.with_no_client_auth().with_single_cert(chain.certificates.clone(), chain.clone_key()).unwrap();
    refused(&Upstream::trusting(&ca), config, Reason::TlsNoSharedCipher, "group").await;
}

#[tokio::test]
async fn row_30_no_common_application_protocol() {
    let ca = Authority::root("Company CA");
    let mut config = server_config(&ca.sign(leaf()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let report = refused(&Upstream::trusting(&ca), config, Reason::TlsAlpn, "ALPN").await;
    assert_eq!(report.cause().unwrap().key, Some("http_version"));
}

/// A peer below TLS.
async fn below(peer: &Peer, expected: Reason, words: &str) {
    let report = row(&Upstream::trusting(&Authority::root("Company CA")), peer, Some(expected), Traffic::Same).await;
    let cause = report.cause().unwrap();
    assert!(cause.detail.contains(words), "{words:?} is missing in {cause:?}");
}

#[tokio::test]
async fn row_32_reset_in_the_handshake() {
    let resetting = Peer::start(|mut stream, _| async move {
        // Closing with unread bytes resets the connection.
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    below(&resetting, Reason::TlsReset, "reset the connection").await;
}

#[tokio::test]
async fn row_33_close_in_the_handshake() {
    let closing = Peer::start(|mut stream, _| async move {
        let mut hello = [0; 16 * 1024];
        let _ = stream.read(&mut hello).await;
        let _ = stream.shutdown().await;
        while stream.read(&mut hello).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    below(&closing, Reason::TlsClosed, "closed the connection").await;
}

#[tokio::test]
async fn row_34_another_protocol_on_the_port() {
    below(&Peer::plain().await, Reason::TlsNotTls, "plain HTTP").await;
    for (greeting, name) in [("SSH-2.0-OpenSSH_9.2\r\n", "SSH"), ("220 mail.test ESMTP Postfix\r\n", "SMTP")] {
        let peer = Peer::start(move |mut stream, _| async move {
            let _ = stream.write_all(greeting.as_bytes()).await;
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        })
        .await;
        below(&peer, Reason::TlsNotTls, name).await;
    }
}

#[tokio::test]
async fn row_36_silent_server() {
    let silent = Peer::start(|mut stream, _| async move {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let policy = Upstream::trusting(&Authority::root("Company CA")).load("localhost").unwrap();
    let target = target("localhost", &silent);
    let short = Duration::from_millis(1500);
    let reports = futures_util::future::join_all((0..TIMES).map(|_| nexus::outbound::probe::probe(&target, &policy, short))).await;
    assert!(reports.iter().all(|report| report.cause().map(|f| f.reason) == Some(Reason::TlsTimeout)), "{reports:#?}");
    let url = url::Url::parse(&format!("https://localhost:{}/mcp", silent.address.port())).unwrap();
    let client = nexus::outbound::HttpClient::new(&url, Some(&policy), Duration::from_millis(300)).unwrap();
    assert_eq!(get(&client).await.unwrap_err().explanation.reason, Reason::TlsTimeout);
}

#[tokio::test]
async fn row_37_closed_port_and_a_name_without_an_address() {
    let peer = Peer::plain().await;
    let policy = Upstream::trusting(&Authority::root("Company CA")).load("localhost").unwrap();
    let closed = target("localhost", &peer);
    drop(peer);
    for _ in 0..TIMES {
        let report = nexus::outbound::probe::probe(&closed, &policy, nexus::outbound::probe::BUDGET).await;
        assert_eq!(report.cause().map(|f| f.reason), Some(Reason::Refused));
    }
    // Longer than a label may be, so that no resolver asks the network for it.
    let url = url::Url::parse(&format!("https://{}.invalid/", "x".repeat(64))).unwrap();
    let nowhere = nexus::outbound::probe::ProbeTarget::new(&url, nexus::outbound::Way::default()).unwrap();
    let report = nexus::outbound::probe::probe(&nowhere, &policy, nexus::outbound::probe::BUDGET).await;
    assert_eq!(report.cause().map(|f| (f.reason, f.key)), Some((Reason::Dns, Some("url"))));
}

fn now() -> Duration {
    nexus::clock::Clock::now(&nexus::clock::SystemClock)
}
