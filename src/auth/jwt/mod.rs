//! JWT bearer tokens (RFC 7519, RFC 9068, and what RFC 8725 warns of).

mod claims;
mod key_set;
mod keys;
mod recent;
mod tokens;
mod verified;

pub(super) use keys::Keys;
pub use recent::Recent;
pub(super) use recent::Under;
pub(super) use tokens::Tokens;
