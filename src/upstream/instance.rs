//! A running upstream: its condition, what it offers, and the sessions opened with it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Answer, Bounds, ClientCapabilities, Concern, EndpointConfig, Generation, Isolation, Notice, RotationRules, Session, SessionKey,
    SessionSpec, State, Status, Traffic, UpstreamConfig, UpstreamError,
    awaiting::OnBehalf,
    busy::Busy,
    credential::awaits_caller,
    ending::CLOSE_LIMIT,
    generation::Transport,
    life::Life,
    pool::{NoPlace, Pool},
    sharing::open_at,
};
use crate::{
    auth::PrincipalKey,
    clock::Clock,
    events::Events,
    mcp::{Era, offer::Offer},
    meter::Reloads,
    names::UpstreamName,
    reason::{Explanation, Reason},
    session::{Place, SessionId, UpstreamRecord},
    sources::{Files, Sources, Watcher},
};

/// A pooled upstream session without work is ended after this long.
const POOL_IDLE: Duration = Duration::from_secs(600);

static UPSTREAMS: AtomicU64 = AtomicU64::new(1);

/// Tells one upstream from every other in this process's life, also from one that had its name before a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(u64);

#[cfg(test)]
impl UpstreamId {
    pub(crate) fn of_test(id: u64) -> Self {
        Self(id)
    }
}

/// What all upstreams are given.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub bounds: Bounds,
    pub clock: Arc<dyn Clock>,
    pub sources: Arc<dyn Sources>,
    /// Told after every change of a state or an offer.
    pub changed: Arc<Notify>,
    /// Takes what upstreams say without being asked.
    pub notices: mpsc::Sender<(UpstreamId, Notice)>,
    pub events: Events,
    pub watcher: Watcher,
    pub rules: Arc<RotationRules>,
}

/// One upstream of the running gateway.
#[derive(Debug)]
pub struct Upstream {
    id: UpstreamId,
    name: UpstreamName,
    /// As last configured; what runs may lag behind it.
    pub(super) config: ArcSwap<UpstreamConfig>,
    pub(crate) bounds: Bounds,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) notices: mpsc::Sender<(UpstreamId, Notice)>,
    pub(crate) recheck: Notify,
    /// There is another configuration for the same server.
    pub(crate) reconfigured: Notify,
    /// The stream for changes was interrupted: what it would have said is looked up.
    pub(crate) missed: Notify,
    pub(crate) files: Files,
    pub(crate) reloads: Reloads,
    pub(crate) events: Events,
    pub(super) rules: Arc<RotationRules>,
    /// Of the generation that served last, be it that it serves no more.
    pub(super) latest: Mutex<Life>,
    /// Generations that were replaced and are not over yet, oldest first.
    pub(super) draining: Mutex<VecDeque<Life>>,
    /// Told when one of them is over.
    pub(super) drained: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) dismissed: CancellationToken,
    /// Cancelled by the end of this upstream, whether by a reload or by the gateway's.
    pub(super) ended: CancellationToken,
    /// Held while its files are read.
    pub(crate) reading: Arc<tokio::sync::Mutex<()>>,
    pub(super) running: ArcSwapOption<Generation>,
    offer: ArcSwapOption<Offer>,
    pub(super) status: watch::Sender<Status>,
    pub(super) was_up: AtomicBool,
    pub(super) traffic: Arc<Traffic>,
    /// Whose own it is, if it is one principal's.
    pub(super) behalf: Option<OnBehalf>,
    /// As callers' own upstreams found it, for those that come after.
    pub(super) era: Mutex<Option<Era>>,
    pub(super) concerns: Mutex<BTreeMap<Concern, Explanation>>,
    /// The server asked to be left alone for a while.
    pub(crate) busy: Busy,
    /// Why the last checks failed, while that is not enough to call it down.
    pub(super) suspicion: Mutex<Option<Explanation>>,
    pub(super) sessions: Pool,
    /// One permit a process besides the gateway's own, kept until the process is gone; across all generations.
    pub(crate) processes: Arc<Semaphore>,
    /// Every process from before its start until it is gone, of whatever session and generation.
    pub(crate) alive: TaskTracker,
}

impl Upstream {
    pub fn new(config: UpstreamConfig, surroundings: Surroundings) -> Self {
        let since = surroundings.clock.now();
        let (status, _) = watch::channel(Status { state: State::Starting, since, tried: false, policy: String::new() });
        let processes = match &config.endpoint {
            EndpointConfig::Http(_) => 0,
            EndpointConfig::Stdio(stdio) => stdio.max_processes.saturating_sub(1),
        };
        let files = Files::new(Arc::clone(&surroundings.sources), &surroundings.watcher);
        Self {
            id: UpstreamId(UPSTREAMS.fetch_add(1, Ordering::Relaxed)),
            name: config.name.clone(),
            config: ArcSwap::from_pointee(config),
            bounds: surroundings.bounds,
            clock: surroundings.clock,
            sources: surroundings.sources,
            changed: surroundings.changed,
            notices: surroundings.notices,
            recheck: Notify::new(),
            reconfigured: Notify::new(),
            missed: Notify::new(),
            files,
            reloads: Reloads::default(),
            events: surroundings.events,
            rules: surroundings.rules,
            latest: Mutex::default(),
            draining: Mutex::default(),
            drained: Notify::new(),
            tasks: TaskTracker::new(),
            dismissed: CancellationToken::new(),
            ended: CancellationToken::new(),
            reading: Arc::default(),
            running: ArcSwapOption::empty(),
            offer: ArcSwapOption::empty(),
            status,
            was_up: AtomicBool::new(false),
            traffic: Arc::default(),
            behalf: None,
            era: Mutex::default(),
            concerns: Mutex::default(),
            busy: Busy::default(),
            suspicion: Mutex::default(),
            sessions: Pool::new(),
            processes: Arc::new(Semaphore::new(processes)),
            alive: TaskTracker::new(),
        }
    }

