//! Somebody who may ask something of the gateway.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Network, PrincipalKey, Term};
use crate::secret::Secret;

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
    /// Microseconds that this request has waited for the store of limits; `None`: that is not noted.
    waited: Option<AtomicU64>,
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
    /// Somebody who has proven by `method` who it is. Whoever has a name shares with all of that name and method.
    pub(super) fn new(principal: PrincipalKey, method: &str, client: Option<&str>) -> Self {
        let account = client.map_or_else(|| principal.clone(), |client| account(method, client));
        let client = client.map(Box::from);
        Self { principal, account, client, groups: Box::default(), bearer: None, is_unproven: false, term: Term::default() }
    }
}

fn account(method: &str, of: impl AsRef<[u8]>) -> PrincipalKey {
    PrincipalKey::of("account", method, of)
}

impl Caller {
    pub(super) fn new(identity: Identity) -> Self {
        Self { asks: Arc::new(Asks { who: Arc::new(identity), said: None, waited: None }) }
    }

    /// The user of this process: stdio, the command line, or a listener without caller authentication.
    pub fn local() -> Self {
        static LOCAL: OnceLock<Caller> = OnceLock::new();
        LOCAL.get_or_init(|| Self::new(Identity::new(PrincipalKey::Local, "", None))).clone()
    }

    /// The same as the sender of one request: with headers of it that some upstream gets, and with the time that it has waited
    /// for the store of limits so far, if there is one.
    #[must_use]
    pub fn asking(self, said: Option<HeaderMap>, waited: Option<Duration>) -> Self {
        if said.is_none() && waited.is_none() {
            return self;
        }
        let waited = waited.map(|waited| AtomicU64::new(micros(waited)));
        Self { asks: Arc::new(Asks { who: Arc::clone(&self.asks.who), said, waited }) }
    }

    /// The same as the sender of another request with these headers.
    #[must_use]
    pub fn again(self, waited: Option<Duration>) -> Self {
        if waited.is_none() {
            return self;
        }
        let said = self.asks.said.clone();
        self.asking(said, waited)
    }

    /// The same as the sender of nothing in particular.
    #[must_use]
    pub fn at_rest(&self) -> Self {
        if self.asks.said.is_none() && self.asks.waited.is_none() {
            return self.clone();
        }
        Self { asks: Arc::new(Asks { who: Arc::clone(&self.asks.who), said: None, waited: None }) }
    }

    /// What its request said in a header, if some upstream gets it.
    pub fn said(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.asks.said.as_ref()?.get(name)
    }

    /// How long its request has waited for the store of limits.
    pub fn waited(&self) -> Duration {
        self.asks.waited.as_ref().map_or(Duration::ZERO, |waited| Duration::from_micros(waited.load(Ordering::Relaxed)))
    }

    /// Notes that its request has waited on.
    pub fn has_waited(&self, further: Duration) {
        if let Some(waited) = &self.asks.waited {
            waited.fetch_add(micros(further), Ordering::Relaxed);
        }
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
        Self::new(Identity::new(principal, "test", None))
    }

    /// Somebody with this name and principal.
    #[cfg(test)]
    pub(crate) fn of_test_named(client: Option<&str>, principal: PrincipalKey) -> Self {
        Self::new(Identity::new(principal, "test", client))
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

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
