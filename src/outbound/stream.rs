//! A connection for another protocol than HTTP: TCP first, TLS under a policy from the beginning or later (STARTTLS).

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Url;

use super::{
    dial::{DialError, Dialer, Proxy},
    resolve::DnsFailure,
};
use crate::{
    clock::{Clock as _, SystemClock},
    reason::{Explanation, Reason},
    tls::{self, Handshake, TlsPolicy, find_in_chain, shown},
};

/// Connects to `host:port`, straight or through a proxy's tunnel, within `limit`.
///
/// # Errors
/// In words, with the code of what failed.
pub async fn connect(host: &str, port: u16, proxy: Option<Proxy>, limit: Duration) -> Result<TcpStream, Explanation> {
    let invalid = || Explanation::new(Reason::LocalInvalid, format!("{:?} is no host", shown(host)), "correct the host");
    let bare = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let url = Url::parse(&format!("https://{bare}:{port}")).map_err(|_| invalid())?;
    let dialer = Dialer::to(&url, proxy)?;
    let place = dialer.place();
    match timeout(limit, dialer.dial()).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(DialError::Proxy(words))) => Err(Explanation::new(Reason::Proxy, words, "correct `proxy`, or ask whoever runs it")),
        Ok(Err(DialError::Tcp(cause))) => Err(explain_tcp(&place, &*cause)),
        Err(_) => Err(Explanation::new(
            Reason::ConnectTimeout,
            format!("no connection to {place} within {limit:?}"),
            "check the host, the port and the firewalls in between",
        )),
    }
}

fn explain_tcp(place: &str, cause: &(dyn std::error::Error + Send + Sync + 'static)) -> Explanation {
    if let Some(dns) = find_in_chain::<DnsFailure>(cause) {
        return Explanation::new(Reason::Dns, dns.to_string(), "correct the host, or the resolver of this machine");
    }
    let refused = find_in_chain::<io::Error>(cause).is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
    let reason = if refused { Reason::Refused } else { Reason::Unreachable };
    let cause = super::dial::root_cause(cause);
    Explanation::new(reason, format!("{place} cannot be reached: {cause}"), "start the server, or correct the host and port")
}

/// Shakes hands under `policy`, within `limit`. No application protocol is named (ALPN).
///
/// # Errors
/// In words, with the code of what failed.
pub async fn secure(stream: TcpStream, policy: &TlsPolicy, limit: Duration) -> Result<SecureStream, Explanation> {
    let peer = stream.peer_addr();
    let (mut config, observed) = policy.client_config()?;
    config.alpn_protocols.clear();
    let connector = TlsConnector::from(Arc::new(config));
    match timeout(limit, connector.connect(policy.name().clone(), stream)).await {
        Ok(Ok(stream)) => Ok(SecureStream { stream, peer: peer.ok() }),
        Ok(Err(error)) => {
            let handshake = Handshake { policy, observed: &observed, now: SystemClock.now() };
            Err(tls::explain(&error, &handshake).unwrap_or_else(|| {
                let detail = format!("the connection ended during the TLS handshake: {}", shown(&error.to_string()));
                Explanation::new(Reason::TlsClosed, detail, "check that the port speaks TLS, and look into the server's log")
            }))
        }
        Err(_) => Err(Explanation::new(
            Reason::TlsTimeout,
            format!("no TLS handshake within {limit:?}"),
            "check that the port speaks TLS from the first byte",
        )),
    }
}

/// A connection under a TLS policy.
pub struct SecureStream {
    stream: TlsStream<TcpStream>,
    peer: Option<SocketAddr>,
}

impl SecureStream {
    /// # Errors
    /// When the socket was gone already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl fmt::Debug for SecureStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for SecureStream {
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
