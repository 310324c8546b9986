//! Situations that are decided by files, by the URL, or by what the server knows of us: the rest of the table's rows.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use nexus::{
    outbound::{
        HttpClient, Way,
        probe::{BUDGET, ProbeTarget, probe},
    },
    reason::Reason,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::{CONNECT, Upstream, get, probing::target, refusal};
use crate::support::{
    fake::{Answer, modern},
    nexus::gateway,
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, server_config},
};

/// Of the prober, for each row.
const TIMES: usize = 10;

#[tokio::test]
async fn row_21_a_trust_file_without_any_certificate_never_means_another_trust() {
    let ca = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&ca.sign(Leaf::server(&["localhost"])))).await;
    let key = ca.sign(Leaf::client("nexus")).key_pem();
    for (file, told) in [
        (String::new(), "it is empty"),
        ("\u{feff}\r\n".to_owned(), "it is empty"),
        ("to be filled in".to_owned(), "text without any PEM block"),
        (key, "no certificate, but PRIVATE KEY"),
        (ca.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "openssl x509 -in"),
    ] {
        for include_system_cas in [false, true] {
            // The system's CAs would believe this server.
            let upstream = Upstream::default().system_ca(&ca).root_ca(file.clone()).set(|s| s.include_system_cas = include_system_cas);
            let refused = upstream.load("localhost").unwrap_err();
            assert_eq!(refused.reason, Reason::LocalInvalid, "{refused}");
            let said = format!("{} {}", refused.detail, refused.remedy);
            assert!(said.contains(told) && said.contains("root_ca_cert_path"), "{told:?} is missing in {said}");
        }
    }
    assert_eq!(peer.connections(), 0);
}

/// Demands a client certificate of `clients` that is not on their list.
fn revoking(chain: &Chain, clients: &Authority, revoked: &Chain, version: &'static SupportedProtocolVersion) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls([clients.crl(&[revoked], 2090).into()])
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    config.with_client_cert_verifier(verifier).with_single_cert(chain.certificates.clone(), chain.clone_key()).unwrap()
}

#[tokio::test]
async fn row_26_client_certificate_that_was_revoked() {
    let (ca, clients) = (Authority::root("Company CA"), Authority::root("Clients CA"));
    let revoked = clients.sign(Leaf::client("nexus"));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls(revoking(&ca.sign(Leaf::server(&["localhost"])), &clients, &revoked, version)).await;
        let upstream = Upstream::trusting(&ca).identity(&revoked);
        let policy = upstream.load("localhost").unwrap();
        for _ in 0..TIMES {
            let report = probe(&target("localhost", &peer), &policy, BUDGET).await;
            let cause = report.cause().unwrap();
            assert_eq!(cause.reason, Reason::TlsClientCertRejected, "{report:#?}");
            assert!(cause.detail.contains("revoked"), "{cause:?}");
        }
        assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsClientCertRejected));
        let spared = Upstream::trusting(&ca).identity(&clients.sign(Leaf::client("another")));
        assert_eq!(spared.reason("localhost", &peer).await, None, "the list names one certificate only");
    }
}

