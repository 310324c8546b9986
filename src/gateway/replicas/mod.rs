//! Sessions that every replica serves: what the others have to know of them, and what they say.
//!
//! ```text
//! a call ─▶ live here? ─ no ─▶ Store::load ─▶ LegacySession      answers, cancellations, ends ─▶ the other's inbox
//! every idle/10 ─▶ Store::renew (lost: written again; ended: ended here)      inbox ─▶ what they are for
//! ```
//!
//! A session that is live here costs no round trip.

mod inbox;
mod living;
mod refresh;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

pub(super) use inbox::Changed;
use parking_lot::Mutex;

use super::{Gateway, GatewayError, LegacySession, McpConfig, headcount::Evicted};
use crate::{
    auth::Caller,
    mcp::Id,
    session::{Found, Held, Place, SessionId, SessionRecord, Store, StoreConfig, Stored, Surroundings},
    upstream::Upstream,
};

/// Who can go on with a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This process alone: the session ends with its connection.
    Here,
    /// Every replica.
    Anywhere,
}

/// A resource that a client follows, after the upstream that was asked.
type Subscription = (String, String);

/// The other replicas, as far as they are known here: by the store.
#[derive(Debug)]
pub(super) struct Replicas {
    pub(super) store: Arc<Store>,
    /// Sessions that are being looked for: each once, whoever asks.
    looking: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a session has besides where other replicas serve it, too.
#[derive(Debug)]
pub(super) struct SharedSession {
    /// The name of this replica.
    replica: Box<str>,
    /// When the store last said that it has the session, in milliseconds as with its last use.
    pub(super) renewed: AtomicU64,
    /// Something was not written.
    is_dirty: AtomicBool,
    /// The subscriptions that the store had when it was last read or written. Whoever reads or writes is
    /// alone with the session meanwhile, so that nobody goes by what was there before.
    kept: Mutex<BTreeSet<Subscription>>,
    /// Those among them that were ended here, which the store does not know yet.
    ended: Mutex<BTreeSet<Subscription>>,
}

impl SharedSession {
    pub(super) fn new(replica: &str) -> Self {
        let (renewed, is_dirty) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { replica: replica.into(), renewed, is_dirty, kept: Mutex::default(), ended: Mutex::default() }
    }

    /// The store could not be told that a subscription ended.
    fn ended_unsaid(&self, subscription: Subscription) {
        // What it does not have needs no word.
        if self.kept.lock().contains(&subscription) {
            self.ended.lock().insert(subscription);
        }
    }

    /// What of these the store did not have before, and what it does not have any more.
    fn now_kept(&self, subscribed: &[Subscription]) -> (Vec<Subscription>, Vec<Subscription>) {
        let now: BTreeSet<_> = subscribed.iter().cloned().collect();
        let mut kept = self.kept.lock();
        let (fresh, gone) = (now.difference(&kept).cloned().collect(), kept.difference(&now).cloned().collect());
        *kept = now;
        (fresh, gone)
    }

    pub(super) fn question_id(&self, random: SessionId) -> String {
        format!("{}.{random}", self.replica)
    }
}

/// The replica that asked under this id; `None` for an id that no replica gives.
fn asker_of(id: &Id) -> Option<String> {
    let text = id.as_string()?;
    let (replica, random) = text.split_once('.')?;
    let is_ours = |part: &str| SessionId::parse(part.as_bytes()).is_some();
    (is_ours(replica) && is_ours(random)).then(|| replica.to_owned())
}

impl Replicas {
    /// `None` where sessions live in the process. Needs a tokio runtime.
    pub(super) fn start(config: &McpConfig, surroundings: &Surroundings) -> Option<Arc<Self>> {
        match &config.store {
            StoreConfig::Memory => None,
            StoreConfig::Redis(redis) => {
                let store = Store::start((**redis).clone(), &config.state_secrets, surroundings.clone());
                Some(Arc::new(Self { store, looking: Mutex::default() }))
            }
        }
    }

    /// A new session, which the others find from now on.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]
    pub(super) async fn keep(&self, record: SessionRecord, caller: Caller, idle: Duration) -> Result<LegacySession, GatewayError> {
        self.store.write(&record, &Held::default(), idle).await.map_err(GatewayError::NoStore)?;
        Ok(LegacySession::shared(record, caller, self.store.replica()))
    }

