//! The gateway's own HTTPS: who gets in, what is spoken, how certificates change, and what attackers get.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod clients;
mod hostile;
mod renewal;
mod settings;
mod swap;

use std::time::Duration;

use http::Method;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    fake::{legacy, modern},
    https::Pki,
    nexus::gateway,
    wire::full,
};

/// Within the validity of what the tests mint: 2027-01-15.
const NOW: Duration = Duration::from_secs(1_800_000_000);

#[tokio::test]
async fn calls_are_answered_over_every_version_of_tls_and_http() {
    let pki = Pki::new();
    let spec = gateway().upstream("old", legacy().tool("x")).upstream("new", modern().tool("x"));
    let nexus = pki.serve(spec, "").start().await;
    for version in [&TLS12, &TLS13] {
        for protocols in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
            let mut connection = pki.client().only(version).alpn(protocols).connect(nexus.address).await.unwrap();
            assert_eq!(connection.is_http2(), protocols.contains(&"h2"), "{version:?} {protocols:?}");
            // Several requests over one connection, of both eras.
            for tool in ["old__x", "new__x"] {
                let client = Client::modern(nexus.address).header("mcp-method", "tools/call").header("mcp-name", tool);
                let meta = json!({
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let params = json!({"name": tool, "arguments": {}, "_meta": meta});
                let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
                let answer = connection.send(client.request(Method::POST, full(call.to_string()))).await.unwrap();
                let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
                let text = String::from_utf8(body.to_vec()).unwrap();
                let answer: Value =
                    serde_json::from_str(text.lines().rfind(|line| line.contains("jsonrpc")).unwrap().trim_start_matches("data: "))
                        .unwrap();
                assert!(answer["result"]["content"].is_array(), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn hsts_is_sent_when_asked_for_and_only_then() {
    let pki = Pki::new();
    for (keys, expected) in
        [("", None), (", hsts = false", None), (", hsts = true", Some("max-age=63072000")), (", hsts = \"1d\"", Some("max-age=86400"))]
    {
        let nexus = pki.serve(gateway(), keys).start_at_once().await;
        for protocols in [&["h2"][..], &["http/1.1"]] {
            for path in ["/health", "/nothing-here"] {
                let got = pki.client().alpn(protocols).get(nexus.address, path).await.unwrap();
                let sent = got.headers.get("strict-transport-security").map(|value| value.to_str().unwrap());
                assert_eq!(sent, expected, "{keys} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused_where_1_3_is_the_least() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), ", min_version = \"1.3\"").start_at_once().await;
    assert!(pki.client().only(&TLS12).handshake(nexus.address).await.is_err());
    assert!(pki.client().only(&TLS13).get(nexus.address, "/health").await.unwrap().status.is_success());
}
