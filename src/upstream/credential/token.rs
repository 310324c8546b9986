//! Tokens that were fetched, until they end: each is fetched once, by whoever needs it first, and again before it ends.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Endpoint, unavailable};
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

/// What came of a fetch.
type Outcome = Result<Arc<Token>, UpstreamError>;

/// A fetch that all share who wait for it. It is nobody's own: who goes away leaves it to the others, or to the next.
type Fetch = Shared<BoxFuture<'static, Outcome>>;

/// The tokens of one upstream.
#[derive(Debug)]
pub(super) struct Tokens {
    endpoint: Arc<Endpoint>,
    /// Whoever was last needed is last.
    slots: Mutex<VecDeque<Arc<Slot>>>,
}

/// The token that is had for one of a caller's, or for the gateway itself.
#[derive(Debug)]
struct Slot {
    subject: Option<PrincipalKey>,
    token: ArcSwapOption<Token>,
    fetching: Mutex<Fetching>,
}

#[derive(Debug, Default)]
struct Fetching {
    under_way: Option<Fetch>,
    failed: Option<(Instant, UpstreamError)>,
    renewed: Option<Instant>,
}

impl Slot {
    fn done(&self, outcome: &Outcome) {
        let mut fetching = self.fetching.lock();
        match outcome {
            Ok(token) => {
                fetching.failed = None;
                self.token.store(Some(Arc::clone(token)));
            }
            Err(error) => fetching.failed = Some((Instant::now(), error.clone())),
        }
        let over = fetching.under_way.take();
        drop(fetching);
        drop(over);
    }
}

impl Tokens {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint), slots: Mutex::default() }
    }

    fn slot(&self, subject: Option<&Secret>) -> Arc<Slot> {
        let subject = subject.map(|subject| PrincipalKey::of_token(subject.expose()));
        let mut slots = self.slots.lock();
        let slot = match slots.iter().position(|slot| slot.subject == subject).and_then(|at| slots.remove(at)) {
            Some(known) => known,
            None => Arc::new(Slot { subject, token: ArcSwapOption::empty(), fetching: Mutex::default() }),
        };
        slots.push_back(Arc::clone(&slot));
        if slots.len() > SUBJECTS {
            slots.pop_front();
        }
        slot
    }

    /// A token that has not ended. Where one is at hand, nobody waits for the next. Cancel-safe.
    ///
    /// # Errors
    /// `auth_token_endpoint`
    pub(super) async fn token(&self, subject: Option<&Secret>) -> Outcome {
        let slot = self.slot(subject);
        let now = Instant::now();
        let good = slot.token.load_full().filter(|token| now < token.ends);
        if let Some(token) = good.as_ref().filter(|token| now < token.renew_at) {
            return Ok(Arc::clone(token));
        }
        let fetch = self.fetch(&slot, &mut slot.fetching.lock(), subject);
        match (good, fetch) {
            (Some(token), _) => Ok(token),
            (None, fetch) => fetch?.await,
        }
    }

    /// Another token than the one that the server refused; `None`: one was fetched a moment ago, and refused as well.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `auth_token_endpoint`
    pub(super) async fn renewed(&self, subject: Option<&Secret>, refused: &Arc<Token>) -> Result<Option<Arc<Token>>, UpstreamError> {
        let slot = self.slot(subject);
        let fetch = {
            let mut fetching = slot.fetching.lock();
            if let Some(other) = slot.token.load_full().filter(|token| !Arc::ptr_eq(token, refused)) {
                return Ok(Some(other));
            }
            if fetching.under_way.is_none() {
                if fetching.renewed.is_some_and(|last| last.elapsed() < BETWEEN_RENEWALS) {
                    return Ok(None);
                }
                fetching.renewed = Some(Instant::now());
            }
            self.fetch(&slot, &mut fetching, subject)?
        };
        fetch.await.map(Some)
    }

    /// The fetch that is under way, or else one that begins now. It ends with the slot, if nobody waits for it then.
    fn fetch(&self, slot: &Arc<Slot>, fetching: &mut Fetching, subject: Option<&Secret>) -> Result<Fetch, UpstreamError> {
        if let Some(under_way) = &fetching.under_way {
            return Ok(under_way.clone());
        }
        if let Some((at, error)) = &fetching.failed
            && at.elapsed() < AFTER_FAILURE
        {
            return Err(error.clone());
        }
        let (endpoint, slot, subject) = (Arc::clone(&self.endpoint), Arc::downgrade(slot), subject.cloned());
        let work = AbortOnDropHandle::new(tokio::spawn(async move {
            let fetched = endpoint.fetch(subject.as_ref()).await.map(Arc::new);
            let outcome = fetched.map_err(|explanation| UpstreamError::Failed { explanation, never_sent: true });
            if let Some(slot) = slot.upgrade() {
                slot.done(&outcome);
            }
            outcome
        }));
        let fetch = async move { work.await.unwrap_or_else(|_| Err(broken_off())) }.boxed().shared();
        fetching.under_way = Some(fetch.clone());
        Ok(fetch)
    }
}

fn broken_off() -> UpstreamError {
    UpstreamError::Failed { explanation: unavailable("the request for a token broke off".to_owned()), never_sent: true }
}
