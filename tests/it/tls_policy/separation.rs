//! Nothing of one upstream reaches another, and nothing leaves by a way that nobody configured.

use std::{process::Stdio, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use nexus::{
    outbound::{HttpClient, HttpVersion, Way},
    reason::Reason,
};
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use super::{CONNECT, Upstream, get, refusal};
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, mtls_config, server_config, server_config_for},
};

/// Ends its connection after each answer, so that the next request makes a new one.
fn closing() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"hello"));
    response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    response
}

#[tokio::test]
async fn a_strict_upstream_profits_nothing_from_a_lax_one_at_the_same_address() {
    let company = Authority::root("Company CA");
    for version in [&TLS12, &TLS13] {
        let unknown = Authority::root("Unknown CA").sign(Leaf::server(&["localhost"]));
        let peer = Peer::tls(server_config_for(&unknown, &[version])).await;
        let (lax, strict) = (Upstream::unverified().client("localhost", &peer), Upstream::trusting(&company).client("localhost", &peer));
        get(&lax).await.unwrap();
        assert_eq!(refusal(&strict).await.explanation.reason, Reason::TlsUnknownCa, "{version:?}");
        get(&lax).await.unwrap();
        assert_eq!(peer.arrived().len(), 2);
        assert_eq!(peer.connections(), 2, "the lax one reuses its own, the strict one makes its own");
    }
}

#[tokio::test]
async fn sessions_are_resumed_within_one_upstream_and_never_across_two() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA"));
    let chain = servers.sign(Leaf::server(&["localhost"]));
    for version in [&TLS12, &TLS13] {
        let peer = Peer::tls_answering(mtls_config(&chain, &clients, &[version]), closing).await;
        let client = |name| Upstream::trusting(&servers).identity(&clients.sign(Leaf::client(name))).client("localhost", &peer);
        let (first, second) = (client("first"), client("second"));
        for turn in [&first, &first, &second, &second] {
            get(turn).await.unwrap();
        }
        let shown: Vec<_> = peer.shown().into_iter().map(|s| (s.kind, s.client)).collect();
        let expected: Vec<_> = [
            (HandshakeKind::Full, "CN=first"),
            (HandshakeKind::Resumed, "CN=first"),
            (HandshakeKind::Full, "CN=second"),
            (HandshakeKind::Resumed, "CN=second"),
        ]
        .map(|(kind, name)| (Some(kind), Some(name.to_owned())))
        .into();
        assert_eq!(shown, expected, "{version:?}");
    }
}

#[tokio::test]
async fn one_policy_for_two_upstreams_still_means_two_session_stores() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls_answering(server_config(&company.sign(Leaf::server(&["localhost"]))), closing).await;
    let policy = Upstream::trusting(&company).load("localhost").unwrap();
    let url = Url::parse(&format!("https://localhost:{}/mcp", peer.address.port())).unwrap();
    for _ in 0..2 {
        get(&HttpClient::new(&url, Some(&policy), CONNECT).unwrap()).await.unwrap();
    }
    assert_eq!(peer.shown().iter().map(|s| s.kind).collect::<Vec<_>>(), [Some(HandshakeKind::Full); 2]);
}

/// A redirect would carry headers, body and client certificate along, to whoever the server names.
#[tokio::test]
async fn a_redirect_is_followed_to_no_other_host_port_or_scheme() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost", "127.0.0.1"]));
    let (plain, secure) = (Peer::plain().await, Peer::tls(mtls_config(&chain, &company, rustls::ALL_VERSIONS)).await);
    let port = secure.address.port();
    for status in [301, 302, 303, 307, 308] {
        for location in
            [format!("http://{}/steal", plain.address), format!("https://127.0.0.1:{port}/steal"), format!("//localhost:{port}/steal")]
        {
            let to = HeaderValue::from_str(&location).unwrap();
            let peer = Peer::tls_answering(mtls_config(&chain, &company, rustls::ALL_VERSIONS), move || {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert("location", to.clone());
                response
            })
            .await;
            let client = Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus"))).client("localhost", &peer);
            let mut request = Request::builder().method(Method::POST).body(Bytes::from_static(b"secret")).unwrap();
            for name in ["authorization", "x-api-key", "mcp-session-id"] {
                request.headers_mut().insert(name, HeaderValue::from_static("secret"));
            }
            assert_eq!(client.send(request).await.unwrap().status(), status, "{location}");
            assert_eq!(peer.arrived().len(), 1, "{location}");
        }
    }
    assert_eq!((plain.connections(), secure.connections()), (0, 0));
}

