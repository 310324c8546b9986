//! Who sent a request, and what it is told when that is nobody to be served.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use parking_lot::Mutex;

use super::{
    LiveServer, ServerConfig, client_address,
    listener::{Guest, Told},
    rescue::{Rescued, denied},
    streamable_http::Endpoint,
};
use crate::{
    auth::{Authenticator, Caller, Challenge, Denied, Presented, Surroundings, Toll},
    gateway::Gateway,
};

/// When to come back for somebody whose token could not be checked.
const WITHOUT_KEYS: Duration = Duration::from_secs(5);

/// Identifies callers as the configuration of the moment says.
#[derive(Debug)]
pub(super) struct Callers {
    server: LiveServer,
    surroundings: Surroundings,
    made: ArcSwap<Made>,
    /// One makes, the others take it.
    making: Mutex<()>,
    told: Told,
}

/// What one configuration says of them.
#[derive(Debug)]
struct Made {
    of: Arc<ServerConfig>,
    authenticator: Arc<Authenticator>,
    challenge: Challenge,
}

impl Callers {
    /// Needs a tokio runtime: the keys of the identity provider are fetched from now on.
    pub(super) fn new(server: &LiveServer, surroundings: Surroundings) -> Self {
        let made = ArcSwap::from_pointee(Made::new(server.now(), &surroundings, None));
        Self { server: server.clone(), surroundings, made, making: Mutex::default(), told: Told::default() }
    }

    /// Identifies the sender of a request, before its body is read. Identity headers that nobody may believe are taken out.
    pub(super) async fn identify(&self, parts: &mut Parts, gateway: &Gateway) -> Result<Caller, Rescued> {
        let made = self.made();
        let Parts { headers, extensions, .. } = parts;
        let guest = extensions.get::<Guest>();
        let certificate = guest.and_then(|guest| guest.certificate.as_deref());
        let recent = guest.map(|guest| &*guest.recent);
        let proxies = &made.of.client_ip;
        // A certificate is no reason to believe what its holder says of others: users have certificates, too.
        let is_trusted_peer = guest.is_some_and(|guest| proxies.trusts(guest.address.ip()));
        let takes_tokens = gateway.takes_callers_tokens();
        let address = guest.filter(|_| takes_tokens).map(|guest| client_address(proxies, guest.address, headers));
        let presented = Presented { headers, certificate, recent, is_trusted_peer, takes_tokens, address };
        match made.authenticator.identify(presented).await {
            Ok(caller) => Ok(caller),
            Err(why) => {
                self.tell(why, parts, &made.of);
                let mut refusal = denied(why, made.challenge.header(why, &gateway.config().path));
                refusal.retry_after = (why == Denied::NoKeys).then_some(WITHOUT_KEYS);
                Err(refusal)
            }
        }
    }

    /// What clients are told about how to get a token (RFC 9728); `None`: nothing.
    pub(super) fn metadata(&self) -> Option<Bytes> {
        self.made().challenge.document()
    }

    fn made(&self) -> Arc<Made> {
        let made = self.made.load_full();
        if self.server.is_now(&made.of) {
            return made;
        }
        let _one = self.making.lock();
        let (made, now) = (self.made.load_full(), self.server.now());
        if Arc::ptr_eq(&made.of, &now) {
            return made;
        }
        let made = Arc::new(Made::new(now, &self.surroundings, Some(&made.authenticator)));
        self.made.store(Arc::clone(&made));
        made
    }

    /// The operator learns the cause that the client does not. Coming without anything is how a client begins.
    fn tell(&self, why: Denied, parts: &Parts, server: &ServerConfig) {
        let address = parts.extensions.get::<Guest>().map(|guest| client_address(&server.client_ip, guest.address, &parts.headers));
        let client = address.map(|address| address.to_string()).unwrap_or_default();
        let status = why.status().as_u16();
        if why == Denied::Missing {
            return tracing::debug!(client, status, "a request was turned away: {why}");
        }
        if let Some(others) = self.told.next() {
            tracing::info!(client, status, others, "a request was turned away: {why}");
        }
    }
}

impl Endpoint {
    /// Who calls; identity headers that are not to be believed are gone then.
    pub(super) async fn caller(&self, parts: &mut Parts, toll: Option<Arc<Toll>>) -> Result<Caller, Rescued> {
        let caller = self.callers.identify(parts, &self.gateway).await?;
        let caller = caller.asking(self.gateway.forwarded(&parts.headers), toll);
        if !self.gateway.audit().is_on() {
            return Ok(caller);
        }
        let guest = parts.extensions.get::<Guest>();
        Ok(caller.asking_from(guest.map(|guest| client_address(&self.server.now().client_ip, guest.address, &parts.headers))))
    }
}

impl Made {
    fn new(of: Arc<ServerConfig>, surroundings: &Surroundings, earlier: Option<&Arc<Authenticator>>) -> Self {
        let authenticator = match earlier {
            Some(earlier) if *earlier.config() == of.auth => Arc::clone(earlier),
            earlier => Arc::new(Authenticator::new(&of.auth, surroundings, earlier.map(AsRef::as_ref))),
        };
        let challenge = Challenge::new(&of.auth, of.public_url.as_ref());
        Self { of, authenticator, challenge }
    }
}
