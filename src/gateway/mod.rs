//! Builds the gateway and carries a request through it.

mod config;
pub mod read;

pub use config::{Bounds, McpConfig, WhenDown};
