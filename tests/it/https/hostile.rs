//! Those who do not mean to talk: stalled, flooding, garbage, too many. Nobody else notices.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::advance,
};

use super::*;
use crate::support::{StillTime, https::TlsClient, nexus::Nexus, soon};

/// The beginning of a TLS record that holds a ClientHello, and no more (RFC 8446 §5.1).
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// Bounds that the gateway keeps to (docs/configuration.md).
const HANDSHAKES: usize = 512;

async fn stalled(nexus: &Nexus) -> TcpStream {
    let mut stream = TcpStream::connect(nexus.address).await.unwrap();
    stream.write_all(HALF_A_HELLO).await.unwrap();
    stream
}

/// Waits until the gateway has ended the connection.
async fn ends(stream: &mut TcpStream) {
    // A reset says the same as an end.
    let _ = soon("the end", stream.read_to_end(&mut Vec::new())).await;
}

async fn is_served(client: &TlsClient, nexus: &Nexus) {
    assert!(client.get(nexus.address, "/health").await.unwrap().status.is_success());
}

#[tokio::test]
async fn those_who_stall_in_the_handshake_keep_nobody_out() {
    let pki = Pki::new();
    // Far fewer places than stalled handshakes.
    let nexus = pki.serve(gateway().server("max_connections = 2"), "").start_at_once().await;
    let mut stalled_ones = Vec::new();
    for _ in 0..HANDSHAKES {
        stalled_ones.push(stalled(&nexus).await);
    }
    is_served(&pki.client(), &nexus).await;
    // The honest client was one too many, so the oldest had to go.
    ends(&mut stalled_ones[0]).await;
}

#[tokio::test]
async fn ten_thousand_handshakes_that_never_end_leave_only_the_newest_open() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    let mut newest = std::collections::VecDeque::new();
    for count in 0..10_000 {
        newest.push_back(stalled(&nexus).await);
        if newest.len() > HANDSHAKES {
            // The gateway lets go of each before the flood goes on, or descriptors would run out here.
            ends(&mut newest.pop_front().unwrap()).await;
        }
        if count % 1_000 == 0 {
            is_served(&pki.client(), &nexus).await;
        }
    }
    is_served(&pki.client(), &nexus).await;
}

#[tokio::test]
async fn a_handshake_that_takes_longer_than_ten_seconds_is_ended() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    for sent in [HALF_A_HELLO, &[]] {
        let mut slow = TcpStream::connect(nexus.address).await.unwrap();
        slow.write_all(sent).await.unwrap();
        // A later connection was served, so this one was accepted before.
        is_served(&pki.client(), &nexus).await;
        let still = StillTime::begin();
        advance(Duration::from_secs(11)).await;
        drop(still);
        tokio::time::resume();
        ends(&mut slow).await;
    }
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    for request in [
        "GET /mcp HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("Use https:// instead"), "{answer}");
    }
    is_served(&pki.client(), &nexus).await;
}

#[tokio::test]
async fn garbage_on_the_https_port_ends_its_own_connection_only() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    let mut honest = pki.client().connect(nexus.address).await.unwrap();
    let oversized = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 16_384]].concat();
    for garbage in [
        &b"\x00\x00\x00\x00"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\x28",
        &oversized,
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n",
    ] {
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        // The gateway may have ended it before everything is written.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        ends(&mut stream).await;
        assert!(honest.get("/health").await.unwrap().status.is_success());
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_in_its_own_protocol() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway().server("max_connections = 1"), ", hsts = true").start_at_once().await;
    let mut first = pki.client().connect(nexus.address).await.unwrap();
    first.get("/health").await.unwrap();
    let refused = pki.client().get(nexus.address, "/health").await.unwrap();
    assert_eq!(refused.status, http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.headers["strict-transport-security"], "max-age=63072000");
    let refused = pki.client().alpn(&["h2"]).get(nexus.address, "/health").await.unwrap_err();
    let mut cause: &dyn std::error::Error = refused.get_ref().unwrap();
    while let Some(source) = cause.source() {
        cause = source;
    }
    assert!(cause.to_string().contains("excessive load"), "GOAWAY with ENHANCE_YOUR_CALM, but {cause}");
    assert!(first.get("/health").await.unwrap().status.is_success());
}

#[tokio::test]
async fn large_headers_are_refused_over_http2_as_over_http1() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), "").start_at_once().await;
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let mut connection = pki.client().alpn(protocols).connect(nexus.address).await.unwrap();
        let mut request = http::Request::get("/health").body(full("")).unwrap();
        for n in 0..10 {
            let name = http::HeaderName::try_from(format!("x-large-{n}")).unwrap();
            request.headers_mut().insert(name, "x".repeat(20_000).parse().unwrap());
        }
        // Over HTTP/2 the client may see the limit announced, and not send it at all.
        if let Ok(answer) = connection.send(request).await {
            assert_eq!(answer.status(), http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{protocols:?}");
        }
        is_served(&pki.client().alpn(protocols), &nexus).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_more_of_its_answer_loses_its_http2_connection() {
    let pki = Pki::new();
    let text = "x".repeat(8 << 20);
    let large = modern().tool("x").on("tools/call", move |call| {
        let members = format!(r#""content":[{{"type":"text","text":"{text}"}}],"resultType":"complete""#);
        crate::support::fake::Answer::json(call.response(&members))
    });
    let nexus = pki.serve(gateway().upstream("up", large).server("request_timeout = \"1s\""), "").start().await;
    let mut connection = pki.client().alpn(&["h2"]).connect(nexus.address).await.unwrap();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "up__x", "arguments": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let client = Client::modern(nexus.address).header("mcp-method", "tools/call").header("mcp-name", "up__x");
    let _unread = connection.send(client.request(Method::POST, full(body.to_string()))).await.unwrap();
    connection.ends().await;
    is_served(&pki.client(), &nexus).await;
}
