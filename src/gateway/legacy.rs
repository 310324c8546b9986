//! The live side of a legacy client's session: its upstream sessions, open requests and streams.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    flights::Flights,
    outbox::{Inlet, Outbox, Refused, outbox},
    outlive::MAX_OUTLIVING_OF_ONE,
    questions::Questions,
    replay::Kept,
    replicas::SharedSession,
    subscriptions::{self, Feeds, Wanted},
};
use crate::{
    auth::Caller,
    bridge::Declared,
    mcp::{Id, Message, Method, json::lookup},
    names::UpstreamName,
    session::{SessionId, SessionRecord},
    upstream::{ClientCapabilities, Session, Upstream, UpstreamError, UpstreamId},
};

/// Requests of servers that may wait for one client at a time.
const MAX_ASKED: usize = 128;
/// Those of one upstream among them, so that it leaves room for the others.
const MAX_ASKED_BY_ONE: usize = 32;

/// One legacy client.
#[derive(Debug)]
pub struct LegacySession {
    pub record: SessionRecord,
    /// As it was identified last: its groups may change, its principal does not.
    caller: Mutex<Caller>,
    /// It has its place among those of its holder.
    pub(super) is_counted: AtomicBool,
    /// As it was identified first.
    pub(super) opened_by: Caller,
    /// There may be something open that its groups may not use any more.
    may_hold_denied: AtomicBool,
    pub(super) flags: ClientCapabilities,
    /// Read when the first modern server is told.
    declared: OnceLock<Declared>,
    /// What it was asked on behalf of modern servers.
    pub(super) questions: Questions,
    /// Of this client among all that subscribe to something.
    pub(super) number: u64,
    pub(super) subscribed: Wanted,
    pub(super) feeds: Feeds,
    /// Filled lazily. Read by every call, written when a session is opened or lost.
    upstream: ArcSwap<Vec<(UpstreamId, Arc<Session>)>>,
    log_level: Mutex<Option<Bytes>>,
    asked: Mutex<HashMap<Id, Asked>>,
    pub(super) flights: Flights,
    outbox: Mutex<Option<Inlet>>,
    /// What is kept for a client that comes back.
    pub(super) kept: Kept,
    /// Places for calls that go on although the client hung up.
    pub(super) outliving: Arc<Semaphore>,
    /// Upstream sessions whose own streams are brought to the client's.
    followed: Mutex<HashMap<UpstreamId, Arc<Session>>>,
    /// Milliseconds since the process began to keep sessions.
    last_used: AtomicU64,
    /// Present where other replicas serve it, too.
    pub(super) shared: Option<Box<SharedSession>>,
    /// Cancelled when the session ends.
    pub(super) end: CancellationToken,
}

/// A server's request that was passed to the client and waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) upstream: Arc<Upstream>,
    pub(super) session: Arc<Session>,
    /// The server's own id.
    pub(super) id: Id,
}

impl Asked {
    /// Passes the answer to the server that asked.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(super) async fn answer(&self, answer: Bytes) -> Result<(), UpstreamError> {
        self.upstream.generation()?.notify(&self.session, answer).await
    }
}

impl LegacySession {
    pub(super) fn new(record: SessionRecord, caller: Caller) -> Self {
        let flags = ClientCapabilities::read(&record.capabilities);
        let opened_by = caller.at_rest();
        Self {
            record,
            caller: Mutex::new(caller.owing_nothing()),
            is_counted: AtomicBool::new(false),
            opened_by,
            may_hold_denied: AtomicBool::new(false),
            flags,
            declared: OnceLock::new(),
            questions: Questions::default(),
            number: subscriptions::next_number(),
            subscribed: Wanted::default(),
            feeds: Feeds::default(),
            upstream: ArcSwap::default(),
            log_level: Mutex::default(),
            asked: Mutex::default(),
            flights: Flights::default(),
            outbox: Mutex::default(),
            kept: Kept::default(),
            outliving: Arc::new(Semaphore::new(MAX_OUTLIVING_OF_ONE)),
            followed: Mutex::default(),
            last_used: AtomicU64::new(0),
            shared: None,
            end: CancellationToken::new(),
        }
    }

    /// The same, served by any replica; this one has this name.
    pub(super) fn shared(record: SessionRecord, caller: Caller, replica: &str) -> Self {
        Self { shared: Some(Box::new(SharedSession::new(replica))), ..Self::new(record, caller) }
    }

    /// Other replicas serve it, too.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What modern servers are told that the client can do.
    pub(super) fn declared(&self) -> &Declared {
        self.declared.get_or_init(|| Declared::read(&self.record.capabilities, self.record.version))
    }

    pub fn id(&self) -> SessionId {
        self.record.id
    }

    /// Who it is, as it was identified with its last request.
    pub(super) fn caller(&self) -> Caller {
        self.caller.lock().clone()
    }

    fn comes_as(&self, caller: &Caller) {
        let mut known = self.caller.lock();
        if known.groups() != caller.groups() {
            *known = caller.clone().owing_nothing();
            self.may_hold_denied();
        }
    }

