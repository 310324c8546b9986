//! `[server]`: where clients connect, and who may.

use std::{net::SocketAddr, time::Duration};

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
    pub health: HealthConfig,
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
