//! The one file where rustls meets reqwest: an HTTP client for one URL under one TLS policy.

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
use http::{HeaderValue, header::HOST};
use http_body::{Body, Frame, SizeHint};
use rustls::pki_types::ServerName;
use url::Url;

use super::{
    failure::{Circumstances, SendError},
    resolve::{OneHost, Target},
};
use crate::{
    reason::{Explanation, Reason},
    tls::TlsPolicy,
};

/// How long an idle connection is kept; below the 75 s of nginx, so that we close first.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Most idle connections kept to one upstream.
const POOL_SIZE: usize = 1024;

/// An HTTP client for one URL: its own pool, TLS configuration and session store, shared with nobody.
///
/// No redirects, no proxies (neither configured ones nor those of the environment), no retries, no cookies.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    /// With the name of the handshake as its host, because SNI is taken from it.
    url: Url,
    /// The authority of the configured URL.
    host: HeaderValue,
    circumstances: Arc<Circumstances>,
}

impl HttpClient {
    /// Builds the client. `tls` is present exactly for an `https` URL.
    ///
    /// `connect_timeout` covers name look-up, TCP and the TLS handshake together.
    ///
    /// # Errors
    /// `local_invalid` when URL and policy do not go together, or the policy cannot be used.
    pub fn new(url: &Url, tls: Option<&TlsPolicy>, connect_timeout: Duration) -> Result<Self, Explanation> {
        if (url.scheme() == "https") != tls.is_some() || !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("url", "an https URL needs a TLS policy, and an http URL has none"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("url", "it holds a user name or password, which is never sent"));
        }
        let (Some(target), Some(port)) = (Target::of(url), url.port_or_known_default()) else {
            return Err(invalid("url", "it has no host"));
        };
        let host = HeaderValue::from_str(&authority(url)).map_err(|_| invalid("url", "its host is not valid"))?;

        let (config, observed) = match tls {
            Some(policy) => {
                let (config, observed) = policy.client_config()?;
                (config, Some((policy.clone(), observed)))
            }
            None => (TlsPolicy::trusting_nobody()?, None),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(tls.is_some())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .dns_resolver(OneHost(target.clone()))
            .build()
            .map_err(|e| invalid("tls", &format!("the HTTP client cannot be built: {}", e.without_url())))?;
        let circumstances = Circumstances { target, port, connect_timeout, tls: observed, answered: AtomicBool::new(false) };
        Ok(Self { client, url: dialled(url, tls)?, host, circumstances: Arc::new(circumstances) })
    }

    /// Sends a request to the client's URL; the request's own URI is not looked at.
    ///
    /// Its headers go out as they are, but `Host` is always the URL's, and `Accept: */*` is added where there is none.
    /// Redirects come back as what they are. Cancel-safe: dropping it closes the connection, and the server may have run
    /// the request.
    ///
    /// # Errors
    /// [`SendError`], which says whether the request can have reached the server. Explaining may take a second more.
    pub async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<UpstreamBody>, SendError> {
        let (parts, body) = request.into_parts();
        let mut request = reqwest::Request::new(parts.method, self.url.clone());
        *request.headers_mut() = parts.headers;
        request.headers_mut().insert(HOST, self.host.clone());
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        match self.client.execute(request).await {
            Ok(response) => {
                self.circumstances.answered.store(true, Ordering::Relaxed);
                let response = http::Response::from(response);
                Ok(response.map(|body| UpstreamBody { body, circumstances: Arc::clone(&self.circumstances) }))
            }
            Err(error) => Err(self.circumstances.explain(&error).await),
        }
    }

    /// What to say when an HTTP answer refuses for want of a client certificate, as nginx does with status 400; `None` if
    /// the server has never asked for one.
    pub fn client_certificate_wanted(&self) -> Option<Explanation> {
        self.circumstances.client_certificate_wanted()
    }
}

/// Shows no header and no query.
impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The body of an answer, as it comes.
pub struct UpstreamBody {
    body: reqwest::Body,
    circumstances: Arc<Circumstances>,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_err(|e| this.circumstances.explain_body(&e))
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

/// The URL with the name of the handshake as its host. The resolver leads it to the configured host all the same.
///
/// An IP address as name needs none of this: it is never sent as SNI, and the verifier has its name from the policy.
fn dialled(url: &Url, tls: Option<&TlsPolicy>) -> Result<Url, Explanation> {
    let mut dialled = url.clone();
    dialled.set_fragment(None);
    if let Some(policy) = tls
        && policy.name_is_overridden()
        && let ServerName::DnsName(name) = policy.name()
    {
        dialled.set_host(Some(name.as_ref())).map_err(|_| invalid("server_name", "it cannot stand in a URL"))?;
    }
    Ok(dialled)
}

/// `host`, or `host:port` where the port is not the scheme's own (RFC 9110 §7.2).
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn invalid(key: &str, what: &str) -> Explanation {
    Explanation::new(Reason::LocalInvalid, format!("{key}: {what}"), format!("correct {key}"))
}
