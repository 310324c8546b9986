//! How bytes reach an upstream: one folder or file per transport.

pub(crate) mod again;
pub(crate) mod channel;
mod error_pages;
pub(crate) mod events;
pub(crate) mod legacy_sse;
pub(crate) mod process;
pub mod stdio;
pub(crate) mod streamable_http;
