//! A short look at a port after a failed connection: is anybody there, and what does it speak?

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::dial::Dialer;
use crate::tls::TlsPolicy;

/// Longest whole look.
const LOOK: Duration = Duration::from_secs(1);

/// How long a server that greets first (SSH, SMTP) has for its greeting.
const GREETING: Duration = Duration::from_millis(200);

/// What stands behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// No TCP connection.
    Nobody,
    /// TCP, but no word.
    Silent,
    /// A protocol, by its first bytes.
    Speaks(Option<&'static str>),
}

/// Connects once more and reads the first bytes. Sends two blank lines and a question mark at most: no request, no secret.
pub(super) async fn look(dialer: &Dialer) -> Sight {
    let mut reached = false;
    match timeout(LOOK, look_at(dialer, &mut reached)).await {
        Ok(sight) => sight,
        Err(_) if reached => Sight::Silent,
        Err(_) => Sight::Nobody,
    }
}

/// Whether TLS answers. Sends the first message of a handshake that goes no further: no name, no request, no secret.
pub(super) async fn speaks_tls(dialer: &Dialer) -> bool {
    timeout(LOOK, answers_in_tls(dialer)).await.unwrap_or(false)
}

async fn answers_in_tls(dialer: &Dialer) -> bool {
    let Some(hello) = hello() else { return false };
    let Ok(mut stream) = dialer.dial().await else { return false };
    if stream.write_all(&hello).await.is_err() {
        return false;
    }
    first_bytes(&mut stream).await.is_some_and(|first| is_tls(&first))
}

/// A client's first message.
fn hello() -> Option<Vec<u8>> {
    // An address as the name: none is sent then.
    let nameless = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut session = ClientConnection::new(Arc::new(TlsPolicy::trusting_nobody().ok()?), nameless).ok()?;
    let mut hello = Vec::new();
    session.write_tls(&mut hello).ok()?;
    Some(hello)
}

/// An alert or a handshake message, in a record of any version of TLS (RFC 8446 §5.1).
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [21 | 22, 3, ..])
}

async fn look_at(dialer: &Dialer, reached: &mut bool) -> Sight {
    let Ok(mut stream) = dialer.dial().await else { return Sight::Nobody };
    *reached = true;
    if let Some(first) = timeout(GREETING, first_bytes(&mut stream)).await.ok().flatten() {
        return Sight::Speaks(protocol(&first));
    }
    // Not a request, so an HTTP server answers 400 at once.
    if stream.write_all(b"?\r\n\r\n").await.is_err() {
        return Sight::Silent;
    }
    match first_bytes(&mut stream).await {
        Some(first) => Sight::Speaks(protocol(&first)),
        None => Sight::Silent,
    }
}

async fn first_bytes(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut buffer = [0; 128];
    let count = stream.read(&mut buffer).await.ok()?;
    (count > 0).then(|| buffer.iter().copied().take(count).collect())
}

fn protocol(first: &[u8]) -> Option<&'static str> {
    // Both greet with 220 (RFC 5321 §4.2, RFC 959 §4.2), and most say who they are.
    if first.starts_with(b"220") {
        let says = |word: &[u8]| first.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        return Some(if says(b"SMTP") {
            "SMTP"
        } else if says(b"FTP") {
            "FTP"
        } else {
            "SMTP or FTP"
        });
    }
    [(&b"HTTP/"[..], "HTTP"), (b"SSH-", "SSH"), (b"+OK", "POP3"), (b"* OK", "IMAP"), (b"-ERR", "Redis")]
        .into_iter()
        .find_map(|(start, name)| first.starts_with(start).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_known_by_its_first_bytes() {
        assert_eq!(protocol(b"HTTP/1.1 400 Bad"), Some("HTTP"));
        assert_eq!(protocol(b"SSH-2.0-OpenSSH"), Some("SSH"));
        assert_eq!(protocol(b"220 mail.test ESMTP Postfix"), Some("SMTP"));
        assert_eq!(protocol(b"220 (vsFTPd 3.0.5)"), Some("FTP"));
        assert_eq!(protocol(b"220 hello"), Some("SMTP or FTP"));
        assert_eq!(protocol(&[0x15, 0x03, 0x01]), None);
    }
}
