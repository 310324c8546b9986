//! Who is calling. Everything that is kept for a caller is keyed by its [`PrincipalKey`].

mod caller;
mod principal;

pub use caller::Caller;
pub use principal::PrincipalKey;
