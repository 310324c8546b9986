//! Many requests over one channel, be it a child process or a legacy event stream: ids and progress tokens are renumbered,
//! answers find their caller.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

use super::{legacy_sse::Post, stdio::Outbound};
use crate::{
    auth::{Caller, PrincipalKey},
    mcp::{
        Field, Id, Kind, Message, build,
        errors::{code, error_response},
    },
    reason::{Explanation, Reason},
    session::SessionId,
    upstream::{
        UpstreamError,
        answer::Messages,
        generation::{Notice, Notices},
    },
};

static CHANNELS: AtomicU64 = AtomicU64::new(1);

/// Messages that wait for one caller. A caller that does not read loses messages, not the channel's other callers; the
/// response has a place of its own.
const INBOX: usize = 256;
/// Bytes of messages that wait for one caller, the response not counted.
const INBOX_BYTES: usize = 32 << 20;
/// Largest message that is passed on although it answers no request, in bytes.
const MAX_NOTICE: usize = 256 * 1024;
/// Longest wait for a peer to take one of them.
const OWN_ANSWER: Duration = Duration::from_secs(30);
/// Answers of the gateway's own (pings, refusals) that wait for a peer that does not read.
const OWN_ANSWERS: usize = 16;

/// Where messages go out.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Child(Outbound),
    /// One POST a message (MCP 2024-11-05, basic/transports, HTTP with SSE).
    Sse(Post),
}

/// Where messages go that belong to no request.
#[derive(Debug)]
pub(super) enum Unasked {
    /// To the upstream's supervisor, from a process that several sessions may share.
    Notices { principal: PrincipalKey, notices: Notices },
    /// To whoever listens to the session, if anybody does.
    Listener(Mutex<Option<Inbox>>),
}

/// The ends of a channel that whoever reads from its peer keeps.
pub(super) struct Ends {
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) tell_end: watch::Sender<Option<Explanation>>,
}

/// An open channel and the requests that wait for its answers.
#[derive(Debug)]
pub(crate) struct Channel {
    /// Unique in this gateway's life; a process id may be used again.
    number: u64,
    out: Out,
    /// By our id; a tree, because "the newest" is asked for.
    waiting: Mutex<BTreeMap<u64, Waiter>>,
    own_answers: Arc<Semaphore>,
    next_id: AtomicU64,
    unasked: Unasked,
    /// The peer said that it does not know the session any more.
    lost: AtomicBool,
    ended: watch::Receiver<Option<Explanation>>,
    stop: watch::Sender<bool>,
}

/// A request that waits for its response.
#[derive(Debug)]
struct Waiter {
    inbox: Inbox,
    /// The place of the response, kept free from the beginning.
    response: mpsc::OwnedPermit<Bytes>,
    owner: Option<SessionId>,
}

/// A bounded queue of messages for one reader, which is never waited for.
#[derive(Debug)]
pub(super) struct Inbox {
    tx: mpsc::Sender<Bytes>,
    /// Bytes that wait in it.
    queued: Arc<AtomicUsize>,
}

impl Inbox {
    /// `false` when the message was dropped.
    fn take(&self, message: Bytes) -> bool {
        let length = message.len();
        let fits = self.queued.fetch_add(length, Ordering::Relaxed) + length <= INBOX_BYTES && self.tx.try_send(message).is_ok();
        if !fits {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            tracing::debug!("a caller does not read its messages; one dropped");
        }
        fits
    }
}

/// Ends the wait for one answer when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    channel: Arc<Channel>,
    /// `None`: it listens for what belongs to no request.
    id: Option<u64>,
    queued: Arc<AtomicUsize>,
}

impl Waiting {
    /// A message was read from the inbox. The response was never counted, so this may come to nothing.
    pub(crate) fn read(&self, length: usize) {
        let _ = self.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| Some(queued.saturating_sub(length)));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        match (self.id, &self.channel.unasked) {
            (Some(id), _) => drop(self.channel.waiting.lock().remove(&id)),
            (None, Unasked::Listener(listener)) => {
                // Another may listen by now.
                let mut listener = listener.lock();
                if listener.as_ref().is_some_and(|inbox| Arc::ptr_eq(&inbox.queued, &self.queued)) {
                    *listener = None;
                }
            }
            (None, Unasked::Notices { .. }) => {}
        }
    }
}

