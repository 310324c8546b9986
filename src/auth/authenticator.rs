//! From a request's credentials to its [`Caller`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{
    AuthConfig, Caller, Denied, Recent,
    api_key::ApiKeys,
    credentials::{API_KEY_HEADER, api_key, bearer, looks_like_jwt},
    identity,
    jwt::{Keys, Tokens, Under},
};
use crate::{clock::Clock, sources::Sources, tls::ClientName};

/// What an authenticator needs of the rest.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub sources: Arc<dyn Sources>,
}

/// What a request says of its sender.
#[derive(Debug)]
pub struct Presented<'a> {
    pub headers: &'a mut HeaderMap,
    /// Verified in the handshake.
    pub certificate: Option<&'a ClientName>,
    /// What was brought over its connection before.
    pub recent: Option<&'a Recent>,
    /// Whether what the peer says of others is believed.
    pub is_trusted_peer: bool,
    /// Whether some upstream takes its callers' own tokens.
    pub takes_tokens: bool,
    /// Where it comes from, as far as that is known.
    pub address: Option<IpAddr>,
}

/// Identifies callers as one configuration says. Needs a tokio runtime: it keeps the identity provider's keys fresh.
#[derive(Debug)]
pub struct Authenticator {
    config: AuthConfig,
    surroundings: Surroundings,
    api_keys: ApiKeys,
    tokens: Option<Tokens>,
}

impl Authenticator {
    /// What is the same as in `earlier` goes on: the keys of the identity provider are not fetched again.
    pub fn new(config: &AuthConfig, surroundings: &Surroundings, earlier: Option<&Self>) -> Self {
        let tokens = config.oauth.as_ref().map(|oauth| {
            let kept = earlier.and_then(|earlier| earlier.tokens.as_ref()).map(Tokens::keys).filter(|keys| keys.are_of(oauth));
            let keys = kept.cloned().unwrap_or_else(|| Arc::new(Keys::follow(oauth, surroundings)));
            Tokens::new(Arc::clone(oauth), config.identification.clone(), keys)
        });
        Self { config: config.clone(), surroundings: surroundings.clone(), api_keys: ApiKeys::new(&config.api_keys), tokens }
    }

    pub fn config(&self) -> &AuthConfig {
        &self.config
    }

    /// Who sent the request. Identity headers that nobody may believe are taken out of it, whatever the answer.
    ///
    /// Waits only for keys of the identity provider, and a bounded time. Cancel-safe.
    ///
    /// # Errors
    /// [`Denied`]: the request must not go on.
    pub async fn identify(&self, presented: Presented<'_>) -> Result<Caller, Denied> {
        let Presented { headers, certificate, recent, is_trusted_peer, takes_tokens, address } = presented;
        let Some(identification) = self.config.identification.as_deref() else {
            return self.by_credential(headers, certificate, recent, takes_tokens, address).await;
        };
        identity::strip(headers, identification, is_trusted_peer);
        let caller = self.by_credential(headers, certificate, recent, takes_tokens, address).await?;
        let (client, group) = identity::of_headers(headers, identification)?;
        let caller = if client.is_some() || group.is_some() { caller.named(client, group) } else { caller };
        // Identification is on, so that somebody without a name is nobody to be served.
        if caller.client().is_none() { Err(Denied::Missing) } else { Ok(caller) }
    }

    async fn by_credential(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientName>,
        recent: Option<&Recent>,
        takes_tokens: bool,
        address: Option<IpAddr>,
    ) -> Result<Caller, Denied> {
        // Of the keys as they are before a token is verified: if one goes meanwhile, nothing is recognised.
        let recent = recent.zip(self.tokens.as_ref().and_then(Tokens::under));
        if let Some(known) = recent.and_then(|(recent, under)| self.recognised(headers, recent, under, takes_tokens)) {
            return Ok(known);
        }
        let demands = self.config.demands_credentials();
        let token = if demands || takes_tokens { bearer(headers)? } else { None };
        let key = if self.api_keys.is_empty() { None } else { api_key(headers)? };
        if let Some(key) = key {
            if token.is_some() && self.tokens.is_some() {
                return Err(Denied::Malformed("a bearer token and an X-API-Key"));
            }
            let known = self.api_keys.find(key).ok_or(UNKNOWN_KEY)?;
            return Ok(with_own_token(known, token.filter(|_| takes_tokens), address));
        }
        match (token, &self.tokens) {
            (Some(token), Some(tokens)) if looks_like_jwt(token) => {
                let holder = tokens.holder_of(token, takes_tokens, self.now()).await?;
                if let (Some((recent, under)), Some(Ok(header))) = (recent, headers.get(AUTHORIZATION).map(HeaderValue::to_str)) {
                    recent.remember(header, &holder, under);
                }
                return Ok(holder);
            }
            (Some(key), _) if !self.api_keys.is_empty() => return self.api_keys.find(key).cloned().ok_or(UNKNOWN_KEY),
            (Some(_), Some(_)) => return Err(Denied::Invalid("the bearer token is no JWT")),
            _ => {}
        }
        match certificate.filter(|_| self.certificates_identify()) {
            Some(certificate) => {
                let owner = identity::of_certificate(certificate, self.config.identification.as_deref())?;
                Ok(with_own_token(&owner, token, address))
            }
            None if demands => Err(Denied::Missing),
            None => Ok(with_own_token(&Caller::local(), token, address)),
        }
    }

    /// The holder of the same token as that of the request before it. What is ambiguous is left to the full look.
    fn recognised(&self, headers: &HeaderMap, recent: &Recent, under: Under, takes_tokens: bool) -> Option<Caller> {
        if !self.api_keys.is_empty() && headers.contains_key(API_KEY_HEADER) {
            return None;
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (header, None) = (values.next()?, values.next()) else { return None };
        recent.holder_of(header.as_bytes(), under, self.now()).filter(|known| !takes_tokens || known.bearer().is_some())
    }

    /// Beside tokens and keys a certificate may be a proxy's own, so that it stands for a caller only where the file says so.
    fn certificates_identify(&self) -> bool {
        let is_named = |identification: &super::IdentificationConfig| identification.client_id.certificate.is_some();
        !self.config.demands_credentials() || self.config.identification.as_deref().is_some_and(is_named)
    }

    fn now(&self) -> Duration {
        self.surroundings.clock.now()
    }
}

const UNKNOWN_KEY: Denied = Denied::Invalid("the API key is not known");

/// A token that nobody validates here, kept for upstreams.
fn with_own_token(caller: &Caller, token: Option<&str>, address: Option<IpAddr>) -> Caller {
    match token {
        Some(token) => caller.with_bearer(token, address),
        None => caller.clone(),
    }
}
