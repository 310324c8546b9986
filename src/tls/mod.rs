//! TLS policy of one upstream: trust, names, identity, verification, and the explanation of failures.

mod settings;

pub use settings::{ClientIdentityFiles, KeyPermissions, MinVersion, TlsSettings};
