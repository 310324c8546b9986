//! Servers that fail below or beside the certificate: every one gets its own code.

use std::time::Duration;

use nexus::{outbound::HttpClient, reason::Reason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use url::Url;

use super::{CONNECT, Upstream, get, refusal};
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, server_config},
};

fn client(url: &str, connect: Duration) -> HttpClient {
    let url = Url::parse(url).unwrap();
    let policy = (url.scheme() == "https").then(|| Upstream::trusting(&Authority::root("Company CA")).load("localhost").unwrap());
    HttpClient::new(&url, policy.as_ref(), connect).unwrap()
}

/// The code and the detail for `https://` to this peer; nothing may have been sent.
async fn told(peer: &Peer) -> (Reason, String) {
    let error = refusal(&client(&format!("https://{}/", peer.address), CONNECT)).await;
    assert!(error.never_sent, "{error}");
    (error.explanation.reason, error.explanation.detail)
}

#[tokio::test]
async fn a_closed_port_is_refused_with_and_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https"] {
        let error = refusal(&client(&format!("{scheme}://{address}/"), CONNECT)).await;
        assert_eq!((error.explanation.reason, error.never_sent), (Reason::Refused, true), "{scheme}");
        assert!(error.explanation.detail.contains(&address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let error = refusal(&client("https://nexus-test.invalid/", CONNECT)).await;
    assert_eq!((error.explanation.reason, error.never_sent), (Reason::Dns, true));
    assert!(error.explanation.detail.contains("nexus-test.invalid"), "{error}");
}

#[tokio::test]
async fn plain_http_on_the_port_is_named() {
    let (reason, detail) = told(&Peer::plain().await).await;
    assert_eq!((reason, detail.as_str()), (Reason::TlsNotTls, "plain HTTP answers on that port, not TLS"));
}

#[tokio::test]
async fn another_protocol_on_the_port_is_named() {
    let peer = Peer::start(|mut stream, _| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let (reason, detail) = told(&peer).await;
    assert_eq!((reason, detail.as_str()), (Reason::TlsNotTls, "SSH answers on that port, not TLS"));
}

#[tokio::test]
async fn a_reset_during_the_handshake_is_told_from_a_close() {
    let resetting = Peer::start(|mut stream, _| async move {
        // Closing with unread bytes resets the connection.
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    assert_eq!(told(&resetting).await.0, Reason::TlsReset);

    let closing = Peer::start(|mut stream, _| async move {
        let mut hello = [0; 16 * 1024];
        let _ = stream.read(&mut hello).await;
        let _ = stream.shutdown().await;
        while stream.read(&mut hello).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    assert_eq!(told(&closing).await.0, Reason::TlsClosed);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_tls_time_out() {
    let silent = Peer::start(|mut stream, _| async move {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let error = refusal(&client(&format!("https://{}/", silent.address), Duration::from_millis(300))).await;
    assert_eq!((error.explanation.reason, error.never_sent), (Reason::TlsTimeout, true), "{error}");
    assert!(error.explanation.remedy.contains("connect_timeout"));
}

#[tokio::test]
async fn a_port_that_takes_no_connection_is_a_connect_time_out() {
    // Linux drops further connections once the listener's queue is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    for scheme in ["http", "https"] {
        let error = refusal(&client(&format!("{scheme}://{address}/"), Duration::from_millis(200))).await;
        assert_eq!((error.explanation.reason, error.never_sent), (Reason::ConnectTimeout, true), "{scheme}: {error}");
    }
}

#[tokio::test]
async fn http_to_a_tls_port_says_so() {
    let peer = Peer::tls(server_config(&Leaf::server(&["localhost"]).self_signed())).await;
    let error = refusal(&client(&format!("http://{}/", peer.address), CONNECT)).await;
    assert_eq!(error.explanation.reason, Reason::Protocol, "{error}");
    assert!(error.explanation.remedy.contains("https://"), "{}", error.explanation.remedy);
    assert!(!error.never_sent);
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_never_called_unsent() {
    let peer = Peer::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 16 * 1024]).await;
    })
    .await;
    let error = refusal(&client(&format!("http://{}/", peer.address), CONNECT)).await;
    assert_eq!((error.explanation.reason, error.never_sent), (Reason::Unreachable, false), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_reached_by_the_same_client() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let first = Peer::tls(server_config(&chain)).await;
    let client = Upstream::trusting(&company).client("localhost", &first);
    get(&client).await.unwrap();
    get(&client).await.unwrap();
    assert_eq!(first.connections(), 1);
}

#[tokio::test]
async fn certificate_text_cannot_forge_a_log_line() {
    let company = Authority::root("Company CA");
    let hostile = Authority::root("Evil\nlevel=error fake").sign(Leaf::server(&["localhost"]));
    let peer = Peer::tls(server_config(&hostile)).await;
    let error = refusal(&Upstream::trusting(&company).client("localhost", &peer)).await.explanation;
    assert!(error.detail.contains("Evil\\u{a}level=error"), "{error}");
    assert!(!error.detail.contains('\n'));
}
