//! What clients meet: listener, HTTP, sessions.

mod config;

pub use config::{HealthConfig, Insecure, ServerConfig};