impl Channel {
    /// A channel to a peer that whoever holds the [`Ends`] reads from.
    pub(super) fn new(out: Out, unasked: Unasked) -> (Arc<Self>, Ends) {
        let (tell_end, ended) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let channel = Self {
            number: CHANNELS.fetch_add(1, Ordering::Relaxed),
            out,
            waiting: Mutex::default(),
            own_answers: Arc::new(Semaphore::new(OWN_ANSWERS)),
            next_id: AtomicU64::new(1),
            unasked,
            lost: AtomicBool::new(false),
            ended,
            stop,
        };
        (Arc::new(channel), Ends { stopped, tell_end })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request whose id is `id` and gives the stream of what belongs to it.
    ///
    /// # Errors
    /// `exited` when the child is gone; `SessionLost` when the event stream is, and whatever keeps the request from arriving.
    pub(crate) async fn request(
        self: &Arc<Self>,
        id: u64,
        owner: Option<SessionId>,
        caller: Option<Caller>,
        body: Bytes,
    ) -> Result<Messages, UpstreamError> {
        let (tx, inbox) = mpsc::channel(INBOX + 1);
        let response = tx.clone().try_reserve_owned().expect("a new channel has room");
        let queued = Arc::new(AtomicUsize::new(0));
        let waiter = Waiter { inbox: Inbox { tx, queued: Arc::clone(&queued) }, response, owner };
        self.waiting.lock().insert(id, waiter);
        let waiting = Waiting { channel: Arc::clone(self), id: Some(id), queued };
        match &self.out {
            Out::Child(_) => {
                self.send(body).await?;
                Ok(Messages::of_channel(inbox, waiting, None))
            }
            // The messages of the call may come before its POST is answered.
            Out::Sse(post) => {
                if self.has_ended() {
                    return Err(UpstreamError::SessionLost);
                }
                let (post, channel) = (post.clone(), Arc::clone(self));
                let posted = Box::pin(async move { channel.posted(post.send(caller, body).await) });
                let mut messages = Messages::of_channel(inbox, waiting, Some(posted));
                messages.begun().await?;
                Ok(messages)
            }
        }
    }

    /// Sends a notification, or the answer to a request of the peer's.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub(crate) async fn send(&self, body: Bytes) -> Result<(), UpstreamError> {
        match &self.out {
            Out::Child(out) => match out.send(body).await {
                Ok(()) => Ok(()),
                Err(_) => Err(UpstreamError::Failed { explanation: self.end_explanation(), never_sent: true }),
            },
            Out::Sse(_) if self.has_ended() => Err(UpstreamError::SessionLost),
            Out::Sse(post) => self.posted(Box::pin(post.send(None, body)).await),
        }
    }

    fn posted(&self, posted: Result<(), UpstreamError>) -> Result<(), UpstreamError> {
        if let Err(UpstreamError::SessionLost) = posted {
            self.lost.store(true, Ordering::Relaxed);
        }
        posted
    }

    /// What belongs to no request, for one listener at a time; `None` where it goes to the supervisor.
    ///
    /// # Errors
    /// `SessionLost` when the event stream is gone.
    pub(crate) fn listen(self: &Arc<Self>) -> Result<Option<Messages>, UpstreamError> {
        let Unasked::Listener(listener) = &self.unasked else { return Ok(None) };
        let (tx, inbox) = mpsc::channel(INBOX);
        let queued = Arc::new(AtomicUsize::new(0));
        *listener.lock() = Some(Inbox { tx, queued: Arc::clone(&queued) });
        // Asked afterwards: whoever ends it looks for a listener afterwards too.
        if self.has_ended() {
            *listener.lock() = None;
            return Err(UpstreamError::SessionLost);
        }
        Ok(Some(Messages::of_channel(inbox, Waiting { channel: Arc::clone(self), id: None, queued }, None)))
    }

    /// Why the process is of no use any more.
    pub(crate) fn end_explanation(&self) -> Explanation {
        self.ended.borrow().clone().unwrap_or_else(|| {
            Explanation::new(Reason::Exited, "the process does not take messages any more", "look at its stderr in the log")
        })
    }

