//! TLS policy of one upstream: trust, names, identity, verification, and the explanation of failures.

pub mod read;
mod settings;

pub use settings::{ClientIdentityFiles, KeyPermissions, MinVersion, TlsSettings};