/// Whoever stands in the middle has some certificate, and must not get what was meant for the server.
#[tokio::test]
async fn no_credential_reaches_a_server_that_the_policy_refuses() {
    let company = Authority::root("Company CA");
    let leaf = || Leaf::server(&["localhost"]);
    let strangers = Authority::root("Stranger CA");
    for chain in [strangers.sign(leaf()), leaf().self_signed(), company.sign(leaf().expired()), company.sign(Leaf::server(&["other.test"]))]
    {
        for version in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Auto] {
            let mut config = mtls_config(&chain, &company, rustls::ALL_VERSIONS);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let peer = Peer::tls(config).await;
            let url = Url::parse(&format!("https://localhost:{}/mcp?token=secret", peer.address.port())).unwrap();
            let policy = Upstream::trusting(&company).identity(&company.sign(Leaf::client("nexus"))).load("localhost").unwrap();
            let client = HttpClient::by(Way { version, proxy: None }, &url, Some(&policy), CONNECT).unwrap();
            for _ in 0..3 {
                let request = Request::builder().method(Method::POST).header("authorization", "Bearer secret");
                let error = client.send(request.body(Bytes::from_static(b"secret")).unwrap()).await.unwrap_err();
                assert!(error.never_sent, "{error}");
            }
            assert_eq!(peer.connections(), 3);
            assert!(peer.arrived().is_empty() && peer.shown().is_empty(), "neither a request nor a client certificate");
        }
    }
}

/// Under no policy, verified or not, does a caller's own credential leave: passing it on is refused when the file is read.
#[test]
fn a_callers_own_credential_is_passed_on_to_a_verified_server_only() {
    use nexus::{config, problem::Severity, sources::MemorySources};
    let lax = ["verify_certs = false", "accept_invalid_hostnames = true\nroot_ca_cert_path = \"ca.pem\""];
    let cases = [("https", "", true), ("https", lax[0], false), ("https", lax[1], false), ("http", "", false)];
    for (scheme, tls, is_taken) in cases {
        for kind in ["type = \"forward\"", "type = \"token_exchange\", token_url = \"https://idp.test/token\", client_id = \"nexus\""] {
            let url = format!("{scheme}://crm.test/mcp");
            let text = format!("[mcp.servers.crm]\nurl = \"{url}\"\nauth = {{ {kind} }}\ntls = {{ {} }}\n", tls.replace('\n', ", "));
            let loaded = config::load_text(&text, "/etc/nexus.toml".as_ref(), None, &MemorySources::default());
            let mut errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string);
            let is_refused = errors.any(|error| error.contains("callers' own tokens are"));
            assert_eq!((loaded.config.is_some(), is_refused), (is_taken, !is_taken), "{text}{:?}", loaded.problems);
        }
    }
}

#[tokio::test]
async fn a_request_goes_out_as_it_is_but_for_the_urls_own_host() {
    let peer = Peer::plain().await;
    let url = Url::parse(&format!("http://{}/mcp?tenant=7", peer.address)).unwrap();
    let client = HttpClient::new(&url, None, CONNECT).unwrap();
    let request = Request::builder()
        .method(Method::POST)
        .uri("http://victim.test/elsewhere")
        .header("host", "victim.test")
        .header("accept", "application/json, text/event-stream")
        .header("x-one", "1")
        .header("x-one", "2")
        .body(Bytes::from_static(b"{ \"a\" : 1 }"))
        .unwrap();
    client.send(request).await.unwrap();
    let arrived = peer.arrived().pop().unwrap();
    assert_eq!(
        (arrived.method, arrived.target.as_str(), arrived.body),
        (Method::POST, "/mcp?tenant=7", Bytes::from_static(b"{ \"a\" : 1 }"))
    );
    let mut names: Vec<_> = arrived.headers.keys().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["accept", "content-length", "host", "x-one"]);
    assert_eq!(arrived.headers["host"], peer.address.to_string().as_str());
    assert_eq!(arrived.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
}

