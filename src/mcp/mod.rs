//! The MCP wire layer: bytes and values, no HTTP, no TLS, no async runtime.
//!
//! ```text
//! bytes ─▶ lines | sse ─▶ Message::parse ─▶ Field spans ─▶ Splices ─▶ bytes
//!                          ResponseScanner: chunk in, the same chunk out, one id replaced
//! ```
//!
//! Nothing here builds a tree of a message. A reader finds where the few values lie that a gateway decides on; a writer
//! replaces exactly those bytes. Every input is taken as hostile: bounded depth, no recursion, linear time.

pub mod errors;
pub mod field;
pub mod id;
pub mod json;
pub mod lines;
pub mod message;
pub mod splice;
pub mod sse;
#[cfg(test)]
mod testing;

pub use field::Field;
pub use id::Id;
pub use json::Span;
pub use message::{Kind, Message, ParseError, ParseErrorKind};
pub use splice::Splices;
