//! What clients meet: the listener and its checks, streamable HTTP, stdio, and every error in a client's words.

mod batch;
mod callers;
mod client_ip;
mod config;
mod cors;
mod csrf;
pub(crate) mod door;
mod legacy_sse;
pub(crate) mod listener;
mod outlet;
mod page;
mod passage;
mod peer;
mod pieces;
pub mod read;
mod rescue;
mod responses;
mod resumable;
mod routes;
mod server;
mod stdio;
mod streamable_http;
mod tenure;
mod turned_away;

pub use client_ip::{ClientIp, client_address};
pub use config::{HealthConfig, Insecure, LiveServer, ServerConfig};
pub use cors::Cors;
pub use csrf::Csrf;
pub use legacy_sse::messages_path;
pub use listener::{ListenerTls, Prepared, Renewal, RenewalParts, Stop, Swapped};
pub use server::{BindError, Bound, Server};
pub use stdio::{refuse as serve_stdio_refusal, serve as serve_stdio};
