//! A running upstream: its condition, what it offers, and the sessions opened with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OnceCell, mpsc, watch},
    time::Instant,
};

use super::{
    Bounds, Concern, EndpointConfig, Generation, Isolation, Notice, Session, SessionKey, SessionSpec, State, Status, UpstreamConfig,
    UpstreamError, generation::Transport, session::ClientCapabilities,
};
use crate::{
    auth::PrincipalKey,
    clock::Clock,
    mcp::{Era, offer::Offer},
    names::UpstreamName,
    reason::Explanation,
    session::SessionId,
    sources::Sources,
};

/// A pooled upstream session without work is ended after this long.
const POOL_IDLE: Duration = Duration::from_secs(600);

/// What all upstreams are given.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub bounds: Bounds,
    pub clock: Arc<dyn Clock>,
    pub sources: Arc<dyn Sources>,
    /// Told after every change of a state or an offer.
    pub changed: Arc<Notify>,
    /// Takes what upstreams say without being asked: upstream's index and message.
    pub notices: mpsc::Sender<(usize, Notice)>,
}

/// One upstream of the running gateway.
#[derive(Debug)]
pub struct Upstream {
    pub(crate) index: usize,
    pub(crate) config: UpstreamConfig,
    pub(crate) bounds: Bounds,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) notices: mpsc::Sender<(usize, Notice)>,
    pub(crate) recheck: Notify,
    running: ArcSwapOption<Generation>,
    offer: ArcSwapOption<Offer>,
    status: watch::Sender<Status>,
    concerns: Mutex<BTreeMap<Concern, Explanation>>,
    sessions: Mutex<HashMap<SessionKey, Arc<Cell>>>,
    started: Instant,
}

/// A place in the pool; filled once, by whoever comes first.
#[derive(Debug, Default)]
struct Cell {
    session: OnceCell<Arc<Session>>,
    /// Seconds since the upstream was made.
    last_used: AtomicU64,
}

