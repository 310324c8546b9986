//! What is known by the words of an error page: a server's front says in HTTP what went wrong with TLS.

use crate::{
    reason::{Explanation, Reason},
    upstream::UpstreamError,
};

/// What nginx answers, with status 400 and text/html, instead of failing the handshake.
const NGINX_NO_CERTIFICATE: &[u8] = b"No required SSL certificate was sent";
const NGINX_BAD_CERTIFICATE: &[u8] = b"The SSL certificate error";

/// What nginx, Apache, Go and this gateway answer, with status 400, to plain HTTP on a port that speaks TLS.
const TLS_IS_SPOKEN_HERE: [&[u8]; 4] = [
    b"plain HTTP request was sent to HTTPS port",
    b"speaking plain HTTP to an SSL-enabled server port",
    b"sent an HTTP request to an HTTPS server",
    b"plain HTTP request was sent to an HTTPS port",
];

pub(super) fn tls_is_spoken(page: &[u8]) -> Option<UpstreamError> {
    TLS_IS_SPOKEN_HERE
        .iter()
        .any(|words| memchr::memmem::find(page, words).is_some())
        .then(|| failed(Reason::Protocol, "the server speaks TLS, and url says http://".into(), "write https:// in url"))
}

pub(super) fn nginx_refusal(page: &[u8]) -> Option<UpstreamError> {
    if memchr::memmem::find(page, NGINX_NO_CERTIFICATE).is_some() {
        return Some(failed(
            Reason::TlsClientCertRequired,
            "the server's front (nginx) answered that no client certificate was sent".into(),
            "set client_cert_path and client_key_path in `[mcp.servers.NAME.tls]`",
        ));
    }
    memchr::memmem::find(page, NGINX_BAD_CERTIFICATE).map(|_| {
        failed(
            Reason::TlsClientCertRejected,
            "the server's front (nginx) refused our client certificate".into(),
            "does the server trust the CA that issued client_cert_path, and is the certificate current?",
        )
    })
}

pub(super) fn failed(reason: Reason, detail: String, remedy: &str) -> UpstreamError {
    UpstreamError::Failed { explanation: Explanation::new(reason, detail, remedy), never_sent: false }
}
