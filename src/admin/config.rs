//! `[admin]`: where operators and Prometheus ask, and what they must show.

use std::net::SocketAddr;

use crate::{secret::Secret, tls::ServerTlsSettings};

/// The operator's listener, checked. There is none without an `[admin]` table, or with an empty `listen_address`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    pub listen_address: SocketAddr,
    /// Sent as `Authorization: Bearer …`. Present whenever the address is not loopback.
    pub token: Option<Secret>,
    pub metrics: MetricsAccess,
    /// Absent: plain HTTP.
    pub tls: Option<ServerTlsSettings>,
}

impl AdminConfig {
    /// Whether others than this machine can reach it.
    pub fn is_exposed(&self) -> bool {
        !self.listen_address.ip().to_canonical().is_loopback()
    }
}

/// What `/metrics` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MetricsAccess {
    /// The token, where there is one.
    #[default]
    Token,
    /// Nothing.
    Open,
}
