//! TCP to one upstream: straight, or through the forward proxy that its configuration names.

use std::{fmt, io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header::HOST, header::PROXY_AUTHORIZATION};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use super::resolve::{OneHost, Target};
use crate::{
    reason::{Explanation, Reason},
    secret::Secret,
};

/// A forward proxy that is asked for a tunnel (CONNECT, RFC 9110 §9.3.6). The way to the proxy itself is plain TCP: what goes
/// through the tunnel is the upstream's own TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    target: Target,
    port: u16,
    /// `Basic …`, from the URL's user information.
    authorization: Option<Secret>,
}

impl Proxy {
    /// From `http://[USER:PASSWORD@]HOST[:PORT]`; the port is 80 where none is given, as for any such URL.
    ///
    /// # Errors
    /// In words, what the URL may not be.
    pub fn from_url(url: &Url) -> Result<Self, &'static str> {
        if url.scheme() != "http" {
            return Err("only proxies reached over http:// are supported; the tunnel through it carries the upstream's own TLS");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("a proxy is a host and a port, without a path");
        }
        let (Some(target), Some(port)) = (Target::of(url), url.port_or_known_default()) else {
            return Err("it has no host");
        };
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            let mut pair = decode(url.username());
            pair.push(b':');
            pair.extend(decode(url.password().unwrap_or_default()));
            Secret::new(format!("Basic {}", STANDARD.encode(pair)))
        });
        Ok(Self { target, port, authorization })
    }
}

/// `host:port`, never the password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target.with_port(self.port))
    }
}

/// Opens TCP connections to one host and port.
#[derive(Clone, Debug)]
pub(crate) struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Target,
    port: u16,
    proxy: Option<Proxy>,
    connector: HttpConnector<OneHost>,
}

/// Why there is no TCP connection to the upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Tcp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The proxy cannot be reached, or refuses; in words.
    #[error("{0}")]
    Proxy(String),
}

impl Dialer {
    pub(crate) fn new(target: Target, port: u16, proxy: Option<Proxy>) -> Self {
        let dialled = proxy.as_ref().map_or(&target, |proxy| &proxy.target);
        let mut connector = HttpConnector::new_with_resolver(OneHost(dialled.clone()));
        connector.set_nodelay(true);
        Self(Arc::new(Inner { target, port, proxy, connector }))
    }

    /// The dialer for a URL's host and port.
    ///
    /// # Errors
    /// `local_invalid` when the URL has no host.
    pub(crate) fn to(url: &Url, proxy: Option<Proxy>) -> Result<Self, Explanation> {
        let (Some(target), Some(port)) = (Target::of(url), url.port_or_known_default()) else {
            return Err(Explanation::new(Reason::LocalInvalid, "url: it has no host", "correct url"));
        };
        Ok(Self::new(target, port, proxy))
    }

    /// Connects: name look-up, TCP (both address families), and the proxy's tunnel. No time limit of its own.
    ///
    /// # Errors
    /// [`DialError`]
    pub(crate) async fn dial(&self) -> Result<TcpStream, DialError> {
        let Inner { port, proxy, connector, .. } = &*self.0;
        let port = proxy.as_ref().map_or(*port, |proxy| proxy.port);
        // The name in it is not looked at: the resolver knows the only host.
        let uri = Uri::builder().scheme("http").authority(format!("upstream.invalid:{port}")).path_and_query("/").build();
        let uri = uri.map_err(|error| DialError::Tcp(error.into()))?;
        let mut connector = connector.clone();
        let connected = connector.call(uri).await;
        match proxy {
            None => connected.map(TokioIo::into_inner).map_err(|error| DialError::Tcp(error.into())),
            Some(proxy) => {
                let stream = connected.map_err(|error| {
                    let cause = root_cause(&error);
                    DialError::Proxy(format!("the proxy {proxy} cannot be reached: {cause}"))
                })?;
                self.tunnel(stream, proxy).await.map_err(DialError::Proxy)
            }
        }
    }

    /// The host and port of the upstream, for messages.
    pub(crate) fn place(&self) -> String {
        self.0.target.with_port(self.0.port)
    }

    async fn tunnel(&self, stream: TokioIo<TcpStream>, proxy: &Proxy) -> Result<TcpStream, String> {
        let place = &self.place();
        let odd = move |what: &dyn fmt::Display| format!("the proxy {proxy} gave no tunnel to {place}: {what}");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::builder().authority(place.as_str()).build().map_err(|error| odd(&error))?;
        let host = HeaderValue::from_str(place).map_err(|error| odd(&error))?;
        request.headers_mut().insert(HOST, host);
        if let Some(authorization) = &proxy.authorization {
            let mut value = HeaderValue::from_str(authorization.expose()).map_err(|error| odd(&error))?;
            value.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| odd(&error))?;
        let exchange = async move {
            let response = sender.send_request(request).await.map_err(|error| odd(&error))?;
            match response.status() {
                status if status.is_success() => hyper::upgrade::on(response).await.map_err(|error| odd(&error)),
                StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    Err(format!("the proxy {proxy} wants a user name and password, or refuses those in `proxy`"))
                }
                status => Err(format!("the proxy {proxy} refused a tunnel to {place} with status {}", status.as_u16())),
            }
        };
        // The connection ends when it hands its socket over.
        let (upgraded, _) = tokio::join!(exchange, connection.with_upgrades());
        let parts = upgraded?.downcast::<TokioIo<TcpStream>>().map_err(|_| odd(&"its connection is of another kind"))?;
        if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(odd(&"it sent bytes of its own")) }
    }
}

/// The last error of a chain; for TCP, what the system said.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    for _ in 0..16 {
        let Some(next) = cause.source() else { break };
        cause = next;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(io) => crate::tls::shown(&io.to_string()),
        None => crate::tls::shown(&cause.to_string()),
    }
}