    /// No request waits for its response.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.ended.borrow().is_some() || self.ended.has_changed().is_err()
    }

    /// Waits for the end of the peer.
    pub(crate) async fn ended(&self) -> Explanation {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(Option::is_some).await;
        self.end_explanation()
    }

    /// Asks a child to end, which is killed with its whole group if it does not; closes an event stream.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends every caller's stream.
    pub(super) fn let_go(&self) {
        self.waiting.lock().clear();
        if let Unasked::Listener(listener) = &self.unasked {
            *listener.lock() = None;
        }
    }

    /// Brings one message of the peer's to whom it concerns.
    pub(super) fn dispatch(&self, message: Bytes) {
        let message = match Message::parse(message) {
            Ok(message) => message,
            Err(error) => return tracing::warn!(%error, "a message is not JSON-RPC; dropped"),
        };
        match message.kind() {
            Kind::Response | Kind::ErrorResponse => {
                let Some(id) = message.id().and_then(Id::as_u64) else { return };
                let waiter = self.waiting.lock().remove(&id);
                match waiter {
                    Some(waiter) => drop(waiter.response.send(message.into_bytes())),
                    None => tracing::debug!(id, "answer to no open request; dropped"),
                }
            }
            Kind::Request if message.method() == "ping" => {
                if let Some(id) = message.id() {
                    self.answer(build::response(id, b"{}"));
                }
            }
            // A server's request belongs to a request of the client's (MCP 2026-07-28, basic/patterns), and this transport
            // does not tell which. Nobody is asked what may be meant for somebody else.
            Kind::Request => {
                let id = message.id().cloned();
                let told = self.tell_only_owner(message.into_bytes()).or_else(|message| self.tell_listener(message));
                if let (Err(_), Some(id)) = (told, id) {
                    self.answer(error_response(Some(&id), code::METHOD_NOT_FOUND, "there is no single client to ask", None));
                }
            }
            Kind::Notification => self.dispatch_notification(message),
        }
    }

    fn dispatch_notification(&self, message: Message) {
        // A subscription's messages share the channel with everything else (MCP 2026-07-28, basic/subscriptions).
        if let Some(tag) = message.raw(Field::MetaSubscriptionId) {
            let waiting = self.waiting.lock();
            let id = Id::from_json(tag).ok().and_then(|tag| tag.as_u64());
            return match id.and_then(|id| waiting.get(&id)) {
                Some(waiter) => {
                    waiter.inbox.take(message.into_bytes());
                }
                None => tracing::debug!("a message for no open subscription; dropped"),
            };
        }
        if message.method() == "notifications/progress" {
            let token = message.raw(Field::ProgressToken).and_then(|raw| Id::from_json(raw).ok()).and_then(|token| token.as_u64());
            let waiting = self.waiting.lock();
            return match token.and_then(|token| waiting.get(&token)) {
                Some(waiter) => {
                    waiter.inbox.take(message.into_bytes());
                }
                None => tracing::debug!("progress for no open request; dropped"),
            };
        }
        // A log message carries no request id: it can only be a caller's where there is one caller.
        let is_log = message.method() == "notifications/message";
        match if is_log { self.tell_only_owner(message.into_bytes()) } else { Err(message.into_bytes()) } {
            Ok(()) => {}
            Err(_) if is_log && !self.waiting.lock().is_empty() => tracing::debug!("a log message could be anyone's; dropped"),
            Err(message) => self.notice(message),
        }
    }

    /// Gives a message to the newest request, if all that wait are one client's.
    fn tell_only_owner(&self, message: Bytes) -> Result<(), Bytes> {
        let waiting = self.waiting.lock();
        let Some((_, newest)) = waiting.last_key_value() else { return Err(message) };
        let is_only = match newest.owner {
            None => waiting.len() == 1,
            Some(owner) => waiting.values().all(|waiter| waiter.owner == Some(owner)),
        };
        if !is_only {
            return Err(message);
        }
        newest.inbox.take(message);
        Ok(())
    }

    fn tell_listener(&self, message: Bytes) -> Result<(), Bytes> {
        match &self.unasked {
            Unasked::Listener(listener) => match &*listener.lock() {
                Some(inbox) => inbox.take(message.clone()).then_some(()).ok_or(message),
                None => Err(message),
            },
            Unasked::Notices { .. } => Err(message),
        }
    }

    /// In a task of its own, so that a peer that does not read cannot stop us from reading; only so many at a time.
    fn answer(&self, answer: Bytes) {
        let Ok(place) = Arc::clone(&self.own_answers).try_acquire_owned() else {
            return tracing::debug!("an upstream asks and does not read the answers; one dropped");
        };
        let out = self.out.clone();
        tokio::spawn(async move {
            let sent = async {
                match out {
                    Out::Child(out) => out.send(answer).await.map_err(|error| error.to_string()),
                    Out::Sse(post) => post.send(None, answer).await.map_err(|error| error.to_string()),
                }
            };
            if let Err(error) = timeout(OWN_ANSWER, sent).await.unwrap_or_else(|_| Err("it was not taken in time".to_owned())) {
                tracing::debug!(error, "an upstream could not be answered");
            }
            drop(place);
        });
    }

    fn notice(&self, message: Bytes) {
        if message.len() > MAX_NOTICE {
            return tracing::debug!("a notification is larger than 256 KiB; dropped");
        }
        match &self.unasked {
            Unasked::Notices { principal, notices } => {
                if notices.try_send(Notice { principal: principal.clone(), process: self.number, message }).is_err() {
                    tracing::debug!("nobody takes this process's notifications; one dropped");
                }
            }
            Unasked::Listener(_) => {
                if self.tell_listener(message).is_err() {
                    tracing::debug!("nobody listens to this session; a notification was dropped");
                }
            }
        }
    }
}

/// The peer is let go of when nobody needs it any more.
impl Drop for Channel {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
