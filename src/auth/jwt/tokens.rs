//! From a token to its holder.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::Value;

use super::{
    claims,
    key_set::KeySet,
    keys::Keys,
    recent::Under,
    verified::{TokenDigest, Verified},
};
use crate::auth::{Caller, Denied, IdentificationConfig, OauthConfig, Term, identity};

/// Longest token that is looked at, in bytes. Those with many groups in them come to some 10 KiB.
const MAX_TOKEN: usize = 24 << 10;

/// What the header of a token may say it is (RFC 9068 §2.1), so that what the same key signed for another purpose is no access
/// token (RFC 8725 §3.11).
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

/// Numbers of configurations that were made so far.
static RULES: AtomicU64 = AtomicU64::new(0);

/// Verifies the tokens of one issuer.
#[derive(Debug)]
pub(in crate::auth) struct Tokens {
    config: Arc<OauthConfig>,
    identification: Option<Arc<IdentificationConfig>>,
    keys: Arc<Keys>,
    verified: Verified,
    /// What tells these rules from others.
    rules: u64,
}

impl Tokens {
    pub(in crate::auth) fn new(config: Arc<OauthConfig>, identification: Option<Arc<IdentificationConfig>>, keys: Arc<Keys>) -> Self {
        Self { config, identification, keys, verified: Verified::new(), rules: RULES.fetch_add(1, Ordering::Relaxed) }
    }

    pub(in crate::auth) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// What tokens are verified under now; `None`: there are no keys.
    pub(in crate::auth) fn under(&self) -> Option<Under> {
        self.keys.epoch().map(|epoch| Under { rules: self.rules, epoch })
    }

    /// The holder of a token, with the token where `keeps_it`.
    ///
    /// # Errors
    /// It is not valid, or the keys for it are not there.
    pub(in crate::auth) async fn holder_of(&self, token: &str, keeps_it: bool, now: Duration) -> Result<Caller, Denied> {
        if token.len() > MAX_TOKEN {
            return Err(Denied::Invalid("the token is longer than any that is looked at"));
        }
        let digest = Verified::digest(token);
        let known = self.keys.epoch().and_then(|epoch| self.verified.find(&digest, epoch, now));
        match known {
            Some(known) if !keeps_it || known.bearer().is_some() => Ok(known),
            _ => Box::pin(self.verify(token, digest, keeps_it, now)).await,
        }
    }

    async fn verify(&self, token: &str, digest: TokenDigest, keeps_it: bool, now: Duration) -> Result<Caller, Denied> {
        // `none` and unknown algorithms are no header at all.
        let header = decode_header(token).map_err(|_| Denied::Invalid("the token's header is not readable, or names no algorithm"))?;
        if matches!(header.alg, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(Denied::Invalid("the token is signed with a shared secret, and only public keys verify here"));
        }
        // RFC 7515 §4.1.11: whatever it is, it must be understood.
        if header.crit.is_some() {
            return Err(Denied::Invalid("the token's header demands an extension (crit)"));
        }
        if header.typ.as_deref().is_some_and(|typ| !TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ))) {
            return Err(Denied::Invalid("the token's typ is not that of an access token"));
        }
        let keys = self.keys_for(header.kid.as_deref()).await?;
        let claims = verify_signature(token, header.kid.as_deref(), header.alg, &keys)?;
        let until = claims::check(&claims, &self.config, now)?;
        let holder = identity::of_claims(&claims, self.identification.as_deref())?;
        let holder = if keeps_it { holder.with_proven_bearer(token) } else { holder };
        let holder = holder.during(Term { until: Some(until), withdrawn: Some(keys.withdrawn.clone()) });
        self.verified.keep(digest, holder.clone(), until, keys.epoch, now);
        Ok(holder)
    }

    /// The keys, fetched again if none of that name is known.
    async fn keys_for(&self, id: Option<&str>) -> Result<Arc<KeySet>, Denied> {
        let current = self.keys.current();
        if current.as_ref().is_none_or(|keys| !keys.knows(id)) {
            self.keys.fetched_again().await;
        }
        self.keys.current().ok_or(Denied::NoKeys)
    }
}

fn verify_signature(token: &str, id: Option<&str>, algorithm: Algorithm, keys: &KeySet) -> Result<Value, Denied> {
    let mut validation = Validation::new(algorithm);
    // The claims are checked by the caller, with our clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let mut tried = false;
    for key in keys.candidates(id, algorithm) {
        tried = true;
        if let Ok(verified) = decode::<Value>(token, &key.key, &validation) {
            return Ok(verified.claims);
        }
    }
    let why = if tried { "the token's signature is not valid" } else { "no key of the identity provider fits the token's kid and alg" };
    Err(Denied::Invalid(why))
}