    /// Waits until nobody else looks for this session.
    async fn alone_with(self: &Arc<Self>, session: SessionId) -> Looking {
        let gate = Arc::clone(self.looking.lock().entry(session).or_default());
        let mut looking = Looking { replicas: Arc::clone(self), session, held: None };
        looking.held = Some(gate.lock_owned().await);
        looking
    }
}

/// Somebody looks for a session.
struct Looking {
    replicas: Arc<Replicas>,
    session: SessionId,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut looking = self.replicas.looking.lock();
        self.held = None;
        // Whoever waits has a clone.
        if looking.get(&self.session).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            looking.remove(&self.session);
        }
    }
}

impl Gateway {
    /// The session with this id, if there is one and it is this caller's; another's looks like none.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`] where it may be another replica's, and the store does not say; too many sessions.
    pub async fn session(self: &Arc<Self>, id: SessionId, caller: &Caller) -> Result<Option<Arc<LegacySession>>, GatewayError> {
        match (self.sessions.find(id, caller), &self.replicas) {
            (None, Some(replicas)) => Box::pin(self.look_for(replicas, id, caller)).await,
            (found, _) => Ok(found),
        }
    }

    async fn look_for(
        self: &Arc<Self>,
        replicas: &Arc<Replicas>,
        id: SessionId,
        caller: &Caller,
    ) -> Result<Option<Arc<LegacySession>>, GatewayError> {
        let _alone = replicas.alone_with(id).await;
        if self.sessions.peek(id).is_some() {
            return Ok(self.sessions.find(id, caller));
        }
        let config = self.config();
        let found = replicas.store.load(id, config.session_idle_timeout).await.map_err(GatewayError::NoStore)?;
        let Found::Session(stored) = found else { return Ok(None) };
        let Stored { record, log_level, subscribed, .. } = *stored;
        if record.principal != *caller.principal() {
            return Ok(None);
        }
        let session = Arc::new(LegacySession::shared(record, caller.clone(), replicas.store.replica()));
        if let Some(level) = log_level {
            session.set_log_level(&level);
        }
        session.subscribed.take(&subscribed);
        if let Some(shared) = &session.shared {
            shared.now_kept(&subscribed);
        }
        if !self.seat(&session, Evicted::LetGo).await {
            return Err(GatewayError::TooManySessions);
        }
        tracing::debug!(session = ?id, "a session of another replica goes on here");
        Ok(Some(session))
    }

    /// Where replicas share the session with an upstream; `None` where they share nothing.
    pub(super) fn place_of(&self, session: &LegacySession, upstream: &Upstream) -> Option<Place> {
        let replicas = self.shares(session)?;
        Some(Place::new(&replicas.store, session.id(), upstream.name().as_str(), upstream.identity()))
    }

    /// What replicas share; `None` when it is alone.
    pub fn store(&self) -> Option<&Arc<Store>> {
        self.replicas.as_ref().map(|replicas| &replicas.store)
    }

    /// How often the store of sessions gave no answer; `None` without one.
    pub fn store_errors(&self) -> Option<u64> {
        self.replicas.as_ref().map(|replicas| replicas.store.errors())
    }

    /// Whether there is a connection to the store of sessions; `None` without one.
    pub fn is_store_connected(&self) -> Option<bool> {
        self.replicas.as_ref().map(|replicas| *replicas.store.is_connected().borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_never_had_is_not_taken_away() {
        let shared = SharedSession::new("a");
        let uri = |uri: &str| ("crm".to_owned(), uri.to_owned());
        assert_eq!(shared.now_kept(&[uri("a"), uri("b")]), (vec![uri("a"), uri("b")], vec![]));
        assert_eq!(shared.now_kept(&[uri("b"), uri("c")]), (vec![uri("c")], vec![uri("a")]));
        assert_eq!(shared.now_kept(&[uri("b"), uri("c")]), (vec![], vec![]));
    }

    #[test]
    fn an_id_names_the_replica_that_asked() {
        let replica = SessionId::random().to_string();
        let shared = SharedSession::new(&replica);
        let id = Id::from_string(&shared.question_id(SessionId::random()));
        assert_eq!(asker_of(&id).as_deref(), Some(&*replica));
        for other in [Id::from_u64(7), Id::from_string(&replica), Id::from_string("a.b"), Id::from_string(&format!("{replica}.b"))] {
            assert_eq!(asker_of(&other), None, "{other}");
        }
    }
}
