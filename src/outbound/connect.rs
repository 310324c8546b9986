//! A connection to one upstream: dialled, and with TLS under its own policy where the URL says https.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::dial::{DialError, Dialer};

/// Which HTTP is spoken with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/1.1 alone: the cheapest where results are large.
    #[default]
    Http1,
    /// HTTP/2 alone; with prior knowledge where there is no TLS.
    Http2,
    /// What the server chooses in the handshake; HTTP/1.1 where there is none.
    Auto,
}

impl HttpVersion {
    /// What the handshake offers (ALPN, RFC 7301), in order of preference.
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        let offered: &[&[u8]] = match self {
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Auto => &[b"h2", b"http/1.1"],
        };
        offered.iter().map(|name| name.to_vec()).collect()
    }
}

/// Makes connections for one client's pool.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    version: HttpVersion,
    /// For look-up, TCP, proxy and handshake together.
    limit: Duration,
}

/// How far a connection attempt came.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// No TCP connection.
    Tcp(Box<dyn Error + Send + Sync>),
    /// No tunnel through the proxy; in words.
    Proxy(String),
    /// TCP, but no TLS.
    Tls(io::Error),
    /// TLS, but the server would not speak HTTP/2 although nothing else is allowed.
    NoHttp2,
    /// The limit passed before TCP was connected, or before TLS was.
    TimedOut { in_tls: bool },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(cause) => cause.fmt(f),
            Self::Proxy(words) => f.write_str(words),
            Self::Tls(cause) => cause.fmt(f),
            Self::NoHttp2 => f.write_str("the server does not offer HTTP/2"),
            Self::TimedOut { .. } => f.write_str("it took too long"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Tcp(cause) => Some(&**cause),
            Self::Tls(cause) => Some(cause),
            Self::Proxy(_) | Self::NoHttp2 | Self::TimedOut { .. } => None,
        }
    }
}

impl From<DialError> for ConnectError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Tcp(cause) => Self::Tcp(cause),
            DialError::Proxy(words) => Self::Proxy(words),
        }
    }
}

impl Connector {
    /// `tls`: the configuration, whose ALPN is that of `version`, and the name that the certificate must carry.
    pub(super) fn new(
        dialer: Dialer,
        tls: Option<(rustls::ClientConfig, ServerName<'static>)>,
        version: HttpVersion,
        limit: Duration,
    ) -> Self {
        let tls = tls.map(|(config, name)| (TlsConnector::from(Arc::new(config)), name));
        Self(Arc::new(Inner { dialer, tls, version, limit }))
    }
}

impl Inner {
    async fn connect(&self) -> Result<Wire, ConnectError> {
        let mut in_tls = false;
        let connected = timeout(self.limit, self.connect_patiently(&mut in_tls)).await;
        connected.unwrap_or(Err(ConnectError::TimedOut { in_tls }))
    }

    async fn connect_patiently(&self, in_tls: &mut bool) -> Result<Wire, ConnectError> {
        let stream = self.dialer.dial().await?;
        let Some((connector, name)) = &self.tls else { return Ok(Wire::Plain(stream)) };
        *in_tls = true;
        let stream = connector.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?;
        if self.version == HttpVersion::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NoHttp2);
        }
        Ok(Wire::Tls(Box::new(stream)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The URI is the client's own and not looked at.
    fn call(&mut self, _: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect().await.map(TokioIo::new) })
    }
}

/// An open connection.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            Self::Tls(_) | Self::Plain(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
