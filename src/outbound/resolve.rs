//! Where an upstream's connections go: always to its URL's host, whatever name the handshake uses.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;
use url::{Host, Url};

/// The host of one upstream's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Name(String),
    Address(IpAddr),
}

impl Target {
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(match url.host()? {
            Host::Domain(name) => Self::Name(name.to_owned()),
            Host::Ipv4(ip) => Self::Address(ip.into()),
            Host::Ipv6(ip) => Self::Address(ip.into()),
        })
    }

    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn with_port(&self, port: u16) -> String {
        match self {
            Self::Name(name) => format!("{name}:{port}"),
            Self::Address(ip) => SocketAddr::new(*ip, port).to_string(),
        }
    }

    /// # Errors
    /// [`DnsFailure`] when the name has no address.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, DnsFailure> {
        match self {
            Self::Address(ip) => Ok(vec![SocketAddr::new(*ip, 0)]),
            Self::Name(name) => match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => {
                    let found: Vec<_> = found.collect();
                    if found.is_empty() { Err(DnsFailure { host: name.clone(), cause: None }) } else { Ok(found) }
                }
                Err(cause) => Err(DnsFailure { host: name.clone(), cause: Some(cause) }),
            },
        }
    }
}

/// Answers every look-up with the addresses of one host.
#[derive(Clone, Debug)]
pub(super) struct OneHost(pub(super) Target);

impl Service<Name> for OneHost {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = DnsFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DnsFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DnsFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        let target = self.0.clone();
        Box::pin(async move { Ok(target.addresses().await?.into_iter()) })
    }
}

/// A host name without an address.
#[derive(Debug)]
pub(super) struct DnsFailure {
    pub(super) host: String,
    cause: Option<io::Error>,
}

impl fmt::Display for DnsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "the host name {} does not resolve: {cause}", self.host),
            None => write!(f, "the host name {} has no address", self.host),
        }
    }
}

impl std::error::Error for DnsFailure {}
