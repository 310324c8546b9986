//! `[server]`: where clients connect, and who may.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{ClientIp, Cors, Csrf};
use crate::{auth::AuthConfig, limits::LimitsConfig, tls::ServerTlsSettings};

/// The listener for MCP clients, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen_address: SocketAddr,
    pub public_url: Option<url::Url>,
    /// Extra host names, lower case, without a port; `*.` covers one label and more.
    pub allowed_hosts: Vec<String>,
    /// Extra browser origins, such as `https://app.example.com`.
    pub allowed_origins: Vec<String>,
    /// Largest request body in bytes.
    pub max_body_size: usize,
    pub max_connections: usize,
    /// Longest time a request may stay open without a byte flowing.
    pub request_timeout: Duration,
    /// Drain time after SIGTERM.
    pub shutdown_grace: Duration,
    pub insecure: Insecure,
    pub allow_anonymous: bool,
    /// Absent: plain HTTP.
    pub tls: Option<ServerTlsSettings>,
    pub health: HealthConfig,
    pub client_ip: ClientIp,
    /// Handed on to the gateway, which keeps the tokens.
    pub rate_limits: LimitsConfig,
    /// Absent: pages of other origins read nothing.
    pub cors: Option<Cors>,
    /// Absent: browsers need no header.
    pub csrf: Option<Csrf>,
    /// By what callers are told apart.
    pub auth: AuthConfig,
}

impl ServerConfig {
    /// What clients call the listener, where the file says so.
    pub fn public_host(&self) -> Option<&str> {
        self.public_url.as_ref().and_then(|url| url.host_str())
    }

    /// Whether another configuration identifies everybody in the same way.
    fn lets_in_the_same_as(&self, other: &Self) -> bool {
        let clients = |config: &Self| config.tls.as_ref().and_then(|tls| tls.clients.clone());
        self.auth == other.auth && self.client_ip == other.client_ip && clients(self) == clients(other)
    }

    /// Others than this machine reach the listener.
    pub fn is_exposed(&self) -> bool {
        !self.listen_address.ip().to_canonical().is_loopback()
    }
}

/// `[server]` of this moment. What a listener is not made with, such as who may call it, takes effect with the next request.
#[derive(Clone, Debug)]
pub struct LiveServer(Arc<Live>);

#[derive(Debug)]
struct Live {
    config: ArcSwap<ServerConfig>,
    /// Cancelled when another configuration says anew who may call.
    callers: ArcSwap<CancellationToken>,
}

impl From<ServerConfig> for LiveServer {
    fn from(config: ServerConfig) -> Self {
        Self(Arc::new(Live { config: ArcSwap::from_pointee(config), callers: ArcSwap::default() }))
    }
}

impl LiveServer {
    pub fn now(&self) -> Arc<ServerConfig> {
        self.0.config.load_full()
    }

    /// Cancelled when it is said anew who may call. Whoever identifies somebody takes it before.
    pub(super) fn callers_change(&self) -> Arc<CancellationToken> {
        self.0.callers.load_full()
    }

    /// Whether this is still the configuration of the moment.
    pub(super) fn is_now(&self, config: &Arc<ServerConfig>) -> bool {
        Arc::ptr_eq(&self.0.config.load(), config)
    }

    /// Whether a request that changes something comes with what browsers are asked for.
    pub(super) fn is_intended(&self, headers: &http::HeaderMap) -> bool {
        self.0.config.load().csrf.as_ref().is_none_or(|csrf| csrf.allows(headers))
    }

    pub fn set(&self, config: ServerConfig) {
        let config = Arc::new(config);
        let before = self.0.config.swap(Arc::clone(&config));
        if !before.lets_in_the_same_as(&config) {
            self.0.callers.swap(Arc::default()).cancel();
        }
    }
}

/// What becomes of a setting that weakens security.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Insecure {
    #[default]
    Warn,
    /// Every such warning refuses the file.
    Forbid,
}

/// `[server.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    pub enabled: bool,
    pub path: String,
    /// A listener of its own, so that the health path is not on the MCP port.
    pub listen: Option<SocketAddr>,
}