    /// What its groups may not use is to be ended with its next request.
    pub(super) fn may_hold_denied(&self) {
        self.may_hold_denied.store(true, Ordering::Relaxed);
    }

    /// Whether that was said since this was asked last.
    pub(super) fn is_to_end_denied(&self) -> bool {
        self.may_hold_denied.load(Ordering::Relaxed) && self.may_hold_denied.swap(false, Ordering::Relaxed)
    }

    /// Nothing of this upstream is followed any more.
    pub(super) fn unsubscribe_all(&self, upstream: &UpstreamName) {
        self.subscribed.remove_all(upstream);
        self.feeds.end(upstream);
    }

    /// Cancelled when the session ends.
    pub fn end_token(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Waits for the end of the session.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// The upstreams that the client has a session with.
    pub fn reached(&self) -> Vec<UpstreamId> {
        self.upstream.load().iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn upstream_session(&self, upstream: UpstreamId) -> Option<Arc<Session>> {
        self.upstream.load().iter().find(|(id, _)| *id == upstream).map(|(_, session)| Arc::clone(session))
    }

    /// `None` forgets it.
    pub(super) fn keep_upstream_session(&self, upstream: UpstreamId, session: Option<&Arc<Session>>) {
        self.upstream.rcu(|held| {
            let others = held.iter().filter(|(id, _)| *id != upstream).cloned();
            others.chain(session.map(|session| (upstream, Arc::clone(session)))).collect::<Vec<_>>()
        });
    }

    pub(super) fn log_level(&self) -> Option<Bytes> {
        self.log_level.lock().clone()
    }

    pub(super) fn set_log_level(&self, level: &[u8]) {
        // A copy, so that the session does not hold the whole request.
        *self.log_level.lock() = Some(Bytes::copy_from_slice(level));
    }

    /// An id for what the client is asked: unguessable, and it says which replica asks.
    pub(super) fn question_id(&self) -> Id {
        let random = SessionId::random();
        Id::from_string(&self.shared.as_ref().map_or_else(|| random.to_string(), |shared| shared.question_id(random)))
    }

    /// The upstream sessions that it has.
    pub(super) fn upstream_sessions(&self) -> Vec<(UpstreamId, Arc<Session>)> {
        self.upstream.load().to_vec()
    }

    /// Remembers a server's request and gives the id under which the client sees it: unguessable, good for one answer.
    pub(super) fn ask(&self, asked: Asked) -> Option<Id> {
        let id = self.question_id();
        let mut open = self.asked.lock();
        let by_this = open.values().filter(|other| Arc::ptr_eq(&other.session, &asked.session)).count();
        (open.len() < MAX_ASKED && by_this < MAX_ASKED_BY_ONE).then(|| {
            open.insert(id.clone(), asked);
            id
        })
    }

    /// Whether the client has declared that servers may ask it this. What the specification does not know is its own affair.
    pub(super) fn allows(&self, request: &Message) -> bool {
        let Some(method) = Method::parse(request.method()) else { return true };
        match method {
            Method::RootsList => self.flags.roots,
            Method::CreateMessage => self.flags.sampling,
            Method::Elicit => self.flags.elicitation_form || self.flags.elicitation_url,
            // Clients have tasks, too: of what servers ask them (MCP 2025-11-25, basic/utilities/tasks).
            Method::TasksGet | Method::TasksResult | Method::TasksList | Method::TasksCancel => {
                lookup(&self.record.capabilities, &["tasks"]).is_some_and(|declared| declared != b"null")
            }
            // A client's own requests.
            _ => false,
        }
    }

    /// The id under which the client was asked what the server of this session calls `id`, and takes back now.
    pub(super) fn taken_back(&self, session: &Arc<Session>, id: &Id) -> Option<Id> {
        let mut open = self.asked.lock();
        let is_it = |asked: &Asked| Arc::ptr_eq(&asked.session, session) && asked.id == *id;
        let granted = open.iter().find(|(_, asked)| is_it(asked)).map(|(granted, _)| granted.clone())?;
        open.remove(&granted);
        Some(granted)
    }

    pub(super) fn answered(&self, id: &Id) -> Option<Asked> {
        self.asked.lock().remove(id)
    }

    /// Drops requests of a server that nobody will answer any more, and gives those that were still open.
    pub(super) fn withdraw(&self, ids: &[Id]) -> Vec<Asked> {
        let mut open = self.asked.lock();
        ids.iter().filter_map(|id| open.remove(id)).collect()
    }

    pub(super) fn is_asked(&self, id: &Id) -> bool {
        self.asked.lock().contains_key(id)
    }

    /// Opens the client's stream of messages that answer no request; an earlier one ends.
    pub(super) fn open_outbox(&self) -> Outbox {
        let (inlet, outbox) = outbox();
        *self.outbox.lock() = Some(inlet);
        outbox
    }

    /// Waits until the client has no such stream.
    pub(super) async fn stream_closed(&self) {
        loop {
            let closed = self.outbox.lock().as_ref().map(|inlet| inlet.closed().clone());
            match closed {
                Some(closed) if !closed.is_cancelled() => closed.cancelled().await,
                _ => return,
            }
        }
    }

    pub(super) fn has_stream(&self) -> bool {
        self.outbox.lock().as_ref().is_some_and(|inlet| !inlet.closed().is_cancelled())
    }

    /// Ends that stream: the client has another one elsewhere.
    pub(super) fn end_stream(&self) {
        *self.outbox.lock() = None;
    }

    /// Puts a message on that stream; `false` when there is none, or nobody reads it.
    pub(super) fn tell(&self, message: Bytes) -> bool {
        let mut outbox = self.outbox.lock();
        match outbox.as_mut().map(|inlet| inlet.put(message)) {
            Some(Ok(())) => return true,
            Some(Err(Refused::Closed)) => *outbox = None,
            Some(Err(Refused::Full)) => {
                tracing::debug!(session = ?self.id(), "the client does not read its stream; a message was dropped");
            }
            None => {}
        }
        false
    }

    /// `false` when the upstream session is followed already.
    pub(super) fn begin_following(&self, upstream: UpstreamId, session: &Arc<Session>) -> bool {
        let mut followed = self.followed.lock();
        if followed.get(&upstream).is_some_and(|held| Arc::ptr_eq(held, session)) {
            return false;
        }
        followed.insert(upstream, Arc::clone(session));
        true
    }

    pub(super) fn end_following(&self, upstream: UpstreamId, session: &Arc<Session>) {
        let mut followed = self.followed.lock();
        if followed.get(&upstream).is_some_and(|held| Arc::ptr_eq(held, session)) {
            followed.remove(&upstream);
        }
    }

    /// Ends the following because the client has no stream; `false` when it has one again, and the following goes on.
    pub(super) fn end_following_unheard(&self, upstream: UpstreamId, session: &Arc<Session>) -> bool {
        // A client's new stream is there before its `begin_following` takes this lock.
        let mut followed = self.followed.lock();
        let is_this = followed.get(&upstream).is_some_and(|held| Arc::ptr_eq(held, session));
        if is_this && self.has_stream() {
            return false;
        }
        if is_this {
            followed.remove(&upstream);
        }
        true
    }

    /// Later is larger.
    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Whether the client waits for something.
    pub fn is_busy(&self) -> bool {
        self.has_stream() || !self.flights.is_empty()
    }
}

/// All live legacy sessions of this process.
#[derive(Debug)]
pub struct Sessions {
    live: RwLock<HashMap<SessionId, Arc<LegacySession>>>,
    began: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { live: RwLock::default(), began: Instant::now() }
    }
}

impl Sessions {
    /// `false` when there are `max` already.
    pub(super) fn add(&self, session: Arc<LegacySession>, max: usize) -> bool {
        self.touch(&session);
        if let Some(shared) = &session.shared {
            // The store has just heard of it.
            shared.renewed.store(self.now(), Ordering::Relaxed);
        }
        let mut live = self.live.write();
        if live.len() >= max {
            return false;
        }
        live.insert(session.id(), session);
        true
    }

