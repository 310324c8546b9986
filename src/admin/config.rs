//! `[admin]`: where operators and Prometheus ask, and what they must show.

use std::net::SocketAddr;

use crate::secret::Secret;

/// The operator's listener, checked. There is none without an `[admin]` table, or with an empty `listen_address`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    pub listen_address: SocketAddr,
    /// Sent as `Authorization: Bearer …`. Present whenever the address is not loopback.
    pub token: Option<Secret>,
    pub metrics: MetricsAccess,
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
