//! One upstream: its configuration, life cycle and transports.

mod config;
pub mod read;
pub mod transport;

pub use config::{CredentialConfig, EndpointConfig, HttpConfig, Isolation, StderrConfig, StdioConfig, UpstreamConfig};