    /// The session, if it exists and is this caller's. Another's session looks like none.
    pub fn find(&self, id: SessionId, caller: &Caller) -> Option<Arc<LegacySession>> {
        let session = self.live.read().get(&id).filter(|session| session.record.principal == *caller.principal()).map(Arc::clone)?;
        self.touch(&session);
        session.comes_as(caller);
        Some(session)
    }

    /// The session, whosever it is.
    pub(super) fn peek(&self, id: SessionId) -> Option<Arc<LegacySession>> {
        self.live.read().get(&id).map(Arc::clone)
    }

    /// When it was used last, and now: in milliseconds since the process began to keep sessions.
    pub(super) fn used(&self, session: &LegacySession) -> (u64, u64) {
        (session.last_used.load(Ordering::Relaxed), self.now())
    }

    pub(super) fn remove(&self, id: SessionId) -> Option<Arc<LegacySession>> {
        self.live.write().remove(&id)
    }

    /// Takes out what was neither used nor busy for `idle`.
    pub(super) fn expire(&self, idle: std::time::Duration) -> Vec<Arc<LegacySession>> {
        let now = self.now();
        let limit = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let is_old = |session: &LegacySession| now.saturating_sub(session.last_used.load(Ordering::Relaxed)) >= limit && !session.is_busy();
        let old: Vec<SessionId> = self.live.read().values().filter(|session| is_old(session)).map(|session| session.id()).collect();
        if old.is_empty() {
            return Vec::new();
        }
        let mut live = self.live.write();
        old.iter().filter_map(|id| live.remove(id)).collect()
    }

    pub fn all(&self) -> Vec<Arc<LegacySession>> {
        self.live.read().values().map(Arc::clone).collect()
    }

    pub fn count(&self) -> usize {
        self.live.read().len()
    }

    /// How long the client has not been heard of.
    pub fn idle(&self, session: &LegacySession) -> std::time::Duration {
        std::time::Duration::from_millis(self.now().saturating_sub(session.last_used.load(Ordering::Relaxed)))
    }

    fn touch(&self, session: &LegacySession) {
        session.last_used.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
