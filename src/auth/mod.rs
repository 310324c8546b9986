//! Who is calling. Everything that is kept for a caller is keyed by its [`PrincipalKey`].

mod access;
mod caller;
mod principal;

pub use access::{
    ACCESS_KEYS, Access, AccessRules, Audience, Decision, MOST_GROUPS, Rule, Verdict, Wanted, check_groups, read as read_access,
};
pub use caller::Caller;
pub use principal::PrincipalKey;