/// Runs itself in a child process, because a process's environment cannot be changed safely.
#[tokio::test]
async fn the_environments_proxies_and_key_log_are_never_used() {
    const TARGET: &str = "NEXUS_TEST_PROXY_TARGET";
    if let Ok(url) = std::env::var(TARGET) {
        let url = Url::parse(&url).unwrap();
        let policy = (url.scheme() == "https").then(|| Upstream::unverified().load("127.0.0.1").unwrap());
        get(&HttpClient::new(&url, policy.as_ref(), CONNECT).unwrap()).await.unwrap();
        return;
    }
    let proxy = Peer::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let plain = Peer::plain().await;
    let secure = Peer::tls(server_config(&Leaf::server(&["localhost"]).self_signed())).await;
    let folder = tempfile::tempdir().unwrap();
    let key_log = folder.path().join("keys");
    for url in [format!("http://{}/", plain.address), format!("https://{}/", secure.address)] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tls_policy::separation::the_environments_proxies_and_key_log_are_never_used"]).env(TARGET, url);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            child.env(name, format!("http://{}", proxy.address));
        }
        child.env_remove("NO_PROXY").env_remove("no_proxy").env("SSLKEYLOGFILE", &key_log).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(child.status().await.unwrap().success());
    }
    assert_eq!((plain.arrived().len(), secure.arrived().len()), (1, 1));
    assert_eq!(proxy.connections(), 0);
    assert!(!key_log.exists());
}

#[tokio::test]
async fn no_secret_shows_in_debug_or_in_an_error() {
    const CANARY: &str = "canary-7f3c";
    let company = Authority::root("Company CA");
    let identity = company.sign(Leaf::client("nexus"));
    let upstream = Upstream::trusting(&company).identity(&identity);
    let peer = Peer::tls(server_config(&Authority::root("Unknown CA").sign(Leaf::server(&["localhost"])))).await;
    let policy = upstream.load("localhost").unwrap();
    let mut shown = format!("{policy:?} {:?} {}", policy.warnings(), policy.words());
    for port in [peer.address.port(), 1] {
        let url = Url::parse(&format!("https://localhost:{port}/mcp?token={CANARY}")).unwrap();
        let client = HttpClient::new(&url, Some(&policy), CONNECT).unwrap();
        let mut request = Request::new(Bytes::from_static(CANARY.as_bytes()));
        request.headers_mut().insert("authorization", HeaderValue::from_static(CANARY));
        let error = client.send(request).await.unwrap_err();
        shown += &format!("{client:?} {error:?} {error} {:?}", error.explanation);
    }
    assert!(!shown.contains(CANARY), "{shown}");
    let key = identity.key_pem();
    let key_line = key.lines().nth(1).unwrap();
    assert!(!shown.contains(key_line), "{shown}");
    assert!(!shown.contains(&format!("{:?}", identity.key.secret_der())), "{shown}");
}

#[test]
fn url_and_policy_must_go_together() {
    let policy = Upstream::unverified().load("localhost").unwrap();
    for (url, tls) in [("https://localhost/", None), ("http://localhost/", Some(&policy)), ("https://user:word@localhost/", Some(&policy))]
    {
        let refused = HttpClient::new(&Url::parse(url).unwrap(), tls, CONNECT).err();
        assert_eq!(refused.map(|e| e.reason), Some(Reason::LocalInvalid), "{url}");
    }
}

#[tokio::test]
async fn an_answer_streams_before_it_is_complete() {
    use http_body_util::BodyExt as _;
    let go_on = Arc::new(tokio::sync::Notify::new());
    let waiting = Arc::clone(&go_on);
    let peer = Peer::start(move |mut stream, _| {
        let go_on = Arc::clone(&waiting);
        async move {
            let _ = stream.read(&mut [0; 16 * 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await;
            go_on.notified().await;
            drop(stream);
        }
    })
    .await;
    let client = HttpClient::new(&Url::parse(&format!("http://{}/", peer.address)).unwrap(), None, CONNECT).unwrap();
    let mut body = client.send(Request::new(Bytes::new())).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    go_on.notify_one();
    let broken = body.frame().await.unwrap().unwrap_err();
    assert_eq!((broken.explanation.reason, broken.never_sent), (Reason::Unreachable, false));
}
