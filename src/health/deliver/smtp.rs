//! Mail over SMTP: TLS under the channel's own policy, then lettre's client on top of it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use lettre::{
    Message,
    message::header::ContentType,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        extension::ClientId,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

use super::Undelivered;
use crate::{
    health::config::{Mail, MailSecurity},
    outbound::{self, Proxy, SecureStream},
    tls::{TlsPolicy, shown},
};

/// Look-up and TCP, and again for the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest reply before STARTTLS that is read, in bytes.
const MAX_REPLY: usize = 8 * 1024;

/// Sends one mail. The caller bounds the time.
pub(super) async fn send(
    mail: &Mail,
    policy: Option<&TlsPolicy>,
    proxy: Option<Proxy>,
    subject: &str,
    text: String,
) -> Result<(), Undelivered> {
    let message = message(mail, subject, text)?;
    let stream = outbound::connect(&mail.host, mail.port, proxy, CONNECT).await.map_err(Undelivered::explained)?;
    let stream: Box<dyn AsyncTokioStream> = match (mail.security, policy) {
        (MailSecurity::Plain, _) => Box::new(stream),
        (MailSecurity::Implicit, Some(policy)) => Box::new(Secured { greeting: b"", stream: secure(stream, policy).await? }),
        (MailSecurity::StartTls, Some(policy)) => {
            let stream = start_tls(stream).await?;
            // After STARTTLS the server does not greet again (RFC 3207 §4.2), and lettre waits for a greeting.
            Box::new(Secured { greeting: b"220 ready\r\n", stream: secure(stream, policy).await? })
        }
        (MailSecurity::Implicit | MailSecurity::StartTls, None) => {
            return Err(Undelivered::never("there is no TLS policy for the mail server"));
        }
    };
    let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &ClientId::default()).await.map_err(refused)?;
    if let Some(login) = &mail.login {
        let credentials = Credentials::new(login.user.clone(), login.password.expose().to_owned());
        // However the server puts it: another password may be on its way, and the alert waits for it.
        connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| Undelivered::later(refused(error).words))?;
    }
    connection.send(message.envelope(), &message.formatted()).await.map_err(refused)?;
    // The mail is taken; how the server says goodbye changes nothing.
    let _ = connection.quit().await;
    Ok(())
}

fn message(mail: &Mail, subject: &str, text: String) -> Result<Message, Undelivered> {
    let mut builder = Message::builder().from(mail.from.clone()).subject(subject).header(ContentType::TEXT_PLAIN).message_id(None);
    for to in &mail.to {
        builder = builder.to(to.clone());
    }
    builder.body(text).map_err(|error| Undelivered::never(format!("the mail cannot be made: {error}")))
}

async fn secure(stream: TcpStream, policy: &TlsPolicy) -> Result<SecureStream, Undelivered> {
    outbound::secure(stream, policy, CONNECT).await.map_err(Undelivered::explained)
}

/// What lettre says holds the server's reply at most, never what was sent.
#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refused(error: lettre::transport::smtp::Error) -> Undelivered {
    let words = format!("the mail server: {}", shown(&error.to_string()));
    if error.is_permanent() { Undelivered::never(words) } else { Undelivered::later(words) }
}

/// The plain part of the conversation (RFC 3207). Whatever is sent before TLS could be anybody's, so the first byte too many
/// ends it.
async fn start_tls(mut stream: TcpStream) -> Result<TcpStream, Undelivered> {
    let greeting = reply(&mut stream).await?;
    expect("220", &greeting)?;
    say(&mut stream, b"EHLO [127.0.0.1]\r\n").await?;
    let offers = reply(&mut stream).await?;
    expect("250", &offers)?;
    let offered = offers.lines().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS")));
    if !offered {
        return Err(Undelivered::later("the mail server does not offer STARTTLS; use smtps://, if it has a port for that"));
    }
    say(&mut stream, b"STARTTLS\r\n").await?;
    let ready = reply(&mut stream).await?;
    expect("220", &ready)?;
    Ok(stream)
}

async fn say(stream: &mut TcpStream, line: &[u8]) -> Result<(), Undelivered> {
    stream.write_all(line).await.map_err(broke_off)
}

fn expect(code: &str, reply: &str) -> Result<(), Undelivered> {
    if reply.starts_with(code) {
        return Ok(());
    }
    Err(Undelivered::later(format!("the mail server answered {:?}", shown(reply.lines().next().unwrap_or_default()))))
}

/// One reply of one or more lines (RFC 5321 §4.2.1), and not a byte more.
async fn reply(stream: &mut TcpStream) -> Result<String, Undelivered> {
    let mut text = Vec::new();
    loop {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.map_err(broke_off)?;
        if count == 0 {
            return Err(Undelivered::later("the mail server closed the connection"));
        }
        text.extend_from_slice(some.get(..count).unwrap_or_default());
        if text.len() > MAX_REPLY {
            return Err(Undelivered::later("the mail server's reply has no end"));
        }
        match end_of_reply(&text) {
            Some(end) if end == text.len() => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Some(_) => return Err(Undelivered::later("the mail server said more than it was asked before TLS began")),
            None => {}
        }
    }
}

/// Behind the first line whose code is followed by a blank rather than a hyphen.
fn end_of_reply(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(length) = text.get(from..)?.iter().position(|byte| *byte == b'\n') {
        let line = text.get(from..from + length)?;
        from += length + 1;
        if line.get(3) != Some(&b'-') {
            return Some(from);
        }
    }
    None
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn broke_off(error: io::Error) -> Undelivered {
    Undelivered::later(format!("the connection to the mail server broke off: {error}"))
}

/// A connection that begins with a greeting of its own.
struct Secured {
    greeting: &'static [u8],
    stream: SecureStream,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncTokioStream for Secured {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let (now, later) = self.greeting.split_at(self.greeting.len().min(buf.remaining()));
        buf.put_slice(now);
        self.greeting = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(end_of_reply(b"220 ready\r\n"), Some(11));
        assert_eq!(end_of_reply(b"250-a\r\n250-STARTTLS\r\n"), None);
        assert_eq!(end_of_reply(b"250-a\r\n250 b\r\nEVIL"), Some(14));
        assert_eq!(end_of_reply(b"220"), None);
        assert_eq!(end_of_reply(b"\n"), Some(1));
    }
}
