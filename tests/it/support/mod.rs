//! The small language of the tests.

pub(crate) mod pki;
pub(crate) mod tls_peer;
