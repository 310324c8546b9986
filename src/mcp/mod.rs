//! The MCP wire layer: bytes and values, no HTTP, no TLS, no async runtime.
//!
//! ```text
//! bytes ─▶ lines | sse ─▶ Message::parse ─▶ Field spans ─▶ Splices ─▶ bytes
//!                          ResponseScanner: chunk in, the same chunk out, one id replaced
//! ```
//!
//! Nothing here builds a tree of a message. A reader finds where the few values lie that a gateway decides on; a writer
//! replaces exactly those bytes. Every input is taken as hostile: bounded depth, no recursion, linear time.

pub mod batch;
pub mod build;
pub mod digest;
pub mod era;
pub mod errors;
pub mod field;
pub mod glance;
pub mod handshake;
pub mod headers;
pub mod id;
pub mod json;
pub mod lines;
pub mod links;
pub mod list;
pub mod log_level;
pub mod message;
pub mod method;
pub mod offer;
pub mod param_headers;
pub mod response;
pub mod splice;
pub mod sse;
#[cfg(test)]
mod testing;

pub use era::{Era, Version};
pub use field::Field;
pub use id::Id;
pub use json::Span;
pub use log_level::LogLevel;
pub use message::{Kind, Message, ParseError, ParseErrorKind};
pub use method::Method;
pub use response::{ResponseScanner, ScanError};
pub use splice::Splices;
