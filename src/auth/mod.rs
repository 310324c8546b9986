//! Who is calling. Everything that is kept for a caller is keyed by its [`PrincipalKey`].
//!
//! ```text
//! headers, certificate ─▶ Authenticator ─▶ Caller
//!                            ├─ api_key.rs
//!                            ├─ jwt/         signature and claims; keys of the identity provider; verified tokens
//!                            └─ identity.rs  client and groups
//! Caller, what it wants ─▶ Access ─▶ Verdict
//! ```

mod access;
mod api_key;
mod authenticator;
mod caller;
mod challenge;
mod config;
mod credentials;
mod denied;
mod identity;
mod jwt;
mod network;
mod principal;
pub mod read;
mod term;
mod toll;

pub use access::{
    ACCESS_KEYS, Access, AccessRules, Audience, Decision, MOST_GROUPS, Rule, Verdict, Wanted, check_groups, read as read_access,
};
pub use authenticator::{Authenticator, Presented, Surroundings};
pub use caller::Caller;
pub use challenge::Challenge;
pub use config::{ApiKey, AuthConfig, CertificatePart, ClaimPath, IdentificationConfig, IdentitySource, OauthConfig, ProtectedResource};
pub use credentials::API_KEY_HEADER;
pub use denied::Denied;
pub use jwt::Recent;
pub use network::Network;
pub use principal::PrincipalKey;
pub use term::Term;
pub use toll::Toll;
