//! Somebody who may ask something of the gateway.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::PrincipalKey;
use crate::secret::Secret;

/// An identified caller. Cheap to clone; made only by `auth`, so no request can go on without one.
#[derive(Clone, Debug)]
pub struct Caller {
    /// One pointer: it goes through every future on the way of a call.
    asks: Arc<Asks>,
}

#[derive(Debug)]
struct Asks {
    who: Arc<Identity>,
    /// Of the headers of this request, those that some upstream gets.
    said: Option<HeaderMap>,
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
        Self { asks: Arc::new(Asks { who: Arc::new(identity), said: None }) }
    }

    /// The user of this process: stdio, the command line, or a listener without caller authentication.
    pub fn local() -> Self {
        static LOCAL: OnceLock<Caller> = OnceLock::new();
        let local = || Self::new(Identity { principal: PrincipalKey::Local, client: None, groups: Box::default(), bearer: None });
        LOCAL.get_or_init(local).clone()
    }

    /// Somebody of whom nothing is known but the bearer token, which nobody validates here.
    pub fn bearing(token: Secret) -> Self {
        let principal = PrincipalKey::of_token(token.expose());
        Self::new(Identity { principal, client: None, groups: Box::default(), bearer: Some(token) })
    }

    /// The same with headers of its request that some upstream gets.
    #[must_use]
    pub fn saying(&self, headers: HeaderMap) -> Self {
        Self { asks: Arc::new(Asks { who: Arc::clone(&self.asks.who), said: Some(headers) }) }
    }

    /// What its request said in a header, if some upstream gets it.
    pub fn said(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.asks.said.as_ref()?.get(name)
    }

    /// The same, with the token that it brought for upstreams. Where `validated` is false nothing here vouches for the token, so
    /// that with another one it is another principal.
    pub(super) fn with_bearer(&self, token: &str, validated: bool) -> Self {
        let Identity { principal, client, groups, .. } = &*self.asks.who;
        let principal = match (principal, validated) {
            (known, true) => known.clone(),
            (PrincipalKey::Local, false) => PrincipalKey::of_token(token),
            (known, false) => PrincipalKey::of("with_token", known.as_bytes(), PrincipalKey::of_token(token).as_bytes()),
        };
        Self::new(Identity { principal, client: client.clone(), groups: groups.clone(), bearer: Some(Secret::new(token)) })
    }

    /// The same, as a trusted peer names it.
    pub(super) fn named(&self, client: Option<&str>, group: Option<&str>) -> Self {
        let Identity { principal, client: known, groups, bearer } = &*self.asks.who;
        let principal = match client {
            Some(client) => PrincipalKey::of("named", principal.as_bytes(), client),
            None => principal.clone(),
        };
        Self::new(Identity {
            principal,
            client: client.map(Box::from).or_else(|| known.clone()),
            groups: group.map_or_else(|| groups.clone(), |group| Box::new([Box::from(group)])),
            bearer: bearer.clone(),
        })
    }

    /// Somebody whom a test stands for. The product makes callers by identifying them.
    #[doc(hidden)]
    pub fn of_test(principal: PrincipalKey) -> Self {
        Self::new(Identity { principal, client: None, groups: Box::default(), bearer: None })
    }

    /// Somebody with this name and principal.
    #[cfg(test)]
    pub(crate) fn of_test_named(client: Option<&str>, principal: PrincipalKey) -> Self {
        Self::new(Identity { principal, client: client.map(Into::into), groups: Box::default(), bearer: None })
    }

    pub fn principal(&self) -> &PrincipalKey {
        &self.asks.who.principal
    }

    /// The name by which limits and the audit trail know it.
    pub fn client(&self) -> Option<&str> {
        self.asks.who.client.as_deref()
    }

    /// The groups it is in; a caller whom nobody put into a group is in none.
    pub fn groups(&self) -> &[Box<str>] {
        &self.asks.who.groups
    }

    /// The bearer token it brought.
    pub fn bearer(&self) -> Option<&Secret> {
        self.asks.who.bearer.as_ref()
    }
}