#[tokio::test]
async fn row_35_plain_http_to_a_port_that_speaks_tls() {
    let peer = Peer::tls(server_config(&Leaf::server(&["localhost"]).self_signed())).await;
    let url = Url::parse(&format!("http://{}/mcp", peer.address)).unwrap();
    let refused = ProbeTarget::new(&url, Way::default()).unwrap_err();
    assert_eq!(refused.reason, Reason::LocalInvalid, "there is nothing to probe without TLS");
    let error = refusal(&HttpClient::new(&url, None, CONNECT).unwrap()).await.explanation;
    assert_eq!(error.reason, Reason::Protocol, "{error}");
    assert!(error.detail.ends_with("speaks TLS, and url says http://") && error.remedy.contains("https://"), "{error}");
    // Others just hang up on what they do not understand.
    let silent = Peer::start(|mut stream, _| async move {
        let mut first = [0; 1];
        let _ = stream.read(&mut first).await;
        if first == [22] {
            // `decode_error`, as a record of TLS 1.2.
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 50]).await;
        }
        let _ = stream.shutdown().await;
        while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let url = Url::parse(&format!("http://{}/mcp", silent.address)).unwrap();
    let error = refusal(&HttpClient::new(&url, None, CONNECT).unwrap()).await.explanation;
    assert_eq!((error.reason, error.remedy.as_str()), (Reason::Protocol, "write https:// in url"), "{error}");

    // Some servers see what has happened, and answer in HTTP.
    for (kind, words) in [
        ("text/html", "<center>The plain HTTP request was sent to HTTPS port</center>"),
        ("text/html; charset=iso-8859-1", "Reason: You're speaking plain HTTP to an SSL-enabled server port."),
        ("text/plain", "Client sent an HTTP request to an HTTPS server.\n"),
    ] {
        let answer = move || {
            let response = http::Response::builder().status(400).header("content-type", kind);
            response.body(Bytes::from_static(words.as_bytes())).unwrap()
        };
        let peer = Peer::plain_answering(answer).await;
        let nexus = gateway().upstream("crm", format!("url = \"http://{}/mcp\"", peer.address)).start().await;
        let why = nexus.upstream("crm").status().borrow().state.explanation().cloned().unwrap();
        assert_eq!((why.reason, why.remedy.as_str()), (Reason::Protocol, "write https:// in url"), "{words}: {why}");
    }
}

/// The one URL of a client decides: neither a redirect nor a request can lead it off TLS.
#[tokio::test]
async fn row_38_a_client_of_an_https_url_never_speaks_plain_http() {
    let ca = Authority::root("Company CA");
    let elsewhere = Peer::plain().await;
    let peer = Peer::tls(server_config(&ca.sign(Leaf::server(&["localhost"])))).await;
    let client = Upstream::trusting(&ca).client("localhost", &peer);
    let request = Request::builder().uri(format!("http://{}/mcp", elsewhere.address)).body(Bytes::new()).unwrap();
    client.send(request).await.unwrap();
    assert_eq!((elsewhere.connections(), peer.shown().len(), peer.arrived().len()), (0, 1, 1));

    let to = format!("http://{}/mcp", elsewhere.address);
    let config = server_config(&ca.sign(Leaf::server(&["localhost"])));
    let downgrading = modern().tool("x").on("server/discover", move |_| Answer::status(307).header("location", &to));
    let downgrading = downgrading.https(config).toml("[.tls]\nroot_ca_cert_path = \"/ca.pem\"");
    let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", downgrading).start().await;
    let why = nexus.upstream("crm").status().borrow().state.explanation().cloned().unwrap();
    assert_eq!(why.reason, Reason::HttpRedirect, "{why}");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn row_39_key_and_certificate_that_do_not_belong_together() {
    let ca = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&ca.sign(Leaf::server(&["localhost"])))).await;
    let (ours, other) = (ca.sign(Leaf::client("nexus")), ca.sign(Leaf::client("other")));
    let with_key = |pem: String| Upstream::trusting(&ca).identity(&ours).file("client.key", pem);
    let damaged = ours.key_pem().replacen("MIG", "AAA", 1);
    for (pem, reason) in [(other.key_pem(), Reason::LocalKeyMismatch), (damaged, Reason::LocalInvalid)] {
        let refused = with_key(pem).load("localhost").unwrap_err();
        assert_eq!(refused.reason, reason, "{refused}");
        assert!(refused.detail.contains("client_key_path client.key"), "{refused}");
    }
    get(&with_key(ours.key_pem()).client("localhost", &peer)).await.unwrap();
    assert_eq!(peer.connections(), 1, "only the pair that fits was ever used");
}
