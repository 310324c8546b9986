//! What a client is told whose connection is not served.

use std::{io, time::Duration};

use http::{HeaderValue, header::STRICT_TRANSPORT_SECURITY};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::tls::{Protocol, Secured};

/// Longest time for telling it.
const PATIENCE: Duration = Duration::from_secs(1);

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// The length of its first line.
const BUSY_STATUS: usize = b"HTTP/1.1 503 Service Unavailable\r\n".len();

/// Empty SETTINGS, then GOAWAY with ENHANCE_YOUR_CALM and 0 as the last stream, so that the client knows that nothing of
/// what it sent was done (RFC 9113 §3.4, §6.8, §7).
const BUSY_HTTP2: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 76\r\nconnection: close\r\n\r\n\
    A plain HTTP request was sent to an HTTPS port. Use https:// instead of it.\n";

/// One connection too many: told so, and closed once it has read that.
pub(super) async fn busy(stream: TcpStream) {
    tell(stream, BUSY).await;
}

/// The same over TLS, where every answer says that it is to be HTTPS (RFC 6797 §6.1).
pub(super) async fn busy_secured(stream: Secured, protocol: Protocol, hsts: Option<HeaderValue>) {
    match (protocol, hsts) {
        (Protocol::Http1, None) => tell(stream, BUSY).await,
        (Protocol::Http1, Some(hsts)) => tell(stream, &busy_with(&hsts)).await,
        (Protocol::Http2, _) => tell(stream, BUSY_HTTP2).await,
    }
}

fn busy_with(hsts: &HeaderValue) -> Vec<u8> {
    let (status, rest) = BUSY.split_at(BUSY_STATUS);
    [status, STRICT_TRANSPORT_SECURITY.as_str().as_bytes(), b": ", hsts.as_bytes(), b"\r\n", rest].concat()
}

/// A request without TLS to a port with it.
pub(super) async fn plain_http(stream: TcpStream) {
    tell(stream, PLAIN).await;
}

async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, words: &[u8]) {
    let told = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        // What the client has sent is read, or the reset for it could overtake our answer.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether it arrived is the client's business.
    let _ = timeout(PATIENCE, told).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_told_to_use_https_as_well() {
        let text = String::from_utf8(busy_with(&HeaderValue::from_static("max-age=5"))).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 503 Service Unavailable\r\nstrict-transport-security: max-age=5\r\ncontent-length: 0\r\n"),
            "{text}"
        );
        assert!(text.ends_with("close\r\n\r\n"), "{text}");
    }

    #[test]
    fn the_length_of_the_plain_answer_is_that_of_its_body() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
