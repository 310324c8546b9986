//! Who is calling. Everything that is kept for a caller is keyed by its [`PrincipalKey`].

/// Identity under which sessions, processes, pools and catalogs are kept apart.
///
/// Never holds a raw token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalKey {
    /// stdio, or a listener without caller authentication.
    Local,
}

impl PrincipalKey {
    /// Bytes that no other principal has, for digests.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Local => b"local",
        }
    }
}

/// An identified caller; only [`identify`] makes one, so no request can go on without it.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: PrincipalKey,
}

impl Caller {
    pub fn principal(&self) -> &PrincipalKey {
        &self.principal
    }
}

/// Identifies the caller of one request.
///
/// No authentication method is configurable yet, so every caller is [`PrincipalKey::Local`]; a listener that others can
/// reach is refused at load unless the operator wrote `allow_anonymous = true`.
pub fn identify() -> Caller {
    Caller { principal: PrincipalKey::Local }
}
