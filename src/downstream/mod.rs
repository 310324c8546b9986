//! What clients meet: the listener and its checks, streamable HTTP, stdio, and every error in a client's words.

mod config;
pub(crate) mod door;
pub(crate) mod listener;
mod pieces;
pub mod read;
mod rescue;
mod server;
mod stdio;
mod streamable_http;

pub use config::{HealthConfig, Insecure, LiveServer, ServerConfig};
pub use listener::{ListenerTls, Prepared, Renewal, RenewalParts, Stop, Swapped};
pub use server::{BindError, Bound, Server};
pub use stdio::{refuse as serve_stdio_refusal, serve as serve_stdio};
