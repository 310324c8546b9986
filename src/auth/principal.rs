//! Under what everything that is kept for a caller is kept apart.

use aws_lc_rs::digest::{Context, SHA256};

/// Identity under which sessions, processes, pools, tasks, catalogs and limits are kept apart.
///
/// Never holds a raw token or a name: the two kinds that stand for somebody are SHA-256 digests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKey {
    /// stdio, or a listener without caller authentication.
    Local,
    /// Somebody who proved who they are: see [`PrincipalKey::of`].
    Identified([u8; 32]),
    /// Somebody who brought a bearer token that the gateway does not validate: see [`PrincipalKey::of_token`].
    Token([u8; 32]),
}

impl PrincipalKey {
    /// The one that `issuer` calls `subject`, proven by `method`. Two of them are the same principal only when all three are.
    pub fn of(method: &str, issuer: impl AsRef<[u8]>, subject: impl AsRef<[u8]>) -> Self {
        let mut digest = Context::new(&SHA256);
        for part in [method.as_bytes(), issuer.as_ref(), subject.as_ref()] {
            // With its length, so that no part can begin where another ends.
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self::Identified(bytes(digest))
    }

    /// The bearer of a token that is not validated here. A refreshed token is another principal.
    pub fn of_token(token: &str) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(token.as_bytes());
        Self::Token(bytes(digest))
    }

    /// Bytes that no other principal has, for digests.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Local => b"local",
            // Digests over different input: one cannot be made to equal the other.
            Self::Identified(digest) | Self::Token(digest) => digest,
        }
    }
}

fn bytes(digest: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_its_method_its_issuer_and_its_subject() {
        let one = PrincipalKey::of("jwt", "https://idp.test", "ada");
        assert_eq!(one, PrincipalKey::of("jwt", "https://idp.test", "ada"));
        for other in [
            PrincipalKey::of("mtls", "https://idp.test", "ada"),
            PrincipalKey::of("jwt", "https://idp.testa", "da"),
            PrincipalKey::of("jwt", "https://idp.test", "bob"),
            PrincipalKey::of_token("ada"),
            PrincipalKey::Local,
        ] {
            assert_ne!(one, other);
            assert_ne!(one.as_bytes(), other.as_bytes());
        }
    }
}
