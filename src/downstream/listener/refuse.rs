//! What a client is told whose connection is not served.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::tls::{Protocol, Secured};

/// Longest time for telling it.
const PATIENCE: Duration = Duration::from_secs(1);

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

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

/// The same over TLS.
pub(super) async fn busy_secured(stream: Secured, protocol: Protocol) {
    match protocol {
        Protocol::Http1 => tell(stream, BUSY).await,
        Protocol::Http2 => tell(stream, BUSY_HTTP2).await,
    }
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
    fn the_length_of_the_plain_answer_is_that_of_its_body() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
