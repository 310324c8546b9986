//! By which way a server is reached: through a forward proxy, and in which HTTP version.

use nexus::{
    outbound::{HttpClient, HttpVersion, Proxy, Way},
    reason::Reason,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use url::Url;

use super::{CONNECT, Upstream, get, refusal};
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, mtls_config, server_config},
};

/// A proxy that answers `answer`, goes on as a tunnel if that is a 200, and reports each request head. Gives its authority.
pub(crate) async fn proxy(answer: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (report, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let report = report.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                report.send(head).unwrap();
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer.starts_with("HTTP/1.1 200") {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    (address, heads)
}

fn through(authority: &str) -> Way {
    let url = Url::parse(&format!("http://{authority}")).unwrap();
    Way { proxy: Some(Proxy::from_url(&url).unwrap()), version: HttpVersion::Http1 }
}

fn client(upstream: &Upstream, way: Way, peer: &Peer) -> HttpClient {
    let url = Url::parse(&format!("https://localhost:{}/mcp", peer.address.port())).unwrap();
    HttpClient::by(way, &url, Some(&upstream.load("localhost").unwrap()), CONNECT).unwrap()
}

#[tokio::test]
async fn a_proxy_gives_a_tunnel_and_the_tls_inside_it_is_the_upstreams_own() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let peer = Peer::tls(mtls_config(&servers.sign(Leaf::server(&["localhost"])), &clients, rustls::ALL_VERSIONS)).await;
    let (address, mut heads) = proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let upstream = Upstream::trusting(&servers).identity(&clients.sign(Leaf::client("nexus")));
    let client = client(&upstream, through(&format!("us%20er:pa:ss@{address}")), &peer);
    get(&client).await.unwrap();
    get(&client).await.unwrap();

    let target = format!("localhost:{}", peer.address.port());
    let head = heads.recv().await.unwrap();
    assert_eq!(head, format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: Basic dXMgZXI6cGE6c3M=\r\n\r\n"));
    assert!(heads.try_recv().is_err(), "the second request uses the first one's tunnel");
    assert_eq!(peer.shown().first().unwrap().client.as_deref(), Some("CN=nexus"));
    assert_eq!(peer.arrived().first().unwrap().headers.get("proxy-authorization"), None);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_the_server_is_never_contacted_directly() {
    let ca = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&ca.sign(Leaf::server(&["localhost"])))).await;
    for (answer, words) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "wants a user name and password"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "refused a tunnel to localhost:"),
        ("SSH-2.0-OpenSSH_9\r\n", "gave no tunnel to localhost:"),
    ] {
        let (address, _heads) = proxy(answer).await;
        let error = refusal(&client(&Upstream::trusting(&ca), through(&format!("user:canary@{address}")), &peer)).await;
        assert_eq!(error.explanation.reason, Reason::Proxy, "{error}");
        assert!(error.never_sent);
        assert!(error.explanation.detail.contains(words) && error.explanation.detail.contains(&address), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = refusal(&client(&Upstream::trusting(&ca), through(&closed), &peer)).await;
    assert_eq!(error.explanation.reason, Reason::Proxy);
    assert!(error.explanation.detail.contains("cannot be reached"), "{error}");
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn a_bad_certificate_behind_a_proxy_is_still_refused() {
    let (company, other) = (Authority::root("Company CA"), Authority::root("Other CA"));
    let peer = Peer::tls(server_config(&other.sign(Leaf::server(&["localhost"])))).await;
    let (address, _heads) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
    let error = refusal(&client(&Upstream::trusting(&company), through(&address), &peer)).await;
    assert_eq!(error.explanation.reason, Reason::TlsUnknownCa);
    assert_eq!(peer.arrived().len(), 0);
}

#[tokio::test]
async fn the_configured_http_version_is_the_one_that_is_spoken() {
    let ca = Authority::root("Company CA");
    let server = |offered: &[&str]| {
        let mut config = server_config(&ca.sign(Leaf::server(&["localhost"])));
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    for (version, offered, spoken) in [
        (HttpVersion::Http1, &["h2", "http/1.1"][..], "http/1.1"),
        (HttpVersion::Http2, &["h2", "http/1.1"], "h2"),
        (HttpVersion::Auto, &["h2", "http/1.1"], "h2"),
        (HttpVersion::Auto, &["http/1.1"], "http/1.1"),
    ] {
        let peer = Peer::tls(server(offered)).await;
        let client = client(&Upstream::trusting(&ca), Way { version, proxy: None }, &peer);
        for _ in 0..3 {
            get(&client).await.unwrap();
        }
        let shown = peer.shown();
        assert_eq!(shown.len(), 1, "{version:?}: one connection serves all");
        assert_eq!(shown.first().unwrap().alpn.as_deref(), Some(spoken.as_bytes()), "{version:?}");
        // HTTP/2 names the host in `:authority`, which a server shows as the URI's.
        let arrived = peer.arrived();
        assert_eq!(arrived.first().unwrap().target.starts_with("https://localhost:"), spoken == "h2");
    }
}

#[tokio::test]
async fn a_server_without_http_2_is_told_apart_when_nothing_else_is_allowed() {
    let ca = Authority::root("Company CA");
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = server_config(&ca.sign(Leaf::server(&["localhost"])));
        config.alpn_protocols = offered;
        let peer = Peer::tls(config).await;
        let way = Way { version: HttpVersion::Http2, proxy: None };
        let error = refusal(&client(&Upstream::trusting(&ca), way, &peer)).await;
        assert_eq!(error.explanation.reason, Reason::TlsAlpn, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_version_that_is_offered_is_told_with_the_key_that_changes_them() {
    let ca = Authority::root("Company CA");
    for (version, offered) in [(HttpVersion::Http1, "h2"), (HttpVersion::Http2, "http/1.1"), (HttpVersion::Auto, "spdy/3")] {
        let mut config = server_config(&ca.sign(Leaf::server(&["localhost"])));
        config.alpn_protocols = vec![offered.as_bytes().to_vec()];
        let error = refusal(&client(&Upstream::trusting(&ca), Way { version, proxy: None }, &Peer::tls(config).await)).await;
        let said = error.explanation.to_string();
        assert_eq!(error.explanation.reason, Reason::TlsAlpn, "{said}");
        assert!(error.explanation.remedy.contains("http_version") && !error.explanation.detail.contains("1.1"), "{version:?}: {said}");
    }
}

#[tokio::test]
async fn a_client_certificate_that_is_missing_or_refused_is_told_over_http_2_as_well() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let stranger = Authority::root("Other CA").sign(Leaf::client("nexus"));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let mut config = mtls_config(&servers.sign(Leaf::server(&["localhost"])), &clients, versions);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let peer = Peer::tls(config).await;
        let way = || Way { version: HttpVersion::Http2, proxy: None };
        let without = refusal(&client(&Upstream::trusting(&servers), way(), &peer)).await.explanation;
        assert_eq!(without.reason, Reason::TlsClientCertRequired, "{without}");
        let wrong = refusal(&client(&Upstream::trusting(&servers).identity(&stranger), way(), &peer)).await.explanation;
        assert_eq!(wrong.reason, Reason::TlsClientCertRejected, "{wrong}");
        assert!(peer.arrived().is_empty());
    }
}

/// A certificate for both names, one address and HTTP/2: RFC 9113 §9.1.1 would let them share a connection.
#[tokio::test]
async fn two_upstreams_share_no_connection_although_http_2_would_allow_it() {
    let ca = Authority::root("Company CA");
    let mut config = server_config(&ca.sign(Leaf::server(&["localhost", "127.0.0.1"])));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let peer = Peer::tls(config).await;
    for host in ["localhost", "127.0.0.1"] {
        let url = Url::parse(&format!("https://{host}:{}/mcp", peer.address.port())).unwrap();
        let way = Way { version: HttpVersion::Http2, proxy: None };
        let client = HttpClient::by(way, &url, Some(&Upstream::trusting(&ca).load(host).unwrap()), CONNECT).unwrap();
        for _ in 0..3 {
            get(&client).await.unwrap();
        }
    }
    assert_eq!((peer.connections(), peer.arrived().len()), (2, 6));
}

#[tokio::test]
async fn over_http_2_too_the_urls_own_host_is_named_whatever_a_request_says() {
    let ca = Authority::root("Company CA");
    let mut config = server_config(&ca.sign(Leaf::server(&["localhost"])));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let peer = Peer::tls(config).await;
    let client = client(&Upstream::trusting(&ca), Way { version: HttpVersion::Http2, proxy: None }, &peer);
    let request = http::Request::builder().uri("https://victim.test/elsewhere").header("host", "victim.test");
    client.send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    let arrived = peer.arrived().pop().unwrap();
    assert_eq!(arrived.target, format!("https://localhost:{}/mcp", peer.address.port()));
    assert!(!format!("{:?}", arrived.headers).contains("victim"), "{:?}", arrived.headers);
    assert_eq!(peer.shown().first().unwrap().sni.as_deref(), Some("localhost"));
}

/// What speaks to the proxy is nothing of the upstream's policy: neither its client certificate nor its forgiveness.
#[test]
fn a_proxy_behind_tls_is_refused_when_the_file_is_read() {
    use nexus::{config, sources::MemorySources};
    for tls in ["verify_certs = false", "client_cert_path = \"c.pem\"\nclient_key_path = \"k.pem\""] {
        let text = format!(
            "[mcp.servers.crm]\nurl = \"https://crm.test/mcp\"\nproxy = \"https://proxy.test:3128\"\n[mcp.servers.crm.tls]\n{tls}\n"
        );
        let loaded = config::load_text(&text, "/etc/nexus.toml".as_ref(), None, &MemorySources::default());
        assert!(loaded.config.is_none(), "{:?}", loaded.problems);
        assert!(loaded.problems.iter().any(|problem| problem.key == "mcp.servers.crm.proxy"), "{:?}", loaded.problems);
    }
}
