//! Somebody who may ask something of the gateway.

use std::sync::Arc;

use super::PrincipalKey;
use crate::secret::Secret;

/// An identified caller. Cheap to clone; made only by `auth`, so no request can go on without one.
#[derive(Clone, Debug)]
pub struct Caller {
    who: Arc<Identity>,
}

/// What is known of a caller.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) principal: PrincipalKey,
    /// The name by which limits and the audit trail know it. `None`: nobody in particular.
    pub(super) client: Option<Box<str>>,
    /// The groups it is in, as the configuration names them.
    pub(super) groups: Box<[Box<str>]>,
    /// The bearer token it brought, for upstreams that are configured to get it.
    pub(super) bearer: Option<Secret>,
}

impl Caller {
    pub(super) fn new(identity: Identity) -> Self {
        Self { who: Arc::new(identity) }
    }

    /// The user of this process: stdio, the command line, or a listener without caller authentication.
    pub fn local() -> Self {
        Self::new(Identity { principal: PrincipalKey::Local, client: None, groups: Box::default(), bearer: None })
    }

    /// Somebody of whom nothing is known but the bearer token, which nobody validates here.
    pub fn bearing(token: Secret) -> Self {
        let principal = PrincipalKey::of_token(token.expose());
        Self::new(Identity { principal, client: None, groups: Box::default(), bearer: Some(token) })
    }

    pub fn principal(&self) -> &PrincipalKey {
        &self.who.principal
    }

    /// The name by which limits and the audit trail know it.
    pub fn client(&self) -> Option<&str> {
        self.who.client.as_deref()
    }

    /// The groups it is in; a caller whom nobody put into a group is in none.
    pub fn groups(&self) -> &[Box<str>] {
        &self.who.groups
    }

    /// The bearer token it brought.
    pub fn bearer(&self) -> Option<&Secret> {
        self.who.bearer.as_ref()
    }
}