    pub fn id(&self) -> UpstreamId {
        self.id
    }

    pub fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// As last configured.
    pub fn config(&self) -> Arc<UpstreamConfig> {
        self.config.load_full()
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What went through it so far.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Whether it has served at least once.
    pub fn was_up(&self) -> bool {
        self.was_up.load(Ordering::Relaxed)
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
            if self.awaits_callers() && !matches!(status.state, State::Down(_)) {
                return UpstreamError::Down(awaits_caller());
            }
            let starting = || Explanation::new(Reason::Starting, "not tried to the end yet", "wait, or look at the log");
            UpstreamError::Down(status.state.explanation().cloned().unwrap_or_else(starting))
        })
    }

    /// Looks at what a call met: HTTP 429 with `Retry-After` closes the way for further ones until then.
    pub fn heed(&self, met: Result<&Answer, &UpstreamError>) {
        let after = match met {
            Ok(Answer::Json(json)) => json.retry_after.filter(|_| json.status == StatusCode::TOO_MANY_REQUESTS),
            Err(UpstreamError::Busy { status: StatusCode::TOO_MANY_REQUESTS, after }) => Some(*after),
            Ok(Answer::Messages(_) | Answer::Accepted) | Err(_) => None,
        };
        if let Some(after) = after {
            self.busy.close(after);
        }
    }

    /// How much longer the upstream refuses calls with the credential that it gets here, as it said itself.
    pub fn closed_for(&self) -> Option<Duration> {
        self.busy.closed_for()
    }

    /// Tells the supervisor of a failed exchange; only what says something about the upstream itself counts.
    ///
    /// A limit of the gateway's own says nothing, nor does the end of one client's process: the end of the process that all
    /// share is watched for.
    pub fn report(&self, error: &UpstreamError) {
        if matches!(error, UpstreamError::Failed { never_sent: true, explanation } if is_about_reaching(explanation.reason)) {
            self.recheck.notify_one();
        }
    }

    /// Tells the supervisor that the upstream contradicts what was found out about it, such as its era.
    pub fn contradicted(&self) {
        self.recheck.notify_one();
    }

    /// Has the supervisor list it anew, as after a change that it announced.
    pub fn list_again(&self) {
        self.missed.notify_one();
    }

    /// The key under which a caller's requests share an upstream session. `owner`: the downstream session, if any.
    pub fn session_key(
        &self,
        principal: &PrincipalKey,
        owner: Option<SessionId>,
        capabilities: ClientCapabilities,
        era: Era,
    ) -> SessionKey {
        match &self.config.load().endpoint {
            EndpointConfig::Http(_) => owner.map_or_else(|| SessionKey::Pooled(principal.clone(), capabilities, era), SessionKey::Owned),
            EndpointConfig::Stdio(stdio) => match (stdio.isolation, owner) {
                (Isolation::Shared, _) => SessionKey::Pooled(PrincipalKey::Local, ClientCapabilities::default(), era),
                (Isolation::Session, Some(owner)) => SessionKey::Owned(owner),
                (Isolation::Session, None) | (Isolation::Principal, _) => SessionKey::Pooled(principal.clone(), capabilities, era),
            },
        }
    }

    /// The key of the session that a principal's subscriptions share. A process says everything on its one stdout.
    pub fn listening_key(&self, principal: &PrincipalKey, era: Era) -> SessionKey {
        match (&self.config.load().endpoint, era) {
            (EndpointConfig::Http(_), Era::Legacy) => SessionKey::Listening(principal.clone()),
            (EndpointConfig::Http(_) | EndpointConfig::Stdio(_), _) => self.session_key(principal, None, ClientCapabilities::NONE, era),
        }
    }

    /// The session for `key`, opened with `spec` by whoever comes first; with a place, by whichever replica comes first.
    ///
    /// # Errors
    /// [`UpstreamError`] when it cannot be opened; the next caller tries again.
    pub async fn session(
        &self,
        generation: &Generation,
        key: &SessionKey,
        spec: impl FnOnce() -> SessionSpec + Send,
        place: Option<Place>,
    ) -> Result<Arc<Session>, UpstreamError> {
        // The gateway's own process is the local principal's without capabilities.
        if let (true, Some(own)) = (generation.is_stdio() && is_own(key, generation.era()), &generation.own_session) {
            return Ok(Arc::clone(own));
        }
        let limit = match &generation.transport {
            Transport::Http(_) => None,
            // The gateway's own process counts too.
            Transport::Stdio(host) => Some(host.config().max_processes.saturating_sub(1)),
        };
        let held = self.sessions.hold(key, limit, |session| session.serves(generation)).map_err(|no_place| {
            match (no_place, &generation.transport) {
                (NoPlace::Full, Transport::Stdio(host)) => UpstreamError::Failed { explanation: host.too_many(), never_sent: true },
                _ => owner_ended(),
            }
        })?;
        let open = || async {
            match place.filter(|_| generation.shares_sessions()) {
                Some(place) => open_at(generation, &spec(), place).await,
                None => generation.open(&spec()).await,
            }
        };
        let session = held.session(open).await?;
        if held.owner_has_ended() {
            Box::pin(generation.close(&session)).await;
            return Err(owner_ended());
        }
        Ok(session)
    }

    /// A session for `key` that is open already.
    pub fn open_session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.sessions.open(key)
    }

    /// Drops a session that the upstream does not know any more, unless it was replaced meanwhile.
    pub async fn forget(&self, key: &SessionKey, session: &Arc<Session>) {
        session.lose();
        self.sessions.forget(key, session);
        if let Some(shared) = session.shared.get() {
            Box::pin(shared.forget()).await;
        }
    }

    /// Ends what belongs to a downstream session that is at its end.
    pub fn close_owned(self: &Arc<Self>, owner: SessionId) {
        if let Some(session) = self.sessions.end(owner) {
            self.close(session);
        }
    }

    /// Gives up what belongs to a downstream session that other replicas go on with: what they share with this one stays open.
    pub fn let_go(self: &Arc<Self>, owner: SessionId) {
        self.close_own(self.sessions.take_owned(owner));
    }

    /// The same of one that was ended by another replica, which has ended what they shared.
    pub fn ended_elsewhere(self: &Arc<Self>, owner: SessionId) {
        self.close_own(self.sessions.end(owner));
    }

    fn close_own(self: &Arc<Self>, session: Option<Arc<Session>>) {
        if let Some(session) = session.filter(|session| !session.is_shared()) {
            self.close(session);
        }
    }

    /// Ends a session that no replica holds any more.
    pub fn close_left(self: &Arc<Self>, left: &UpstreamRecord) {
        if let Some(session) = Session::of_record(left) {
            self.close(Arc::new(session));
        }
    }

    /// The same of one that goes on, and may open another.
    pub fn close_for_now(self: &Arc<Self>, owner: SessionId) {
        if let Some(session) = self.sessions.take_owned(owner) {
            self.close(session);
        }
    }

    /// Ends pooled sessions that have had no work for a while.
    pub(crate) fn sweep(self: &Arc<Self>) {
        let limit = match &self.config.load().endpoint {
            EndpointConfig::Http(_) => POOL_IDLE,
            EndpointConfig::Stdio(stdio) => stdio.idle_timeout,
        };
        for session in self.sessions.take_idle(limit) {
            self.close(session);
        }
    }

    /// Says goodbye in a task of its own; nobody waits long for the answer.
    fn close(self: &Arc<Self>, session: Arc<Session>) {
        match self.running.load_full() {
            Some(generation) => drop(self.tasks.spawn(async move { drop(timeout(CLOSE_LIMIT, generation.close(&session)).await) })),
            None => session.stop(),
        }
    }

    pub(crate) fn now_serving(&self, generation: Option<Arc<Generation>>) {
        if let Some(generation) = &generation {
            *self.latest.lock() = generation.life.clone();
        }
        self.running.store(generation);
    }

    pub(crate) fn now_offering(&self, offer: Arc<Offer>) {
        self.offer.store(Some(offer));
        self.changed.notify_one();
    }
}

fn is_own(key: &SessionKey, era: Era) -> bool {
    *key == SessionKey::Pooled(PrincipalKey::Local, ClientCapabilities::default(), era)
}

fn owner_ended() -> UpstreamError {
    let explanation = Explanation::new(Reason::Protocol, "the client ended the session of this call", "nothing; the client is gone");
    UpstreamError::Failed { explanation, never_sent: false }
}

/// Whether a failure tells that the upstream cannot be reached as it could at bring-up.
pub(super) fn is_about_reaching(reason: Reason) -> bool {
    matches!(reason, Reason::Dns | Reason::Refused | Reason::Unreachable | Reason::ConnectTimeout | Reason::Proxy)
        || reason.code().starts_with("tls_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_ends_of_single_processes_say_nothing_about_reaching_the_upstream() {
        for reason in [Reason::SpawnFailed, Reason::Exited, Reason::Protocol, Reason::CallTimeout] {
            assert!(!is_about_reaching(reason), "{reason}");
        }
        for reason in [Reason::Refused, Reason::Dns, Reason::TlsExpired, Reason::TlsUnknownCa] {
            assert!(is_about_reaching(reason), "{reason}");
        }
    }
}
