//! What replicas share: one client for Redis and Valkey, over the TLS policy of its own table.
//!
//! ```text
//! Table ─ read ─▶ RedisConfig ─ Redis::start ─▶ keeper (files, connections, explanations) ─▶ Redis: get, set, push, run a script
//! ```
//!
//! Nothing here waits for a server longer than its table says: without a connection every command fails at once, and a
//! server that stays silent is left alone for a moment.

mod client;
mod config;
mod error;
mod explain;
mod keeper;
mod patience;
pub mod read;
mod script;
mod url;

pub use client::{Redis, Surroundings};
pub use config::RedisConfig;
pub use error::RedisError;
pub use script::{Reply, Script};
pub use url::RedisUrl;
