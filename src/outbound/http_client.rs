//! The HTTP client of one URL under one TLS policy.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header::HOST, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use url::{Position, Url};

use super::{
    connect::{Connector, HttpVersion},
    dial::{Dialer, Proxy},
    failure::{Circumstances, SendError},
};
use crate::{
    reason::{Explanation, Reason},
    tls::TlsPolicy,
};

/// How long an idle connection is kept; below the 75 s of nginx, so that we close first.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Most idle connections kept to one upstream.
const POOL_SIZE: usize = 1024;

/// A silent HTTP/2 connection is asked for a sign of life after this, and given up after [`HTTP2_PATIENCE`] more.
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that one HTTP/2 answer, and all of them together, may have under way.
const HTTP2_STREAM_WINDOW: u32 = 1 << 20;
const HTTP2_WINDOW: u32 = 8 << 20;
/// Largest header section of an HTTP/2 answer.
const HTTP2_HEADERS: u32 = 64 << 10;

/// The way to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub version: HttpVersion,
    pub proxy: Option<Proxy>,
}

impl Way {
    /// What is not the default, in words: `HTTP/2, through the proxy proxy.test:3128`.
    pub fn words(&self) -> Option<String> {
        let version = match self.version {
            HttpVersion::Http1 => None,
            HttpVersion::Http2 => Some("HTTP/2".to_owned()),
            HttpVersion::Auto => Some("HTTP/2 or 1.1".to_owned()),
        };
        let proxy = self.proxy.as_ref().map(|proxy| format!("through the proxy {proxy}"));
        let words: Vec<_> = version.into_iter().chain(proxy).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// An HTTP client for one URL: its own pool, TLS configuration and session store, shared with nobody.
///
/// No redirects, no proxy but the one that was given (never one of the environment), no cookies. Only a request that did not
/// begin to be sent, because its pooled connection was closed meanwhile, is sent once more by itself.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    client: Client<Connector, Full<Bytes>>,
    uri: Uri,
    /// The authority of the URL, for HTTP/1.1; HTTP/2 takes it from the URI.
    host: Option<HeaderValue>,
    circumstances: Circumstances,
}

impl HttpClient {
    /// Builds the client for a direct connection in HTTP/1.1. `tls` is present exactly for an `https` URL.
    ///
    /// `connect_timeout` covers name look-up, TCP and the TLS handshake together.
    ///
    /// # Errors
    /// `local_invalid` when URL and policy do not go together, or the policy cannot be used.
    pub fn new(url: &Url, tls: Option<&TlsPolicy>, connect_timeout: Duration) -> Result<Self, Explanation> {
        Self::by(Way::default(), url, tls, connect_timeout)
    }

    /// As [`Self::new`], by another way.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn by(way: Way, url: &Url, tls: Option<&TlsPolicy>, connect_timeout: Duration) -> Result<Self, Explanation> {
        if (url.scheme() == "https") != tls.is_some() || !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("url", "an https URL needs a TLS policy, and an http URL has none"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("url", "it holds a user name or password, which is never sent"));
        }
        let dialer = Dialer::to(url, way.proxy)?;
        let uri: Uri = url[..Position::AfterQuery].parse().map_err(|_| invalid("url", "it cannot be requested"))?;
        let host = HeaderValue::from_str(&authority(url)).map_err(|_| invalid("url", "its host is not valid"))?;
        let (tls, observed) = match tls {
            Some(policy) => {
                let (mut config, observed) = policy.client_config()?;
                config.alpn_protocols = way.version.alpn();
                (Some((config, policy.name().clone())), Some((policy.clone(), observed)))
            }
            None => (None, None),
        };
        let connector = Connector::new(dialer.clone(), tls, way.version, connect_timeout);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http2_only(way.version == HttpVersion::Http2)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_WINDOW)
            .http2_max_header_list_size(HTTP2_HEADERS)
            .http2_keep_alive_interval(HTTP2_PING)
            .http2_keep_alive_timeout(HTTP2_PATIENCE)
            .build(connector);
        let circumstances = Circumstances { dialer, connect_timeout, tls: observed, answered: AtomicBool::new(false) };
        let host = (way.version == HttpVersion::Http1).then_some(host);
        Ok(Self(Arc::new(Inner { client, uri, host, circumstances })))
    }

    /// Sends a request to the client's URL; the request's own URI is not looked at.
    ///
    /// Its headers go out as they are, but `Host` is always the URL's.
    /// Redirects come back as what they are. Cancel-safe: dropping it closes the connection, and the server may have run
    /// the request.
    ///
    /// # Errors
    /// [`SendError`], which says whether the request can have reached the server. Explaining may take a second more.
    pub fn send(&self, request: http::Request<Bytes>) -> impl Future<Output = Result<http::Response<UpstreamBody>, SendError>> + Send {
        self.send_to(None, request)
    }

    /// As [`Self::send`], to another path of the same origin.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_to(
        &self,
        path: Option<&PathAndQuery>,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = Result<http::Response<UpstreamBody>, SendError>> + Send + use<'_> {
        let inner = &self.0;
        let mut uri = inner.uri.clone();
        if let Some(path) = path {
            let mut parts = uri.into_parts();
            parts.path_and_query = Some(path.clone());
            uri = Uri::from_parts(parts).expect("a URI with another path is one");
        }
        let mut request = request.map(Full::new);
        *request.uri_mut() = uri;
        match &inner.host {
            Some(host) => request.headers_mut().insert(HOST, host.clone()),
            None => request.headers_mut().remove(HOST),
        };
        // Given away here, the request takes no room in this future and in those around it.
        let sent = inner.client.request(request);
        async move {
            match sent.await {
                Ok(response) => {
                    if !inner.circumstances.answered.load(Ordering::Relaxed) {
                        inner.circumstances.answered.store(true, Ordering::Relaxed);
                    }
                    Ok(response.map(|body| UpstreamBody { body, client: Arc::clone(inner) }))
                }
                Err(error) => Err(Box::pin(inner.circumstances.explain(&error)).await),
            }
        }
    }

    /// The policy of its connections; `None` for plain HTTP.
    pub fn policy(&self) -> Option<&TlsPolicy> {
        self.0.circumstances.tls.as_ref().map(|(policy, _)| policy)
    }

    /// What to say when an HTTP answer refuses for want of a client certificate, as nginx does with status 400; `None` if
    /// the server has never asked for one.
    pub fn client_certificate_wanted(&self) -> Option<Explanation> {
        self.0.circumstances.client_certificate_wanted()
    }
}

/// Shows no header and no query.
impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("host", &self.0.uri.authority()).finish_non_exhaustive()
    }
}

/// The body of an answer, as it comes.
pub struct UpstreamBody {
    body: Incoming,
    client: Arc<Inner>,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_err(|e| this.client.circumstances.explain_body(&e))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").finish_non_exhaustive()
    }
}

/// `host`, or `host:port` where the port is not the scheme's own (RFC 9110 §7.2).
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn invalid(key: &str, what: &str) -> Explanation {
    Explanation::new(Reason::LocalInvalid, format!("{key}: {what}"), format!("correct {key}"))
}
