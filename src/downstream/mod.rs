//! What clients meet: listener, HTTP, sessions.

mod config;
pub mod read;

pub use config::{HealthConfig, Insecure, ServerConfig};
