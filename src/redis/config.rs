//! A Redis, checked.

use std::time::Duration;

use super::RedisUrl;
use crate::tls::TlsSettings;

/// How a Redis or Valkey is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    pub url: RedisUrl,
    /// What every key begins with, so that several gateways can share one server.
    pub key_prefix: String,
    /// From a command to its answer.
    pub response_timeout: Duration,
    /// Look-up, TCP, TLS and greeting together.
    pub connection_timeout: Duration,
    /// Open all the time, and shared by all commands.
    pub connections: usize,
    /// Present with a URL that asks for TLS.
    pub tls: Option<TlsSettings>,
}
