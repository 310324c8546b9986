//! The prober before real servers: its verdict, and what it shows them.

use std::{sync::Arc, time::Duration};

use nexus::{
    names::UpstreamName,
    outbound::{
        Way,
        probe::{BUDGET, ProbeTarget, Prober, probe},
    },
    reason::Reason,
    tls::{Position, Report, Verdict},
};
use url::Url;

use super::Upstream;
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, mtls_config, server_config, server_config_for},
};

pub(super) fn target(host: &str, peer: &Peer) -> ProbeTarget {
    let url = Url::parse(&format!("https://{host}:{}/mcp", peer.address.port())).unwrap();
    ProbeTarget::new(&url, Way::default()).unwrap()
}

impl Upstream {
    pub(super) async fn probe(&self, host: &str, peer: &Peer) -> Report {
        probe(&target(host, peer), &self.load(host).unwrap(), BUDGET).await
    }
}

#[tokio::test]
async fn a_good_server_is_told_in_full() {
    let root = Authority::root("Company Root");
    let peer = Peer::tls(server_config(&root.intermediate("Company Issuing").sign(Leaf::server(&["localhost"])))).await;
    let report = Upstream::trusting(&root).probe("localhost", &peer).await;
    assert_eq!((report.verdict, report.findings.len()), (Verdict::Ok, 0), "{report:?}");
    let negotiated = report.negotiated.as_ref().unwrap();
    assert_eq!(negotiated.version, "TLS 1.3");
    assert!(negotiated.cipher.starts_with("TLS13_") && !negotiated.group.is_empty());
    let chain: Vec<_> = report.chain.iter().map(|link| (link.position, link.on_path, link.sent)).collect();
    assert_eq!(chain, [(Position::Leaf, true, true), (Position::Intermediate, true, true), (Position::Root, true, false)]);
    assert!(peer.arrived().is_empty(), "a probe sends no request");
}

#[tokio::test]
async fn a_hostile_server_never_sees_the_client_certificate() {
    let (company, clients, other) = (Authority::root("Company"), Authority::root("Clients"), Authority::root("Other"));
    let client = clients.sign(Leaf::client("nexus"));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = mtls_config(&other.sign(Leaf::server(&["localhost"])), &clients, versions);
        let peer = Peer::tls(server).await;
        let report = Upstream::trusting(&company).identity(&client).probe("localhost", &peer).await;
        assert_eq!((report.verdict, report.cause().map(|f| f.reason)), (Verdict::Fail, Some(Reason::TlsUnknownCa)));
        assert_eq!(peer.connections(), 1, "there is no second phase before a server that was refused");
        assert!(peer.shown().iter().all(|shown| shown.client.is_none()));
    }
}

#[tokio::test]
async fn the_client_certificate_is_shown_in_a_second_handshake_to_a_server_that_was_accepted() {
    let (company, clients) = (Authority::root("Company"), Authority::root("Clients"));
    let client = clients.sign(Leaf::client("nexus"));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let peer = Peer::tls(mtls_config(&company.sign(Leaf::server(&["localhost"])), &clients, versions)).await;
        let report = Upstream::trusting(&company).identity(&client).probe("localhost", &peer).await;
        assert_eq!((report.verdict, report.findings.len()), (Verdict::Ok, 0), "{report:?}");
        assert!(report.negotiated.is_some_and(|n| n.client_cert_requested));
        assert_eq!(peer.connections(), 2);
        let shown: Vec<_> = peer.shown().into_iter().map(|shown| shown.client.unwrap_or_default()).collect();
        assert_eq!(shown, ["CN=nexus"], "the first handshake showed none");
    }
}

#[tokio::test]
async fn who_asks_during_a_probe_or_soon_after_gets_its_report() {
    let company = Authority::root("Company");
    let peer = Peer::tls(server_config_for(&company.sign(Leaf::server(&["localhost"])), rustls::ALL_VERSIONS)).await;
    let policy = Upstream::trusting(&company).load("localhost").unwrap();
    let (prober, name, target) = (Prober::new(4), UpstreamName::parse("crm").unwrap(), target("localhost", &peer));
    let all = futures_util::future::join_all((0..20).map(|_| prober.probe(&name, &target, &policy))).await;
    assert!(all.iter().all(|report| Arc::ptr_eq(report, &all[0])));
    let again = prober.probe(&name, &target, &policy).await;
    assert!(Arc::ptr_eq(&again, &all[0]));
    assert_eq!(peer.connections(), 1);
    prober.try_out(&target, &policy).await;
    assert_eq!(peer.connections(), 2, "a policy that is tried out is not the one that was probed");
    prober.forget(&name);
    prober.probe(&name, &target, &policy).await;
    assert_eq!(peer.connections(), 3);
}

#[tokio::test]
async fn a_probe_goes_on_when_who_asked_for_it_is_gone() {
    let (began, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (ended, mut over) = tokio::sync::mpsc::unbounded_channel();
    let peer = Peer::start(move |mut stream, _| {
        let (began, ended) = (began.clone(), ended.clone());
        async move {
            began.send(()).unwrap();
            let mut first = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            while tokio::io::AsyncReadExt::read(&mut stream, &mut first).await.is_ok_and(|n| n > 0) {}
            ended.send(()).unwrap();
        }
    })
    .await;
    let policy = Upstream::trusting(&Authority::root("Company")).load("localhost").unwrap();
    let (prober, name, target) = (Prober::new(1), UpstreamName::parse("crm").unwrap(), target("localhost", &peer));
    {
        let asked = prober.probe(&name, &target, &policy);
        tokio::select! {
            biased;
            _ = begun.recv() => {}
            _ = asked => panic!("the server has not said anything yet"),
        }
    }
    let went_on = tokio::time::timeout(BUDGET, over.recv()).await;
    assert!(went_on.is_ok(), "nobody waits for it, and it holds the only place");
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_no_more_than_the_budget() {
    let silent = Peer::start(|mut stream, _| async move {
        let mut rest = [0; 1024];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let policy = Upstream::trusting(&Authority::root("Company")).load("localhost").unwrap();
    let began = std::time::Instant::now();
    let report = probe(&target("localhost", &silent), &policy, Duration::from_millis(1500)).await;
    assert_eq!(report.cause().map(|f| f.reason), Some(Reason::TlsTimeout), "{report:?}");
    assert!(began.elapsed() < Duration::from_millis(2500));
}
