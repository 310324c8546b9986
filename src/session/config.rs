//! `[state]`, checked.

use std::path::PathBuf;

use crate::{redis::RedisConfig, secret::Secret};

/// `[state]`.
#[derive(Clone, Debug, Default)]
pub struct StateConfig {
    /// Where legacy clients' sessions live.
    pub store: StoreConfig,
    /// Where what must survive a restart is kept; nothing is without it.
    pub directory: Option<PathBuf>,
    /// What seals the state that clients hold, and what is kept in Redis: the first seals, all open. Empty: random at start.
    pub secrets: Vec<Secret>,
}

/// Where legacy clients' sessions live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreConfig {
    /// In the process.
    #[default]
    Memory,
    /// In a Redis, so that any replica serves any session.
    Redis(Box<RedisConfig>),
}
