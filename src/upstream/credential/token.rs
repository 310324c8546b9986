//! Tokens that were fetched, until they end: each is fetched once, by whoever needs it first, and again before it ends.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::{auth::PrincipalKey, secret::Secret, upstream::UpstreamError};

/// Most tokens of one principal's that others are kept for at a time.
const SUBJECTS: usize = 4;
/// After a failure the endpoint is left alone for so long.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// A server that refuses one fresh token after the other has others fetched no more often than this.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(5);
/// A token whose end is not told is fetched anew after this.
const UNTOLD: Duration = Duration::from_secs(60 * 60);
/// So long before its end at most is a token fetched anew; one that lives short is at four fifths of its life.
const BEFORE_END: Duration = Duration::from_secs(60);

/// One token, ready to be sent.
pub(super) struct Token {
    value: HeaderValue,
    renew_at: Instant,
    ends: Instant,
}

impl Token {
    /// `value` is sensitive; `lifetime` as the endpoint tells it.
    pub(super) fn new(value: HeaderValue, lifetime: Option<Duration>) -> Self {
        let now = Instant::now();
        let lifetime = lifetime.unwrap_or(UNTOLD);
        Self { value, renew_at: now + lifetime.saturating_sub(BEFORE_END.min(lifetime / 5)), ends: now + lifetime }
    }

    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// The tokens of one upstream.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: Endpoint,
    /// Whoever was last needed is last.
    slots: Mutex<VecDeque<Arc<Slot>>>,
}

/// The token that is had for one of a caller's, or for the gateway itself.
#[derive(Debug)]
struct Slot {
    subject: Option<PrincipalKey>,
    token: ArcSwapOption<Token>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<Fetching>,
}

#[derive(Debug, Default)]
struct Fetching {
    failed: Option<(Instant, UpstreamError)>,
    renewed: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, slots: Mutex::default() }
    }

    fn slot(&self, subject: Option<&Secret>) -> Arc<Slot> {
        let subject = subject.map(|subject| PrincipalKey::of_token(subject.expose()));
        let mut slots = self.slots.lock();
        let slot = match slots.iter().position(|slot| slot.subject == subject).and_then(|at| slots.remove(at)) {
            Some(known) => known,
            None => Arc::new(Slot { subject, token: ArcSwapOption::empty(), fetching: tokio::sync::Mutex::default() }),
        };
        slots.push_back(Arc::clone(&slot));
        if slots.len() > SUBJECTS {
            slots.pop_front();
        }
        slot
    }

    /// A token that has not ended. Cancel-safe.
    ///
    /// # Errors
    /// `auth_token_endpoint`
    pub(super) async fn token(&self, subject: Option<&Secret>) -> Result<Arc<Token>, UpstreamError> {
        let slot = self.slot(subject);
        let fresh = || slot.token.load_full().filter(|token| Instant::now() < token.renew_at);
        let good = || slot.token.load_full().filter(|token| Instant::now() < token.ends);
        if let Some(token) = fresh() {
            return Ok(token);
        }
        let mut fetching = match (slot.fetching.try_lock(), good()) {
            (Ok(fetching), _) => fetching,
            // Somebody else is at it.
            (Err(_), Some(token)) => return Ok(token),
            (Err(_), None) => slot.fetching.lock().await,
        };
        if let Some(token) = fresh() {
            return Ok(token);
        }
        match self.fetch(&slot, &mut fetching, subject).await {
            Ok(token) => Ok(token),
            Err(error) => good().ok_or(error),
        }
    }

    /// Another token than the one that the server refused; `None`: one was fetched a moment ago, and refused as well.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `auth_token_endpoint`
    pub(super) async fn renewed(&self, subject: Option<&Secret>, refused: &Arc<Token>) -> Result<Option<Arc<Token>>, UpstreamError> {
        let slot = self.slot(subject);
        let mut fetching = slot.fetching.lock().await;
        if let Some(other) = slot.token.load_full().filter(|token| !Arc::ptr_eq(token, refused)) {
            return Ok(Some(other));
        }
        if fetching.renewed.is_some_and(|last| last.elapsed() < BETWEEN_RENEWALS) {
            return Ok(None);
        }
        fetching.renewed = Some(Instant::now());
        self.fetch(&slot, &mut fetching, subject).await.map(Some)
    }

    async fn fetch(&self, slot: &Slot, fetching: &mut Fetching, subject: Option<&Secret>) -> Result<Arc<Token>, UpstreamError> {
        if let Some((at, error)) = &fetching.failed
            && at.elapsed() < AFTER_FAILURE
        {
            return Err(error.clone());
        }
        match self.endpoint.fetch(subject).await {
            Ok(token) => {
                let token = Arc::new(token);
                fetching.failed = None;
                slot.token.store(Some(Arc::clone(&token)));
                Ok(token)
            }
            Err(explanation) => {
                let error = UpstreamError::Failed { explanation, never_sent: true };
                fetching.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
