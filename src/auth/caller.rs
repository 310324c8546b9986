//! Somebody who may ask something of the gateway.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Network, PrincipalKey, Term, Toll};
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

struct Asks {
    who: Arc<Identity>,
    /// Of the headers of this request, those that some upstream gets.
    said: Option<HeaderMap>,
    origin: Origin,
    /// What this request owes for its way in; `None`: there is nothing to owe.
    toll: Option<Arc<Toll>>,
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

/// What a caller's headers say is nobody's business.
impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asks").field("who", &self.who).finish_non_exhaustive()
    }
}

/// What is known of a caller.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) proof: Arc<Proof>,
    pub(super) principal: PrincipalKey,
    /// Whose share of what is limited it has.
    pub(super) account: PrincipalKey,
    /// The name by which limits and the audit trail know it. `None`: nobody in particular.
    pub(super) client: Option<Box<str>>,
    /// The groups it is in, as the configuration names them.
    pub(super) groups: Box<[Box<str>]>,
    /// The bearer token it brought, for upstreams that are configured to get it.
    pub(super) bearer: Option<Secret>,
    /// Nobody here vouches for that token.
    pub(super) is_unproven: bool,
    pub(super) term: Term,
}

impl Identity {
    /// Somebody who has proven who it is. Whoever has a name shares with all of that name who have proven it in the same way.
    pub(super) fn new(proof: Arc<Proof>, principal: PrincipalKey, client: Option<&str>) -> Self {
        let account = client.map_or_else(|| principal.clone(), |client| account(proof.method, client));
        let client = client.map(Box::from);
        Self { proof, principal, account, client, groups: Box::default(), bearer: None, is_unproven: false, term: Term::default() }
    }
}

fn account(method: &str, of: impl AsRef<[u8]>) -> PrincipalKey {
    PrincipalKey::of("account", method, of)
}

impl Caller {
    pub(super) fn new(identity: Identity) -> Self {
        Self::of(Arc::new(identity), None, Origin::default(), None)
    }

    fn of(who: Arc<Identity>, said: Option<HeaderMap>, origin: Origin, toll: Option<Arc<Toll>>) -> Self {
        Self { asks: Arc::new(Asks { who, said, origin, toll }) }
    }

    /// The user of this process: stdio, the command line, or a listener without caller authentication.
    pub fn local() -> Self {
        static LOCAL: OnceLock<Caller> = OnceLock::new();
        LOCAL.get_or_init(|| Self::new(Identity::new(Proof::local(), PrincipalKey::Local, None))).clone()
    }

    /// The same as the sender of one request: with headers of it that some upstream gets, and with what it owes for its way in.
    #[must_use]
    pub fn asking(self, said: Option<HeaderMap>, toll: Option<Arc<Toll>>) -> Self {
        if said.is_none() && toll.is_none() {
            return self;
        }
        Self::of(Arc::clone(&self.asks.who), said, self.asks.origin, toll)
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
        Self::of(Arc::clone(&self.asks.who), self.asks.said.clone(), origin, self.asks.toll.clone())
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

    /// The same as the sender of another request with these headers.
    #[must_use]
    pub fn again(self, toll: Option<Arc<Toll>>) -> Self {
        if toll.is_none() {
            return self;
        }
        let said = self.asks.said.clone();
        self.asking(said, toll)
    }

    /// The same, of whose request nothing is owed.
    #[must_use]
    pub fn owing_nothing(self) -> Self {
        if self.asks.toll.is_none() {
            return self;
        }
        Self::of(Arc::clone(&self.asks.who), self.asks.said.clone(), self.asks.origin, None)
    }

    /// The same as the sender of nothing in particular.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        if self.asks.said.is_none() && self.asks.toll.is_none() {
            return self.clone();
        }
        Self::of(Arc::clone(&self.asks.who), None, self.asks.origin, None)
    }

    /// What its request said in a header, if some upstream gets it.
    pub fn said(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.asks.said.as_ref()?.get(name)
    }

    /// What its request owes for its way in, and how long it has waited.
    pub fn toll(&self) -> Option<&Toll> {
        self.asks.toll.as_deref()
    }

    fn but(&self, change: impl FnOnce(&mut Identity)) -> Self {
        let mut who = Identity::clone(&self.asks.who);
        change(&mut who);
        Self::new(who)
    }

    /// The same, with the token that it brought for upstreams, and that was validated.
    pub(super) fn with_proven_bearer(&self, token: &str) -> Self {
        self.but(|who| who.bearer = Some(Secret::new(token)))
    }

    /// The same, with a token that it brought for upstreams and for which nothing here vouches, so that with another one it is
    /// another principal. Anybody can invent tokens, so of what is limited it has the share of its address.
    pub(super) fn with_bearer(&self, token: &str, address: Option<IpAddr>) -> Self {
        self.but(|who| {
            let of_token = PrincipalKey::of_token(token);
            if who.principal == PrincipalKey::Local {
                who.proof = Proof::bearer(&of_token);
                who.principal = of_token;
                if let Some(address) = address {
                    who.account = account("address", Network::from(address).address().to_string());
                }
            } else {
                who.principal = PrincipalKey::of("with_token", who.principal.as_bytes(), of_token.as_bytes());
            }
            who.bearer = Some(Secret::new(token));
            who.is_unproven = true;
        })
    }

    /// The same, for as long as its credential is good.
    pub(super) fn during(&self, term: Term) -> Self {
        self.but(|who| who.term = term)
    }

    /// The same, as a trusted peer names it.
    pub(super) fn named(&self, client: Option<&str>, group: Option<&str>) -> Self {
        self.but(|who| {
            if let Some(client) = client {
                who.principal = PrincipalKey::of("named", who.principal.as_bytes(), client);
                who.account = account("header", client);
                who.client = Some(client.into());
            }
            if let Some(group) = group {
                who.groups = Box::new([Box::from(group)]);
            }
        })
    }

    /// Somebody whom a test stands for. The product makes callers by identifying them.
    #[doc(hidden)]
    pub fn of_test(principal: PrincipalKey) -> Self {
        Self::new(Identity::new(Proof::of("test", None, "test"), principal, None))
    }

    /// Somebody with this name and principal.
    #[cfg(test)]
    pub(crate) fn of_test_named(client: Option<&str>, principal: PrincipalKey) -> Self {
        Self::new(Identity::new(Proof::of("test", None, "test"), principal, client))
    }

    /// Whose share of what is limited it has: that of all with its name, who have proven it in the same way; without a name, its
    /// own; with a token for which nobody vouches, that of its address.
    pub fn account(&self) -> &PrincipalKey {
        &self.asks.who.account
    }

    /// Under what the sessions of somebody are counted: as many principals as it likes has who invents tokens.
    pub fn holder(&self) -> &PrincipalKey {
        if self.is_unproven() { self.account() } else { self.principal() }
    }

    /// It brought a token for which nobody here vouches.
    pub fn is_unproven(&self) -> bool {
        self.asks.who.is_unproven
    }

    /// How long its credential is good for.
    pub fn term(&self) -> &Term {
        &self.asks.who.term
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