impl Upstream {
    pub fn new(index: usize, config: UpstreamConfig, surroundings: Surroundings) -> Self {
        let since = surroundings.clock.now();
        let (status, _) = watch::channel(Status { state: State::Starting, since, tried: false, policy: String::new() });
        Self {
            index,
            config,
            bounds: surroundings.bounds,
            clock: surroundings.clock,
            sources: surroundings.sources,
            changed: surroundings.changed,
            notices: surroundings.notices,
            recheck: Notify::new(),
            running: ArcSwapOption::empty(),
            offer: ArcSwapOption::empty(),
            status,
            concerns: Mutex::default(),
            sessions: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Its place in file order.
    pub fn index(&self) -> usize {
        self.index
    }

    pub fn name(&self) -> &UpstreamName {
        &self.config.name
    }

    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The last known offer, also while the upstream is down.
    pub fn offer(&self) -> Option<Arc<Offer>> {
        self.offer.load_full()
    }

    /// The generation to use for one call, kept to the call's end.
    ///
    /// # Errors
    /// `Down` with the cause, without trying anything.
    pub fn generation(&self) -> Result<Arc<Generation>, UpstreamError> {
        self.running.load_full().ok_or_else(|| {
            let status = self.status.borrow();
            let starting = || Explanation::new(crate::reason::Reason::Starting, "not tried to the end yet", "wait, or look at the log");
            UpstreamError::Down(status.state.explanation().cloned().unwrap_or_else(starting))
        })
    }

    /// Tells the supervisor that an exchange failed in a way that says something about the upstream itself.
    pub fn report(&self, error: &UpstreamError) {
        if matches!(error, UpstreamError::Failed { never_sent: true, .. }) {
            self.recheck.notify_one();
        }
    }

    /// Tells the supervisor that the upstream contradicts what was found out about it, such as its era.
    pub fn contradicted(&self) {
        self.recheck.notify_one();
    }

    /// The key under which a caller's requests share an upstream session. `owner`: the downstream session, if any.
    pub fn session_key(
        &self,
        principal: &PrincipalKey,
        owner: Option<SessionId>,
        capabilities: ClientCapabilities,
        era: Era,
    ) -> SessionKey {
        match &self.config.endpoint {
            EndpointConfig::Http(_) => owner.map_or_else(|| SessionKey::Pooled(principal.clone(), capabilities, era), SessionKey::Owned),
            EndpointConfig::Stdio(stdio) => match (stdio.isolation, owner) {
                (Isolation::Shared, _) => SessionKey::Pooled(PrincipalKey::Local, ClientCapabilities::default(), era),
                (Isolation::Session, Some(owner)) => SessionKey::Owned(owner),
                (Isolation::Session, None) | (Isolation::Principal, _) => SessionKey::Pooled(principal.clone(), capabilities, era),
            },
        }
    }

    /// The session for `key`, opened with `spec` by whoever comes first.
    ///
    /// # Errors
    /// [`UpstreamError`] when it cannot be opened; the next caller tries again.
    pub async fn session(
        &self,
        generation: &Generation,
        key: &SessionKey,
        spec: impl FnOnce() -> SessionSpec + Send,
    ) -> Result<Arc<Session>, UpstreamError> {
        // The gateway's own process is the local principal's without capabilities.
        if let (true, Some(own)) = (generation.is_stdio() && is_own(key, generation.era()), &generation.own_session) {
            return Ok(Arc::clone(own));
        }
        let cell = self.cell(generation, key)?;
        cell.last_used.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
        let opened = cell.session.get_or_try_init(|| async { generation.open(&spec()).await }).await.map(Arc::clone);
        if opened.is_err() {
            self.sessions.lock().retain(|_, other| !Arc::ptr_eq(other, &cell));
        }
        opened
    }

    /// A session for `key` that is open already.
    pub fn open_session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.sessions.lock().get(key).and_then(|cell| cell.session.get().cloned())
    }

    fn cell(&self, generation: &Generation, key: &SessionKey) -> Result<Arc<Cell>, UpstreamError> {
        let mut sessions = self.sessions.lock();
        if let Some(cell) = sessions.get(key) {
            if cell.session.get().is_none_or(|session| !session.has_ended()) {
                return Ok(Arc::clone(cell));
            }
            sessions.remove(key);
        }
        if let Transport::Stdio(host) = &generation.transport {
            sessions.retain(|_, cell| cell.session.get().is_none_or(|session| !session.has_ended()));
            // The gateway's own process counts too.
            if sessions.len() + 1 >= host.config().max_processes {
                return Err(UpstreamError::Failed { explanation: host.too_many(), never_sent: true });
            }
        }
        Ok(Arc::clone(sessions.entry(key.clone()).or_default()))
    }

    /// Drops a session that the upstream does not know any more, unless it was replaced meanwhile.
    pub fn forget(&self, key: &SessionKey, session: &Arc<Session>) {
        let mut sessions = self.sessions.lock();
        if sessions.get(key).and_then(|cell| cell.session.get()).is_some_and(|held| Arc::ptr_eq(held, session)) {
            sessions.remove(key);
        }
    }

    /// Ends what belongs to a downstream session.
    pub fn close_owned(self: &Arc<Self>, owner: SessionId) {
        let cell = self.sessions.lock().remove(&SessionKey::Owned(owner));
        if let Some(session) = cell.and_then(|cell| cell.session.get().cloned()) {
            self.close(session);
        }
    }

    /// Ends pooled sessions that have had no work for a while.
    pub(crate) fn sweep(self: &Arc<Self>) {
        let limit = match &self.config.endpoint {
            EndpointConfig::Http(_) => POOL_IDLE,
            EndpointConfig::Stdio(stdio) => stdio.idle_timeout,
        };
        let now = self.started.elapsed().as_secs();
        let idle = |cell: &Arc<Cell>| {
            let unused = now.saturating_sub(cell.last_used.load(Ordering::Relaxed)) >= limit.as_secs();
            unused && Arc::strong_count(cell) == 1 && cell.session.get().is_some_and(|session| Arc::strong_count(session) == 1)
        };
        let ended: Vec<_> = {
            let mut sessions = self.sessions.lock();
            let keys: Vec<_> = sessions
                .iter()
                .filter(|(key, cell)| matches!(key, SessionKey::Pooled(..)) && idle(cell))
                .map(|(key, _)| key.clone())
                .collect();
            keys.iter().filter_map(|key| sessions.remove(key)).filter_map(|cell| cell.session.get().cloned()).collect()
        };
        for session in ended {
            self.close(session);
        }
    }

    /// Ends all sessions, at shutdown.
    pub(crate) async fn close_all(&self) {
        let sessions: Vec<_> = self.sessions.lock().drain().filter_map(|(_, cell)| cell.session.get().cloned()).collect();
        let Some(generation) = self.running.swap(None) else { return };
        for session in sessions.iter().chain(&generation.own_session) {
            generation.close(session).await;
        }
        for session in sessions.iter().chain(&generation.own_session) {
            session.ended().await;
        }
    }

    /// Ends the own session of a generation that was replaced.
    pub(crate) fn retire(old: Arc<Generation>) {
        if let Some(session) = old.own_session.clone() {
            tokio::spawn(async move { old.close(&session).await });
        }
    }

    fn close(self: &Arc<Self>, session: Arc<Session>) {
        if let Some(generation) = self.running.load_full() {
            tokio::spawn(async move { generation.close(&session).await });
        }
    }

    pub(crate) fn now_serving(&self, generation: Option<Arc<Generation>>) {
        self.running.store(generation);
    }

    pub(crate) fn now_offering(&self, offer: Arc<Offer>) {
        self.offer.store(Some(offer));
        self.changed.notify_one();
    }

    /// Notes, or forgets, something to look at; a serving upstream is then degraded, or not any more.
    pub(crate) fn concern(&self, about: Concern, explanation: Option<&Explanation>) {
        {
            let mut concerns = self.concerns.lock();
            let before = match explanation {
                Some(explanation) => concerns.insert(about, explanation.clone()),
                None => concerns.remove(&about),
            };
            if before.as_ref() == explanation {
                return;
            }
        }
        let serves = self.status.borrow().state.serves();
        if serves {
            self.now_up(None);
        }
    }

    /// It serves; with something to look at, it is degraded.
    pub(crate) fn now_up(&self, policy: Option<String>) {
        let first = self.concerns.lock().first_key_value().map(|(_, explanation)| explanation.clone());
        self.now_in(first.map_or(State::Up, State::Degraded), policy);
    }

    pub(crate) fn now_in(&self, state: State, policy: Option<String>) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let tried = state != State::Starting;
            let same = status.state == state && status.tried == tried && policy.as_ref().is_none_or(|policy| *policy == status.policy);
            if status.state.word() != state.word() || status.state.explanation().map(|e| e.reason) != state.explanation().map(|e| e.reason)
            {
                status.since = now;
            }
            status.state = state;
            status.tried = tried;
            if let Some(policy) = policy {
                status.policy = policy;
            }
            !same
        });
        self.changed.notify_one();
    }
}

fn is_own(key: &SessionKey, era: Era) -> bool {
    *key == SessionKey::Pooled(PrincipalKey::Local, ClientCapabilities::default(), era)
}
