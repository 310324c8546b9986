//! Somebody who may ask something of the gateway.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::PrincipalKey;
use crate::{
    audit::{RequestId, Who},
    secret::Secret,
};

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
    origin: Origin,
}

/// Where a request comes from, as far as somebody wants to know.
#[derive(Clone, Copy, Debug, Default)]
struct Origin {
    address: Option<IpAddr>,
    request_id: Option<RequestId>,
}

/// By what somebody was identified, for the audit trail.
#[derive(Debug)]
pub(super) struct Proof {
    /// `"local"`, `"jwt"`, `"api_key"`, `"certificate"`, or `"bearer"` for a token that nobody validates here.
    pub(super) method: &'static str,
    pub(super) issuer: Option<Box<str>>,
    pub(super) subject: Option<Box<str>>,
}

impl Proof {
    pub(super) fn of(method: &'static str, issuer: Option<&str>, subject: &str) -> Arc<Self> {
        Arc::new(Self { method, issuer: issuer.map(Box::from), subject: Some(subject.into()) })
    }

    fn local() -> Arc<Self> {
        Arc::new(Self { method: "local", issuer: None, subject: None })
    }

    /// The beginning of the token's digest tells two of them apart and gives none away.
    fn bearer(principal: &PrincipalKey) -> Arc<Self> {
        let digits: Vec<String> = principal.as_bytes().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self::of("bearer", None, &format!("sha256:{}…", digits.concat()))
    }
}

/// What is known of a caller.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) proof: Arc<Proof>,
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
        Self { asks: Arc::new(Asks { who: Arc::new(identity), said: None, origin: Origin::default() }) }
    }

    /// The user of this process: stdio, the command line, or a listener without caller authentication.
    pub fn local() -> Self {
        static LOCAL: OnceLock<Caller> = OnceLock::new();
        let local = || {
            let (proof, principal) = (Proof::local(), PrincipalKey::Local);
            Self::new(Identity { proof, principal, client: None, groups: Box::default(), bearer: None })
        };
        LOCAL.get_or_init(local).clone()
    }

    /// Somebody of whom nothing is known but the bearer token, which nobody validates here.
    pub fn bearing(token: Secret) -> Self {
        let principal = PrincipalKey::of_token(token.expose());
        let proof = Proof::bearer(&principal);
        Self::new(Identity { proof, principal, client: None, groups: Box::default(), bearer: Some(token) })
    }

    /// The same with headers of its request that some upstream gets.
    #[must_use]
    pub fn saying(&self, headers: HeaderMap) -> Self {
        Self { asks: Arc::new(Asks { who: Arc::clone(&self.asks.who), said: Some(headers), origin: self.asks.origin }) }
    }

    /// The same, asking from this address.
    #[must_use]
    pub fn asking_from(&self, address: Option<IpAddr>) -> Self {
        self.with_origin(Origin { address, ..self.asks.origin })
    }

    /// The same with the name of its one request.
    #[must_use]
    pub fn asking_as(&self, request_id: RequestId) -> Self {
        self.with_origin(Origin { request_id: Some(request_id), ..self.asks.origin })
    }

    fn with_origin(&self, origin: Origin) -> Self {
        Self { asks: Arc::new(Asks { who: Arc::clone(&self.asks.who), said: self.asks.said.clone(), origin }) }
    }

    /// The client's address, where somebody wants to know.
    pub fn address(&self) -> Option<IpAddr> {
        self.asks.origin.address
    }

    /// The name of its request, where it has one already.
    pub fn request_id(&self) -> Option<RequestId> {
        self.asks.origin.request_id
    }

    /// Who it is, as the audit trail says it.
    pub fn who(&self) -> Who<'_> {
        let Identity { proof, client, groups, .. } = &*self.asks.who;
        Who { method: proof.method, issuer: proof.issuer.as_deref(), subject: proof.subject.as_deref(), client: client.as_deref(), groups }
    }

    /// What its request said in a header, if some upstream gets it.
    pub fn said(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.asks.said.as_ref()?.get(name)
    }

    /// The same, with the token that it brought for upstreams. Where `validated` is false nothing here vouches for the token, so
    /// that with another one it is another principal.
    pub(super) fn with_bearer(&self, token: &str, validated: bool) -> Self {
        let Identity { proof, principal, client, groups, .. } = &*self.asks.who;
        let is_nobody_else = *principal == PrincipalKey::Local;
        let principal = match (principal, validated) {
            (known, true) => known.clone(),
            (PrincipalKey::Local, false) => PrincipalKey::of_token(token),
            (known, false) => PrincipalKey::of("with_token", known.as_bytes(), PrincipalKey::of_token(token).as_bytes()),
        };
        let proof = if is_nobody_else { Proof::bearer(&principal) } else { Arc::clone(proof) };
        Self::new(Identity { proof, principal, client: client.clone(), groups: groups.clone(), bearer: Some(Secret::new(token)) })
    }

    /// The same, as a trusted peer names it.
    pub(super) fn named(&self, client: Option<&str>, group: Option<&str>) -> Self {
        let Identity { proof, principal, client: known, groups, bearer } = &*self.asks.who;
        let principal = match client {
            Some(client) => PrincipalKey::of("named", principal.as_bytes(), client),
            None => principal.clone(),
        };
        Self::new(Identity {
            proof: Arc::clone(proof),
            principal,
            client: client.map(Box::from).or_else(|| known.clone()),
            groups: group.map_or_else(|| groups.clone(), |group| Box::new([Box::from(group)])),
            bearer: bearer.clone(),
        })
    }

    /// Somebody whom a test stands for. The product makes callers by identifying them.
    #[doc(hidden)]
    pub fn of_test(principal: PrincipalKey) -> Self {
        Self::of_proof(Proof::of("test", None, "test"), principal, None)
    }

    fn of_proof(proof: Arc<Proof>, principal: PrincipalKey, client: Option<&str>) -> Self {
        Self::new(Identity { proof, principal, client: client.map(Into::into), groups: Box::default(), bearer: None })
    }

    /// Somebody with this name and principal.
    #[cfg(test)]
    pub(crate) fn of_test_named(client: Option<&str>, principal: PrincipalKey) -> Self {
        Self::of_proof(Proof::of("test", None, "test"), principal, client)
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
