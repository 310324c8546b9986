//! Many requests over one child process: ids and progress tokens are renumbered, answers find their caller.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::stdio::{Child, ChildSpec, Inbound, Line, Outbound};
use crate::{
    auth::PrincipalKey,
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

static PROCESSES: AtomicU64 = AtomicU64::new(1);

/// Messages that wait for one caller. A caller that does not read loses messages, not the process's other callers; the
/// response has a place of its own.
const INBOX: usize = 256;
/// Bytes of messages that wait for one caller, the response not counted.
const INBOX_BYTES: usize = 32 << 20;
/// Largest message that is passed on although it answers no request, in bytes.
const MAX_NOTICE: usize = 256 * 1024;
/// Answers of the gateway's own (pings, refusals) that wait for a child that does not read.
const OWN_ANSWERS: usize = 16;

/// Time for a child to end by itself after its stdin was closed.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running child and the requests that wait for its answers.
#[derive(Debug)]
pub(crate) struct Process {
    /// Unique in this gateway's life; a process id may be used again.
    number: u64,
    out: Outbound,
    /// By our id; a tree, because "the newest" is asked for.
    waiting: Mutex<BTreeMap<u64, Waiter>>,
    own_answers: Arc<Semaphore>,
    next_id: AtomicU64,
    principal: PrincipalKey,
    notices: Notices,
    ended: watch::Receiver<Option<Explanation>>,
    stop: watch::Sender<bool>,
}

/// A request that waits for its response.
#[derive(Debug)]
struct Waiter {
    inbox: mpsc::Sender<Bytes>,
    /// Bytes that wait in the inbox.
    queued: Arc<AtomicUsize>,
    /// The place of the response, kept free from the beginning.
    response: mpsc::OwnedPermit<Bytes>,
    owner: Option<SessionId>,
}

impl Waiter {
    fn take(&self, message: Bytes) {
        let length = message.len();
        if self.queued.load(Ordering::Relaxed) + length > INBOX_BYTES {
            return tracing::debug!("a caller does not read its messages; one dropped");
        }
        self.queued.fetch_add(length, Ordering::Relaxed);
        if self.inbox.try_send(message).is_err() {
            self.queued.fetch_sub(length, Ordering::Relaxed);
            tracing::debug!("a caller does not read its messages; one dropped");
        }
    }
}

/// Ends the wait for one answer when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    process: Arc<Process>,
    id: u64,
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
        self.process.waiting.lock().remove(&self.id);
    }
}

impl Process {
    /// Starts the child. Messages that answer no request go to `notices`; what does not fit there is dropped. The permit is
    /// kept until the child is gone.
    ///
    /// # Errors
    /// `spawn_failed`
    pub(crate) async fn start(
        spec: ChildSpec<'_>,
        principal: PrincipalKey,
        notices: Notices,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Arc<Self>, Explanation> {
        let counted = spec.alive.token();
        let (child, inbound) = Child::spawn(spec).await?;
        let (tell_end, ended) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let number = PROCESSES.fetch_add(1, Ordering::Relaxed);
        let (out, next_id) = (child.sender(), AtomicU64::new(1));
        let process = Arc::new(Self {
            number,
            out,
            waiting: Mutex::default(),
            own_answers: Arc::new(Semaphore::new(OWN_ANSWERS)),
            next_id,
            principal,
            notices,
            ended,
            stop,
        });
        // The task ends with the child, or when the last handle to the process is gone.
        let work = attend(Arc::downgrade(&process), child, inbound, stopped, tell_end);
        tokio::spawn(async move {
            work.await;
            drop(permit);
            drop(counted);
        });
        Ok(process)
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
    /// `exited` when the child is gone.
    pub(crate) async fn request(self: &Arc<Self>, id: u64, owner: Option<SessionId>, body: Bytes) -> Result<Messages, UpstreamError> {
        let (tx, inbox) = mpsc::channel(INBOX + 1);
        let response = tx.clone().try_reserve_owned().expect("a new channel has room");
        let queued = Arc::new(AtomicUsize::new(0));
        self.waiting.lock().insert(id, Waiter { inbox: tx, queued: Arc::clone(&queued), response, owner });
        let waiting = Waiting { process: Arc::clone(self), id, queued };
        self.send(body).await?;
        Ok(Messages::of_process(inbox, waiting))
    }

    /// Sends a notification, or the answer to a request of the child's.
    ///
    /// # Errors
    /// `exited` when the child is gone.
    pub(crate) async fn send(&self, body: Bytes) -> Result<(), UpstreamError> {
        match self.out.send(body).await {
            Ok(()) => Ok(()),
            Err(_) => Err(UpstreamError::Failed { explanation: self.end_explanation(), never_sent: true }),
        }
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
        self.ended.borrow().is_some() || self.ended.has_changed().is_err()
    }

    /// Waits for the end of the child.
    pub(crate) async fn ended(&self) -> Explanation {
        let mut ended = self.ended.clone();
        let _ = ended.wait_for(Option::is_some).await;
        self.end_explanation()
    }

    /// Asks the child to end; it is killed with its whole group if it does not.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn dispatch(&self, line: Bytes) {
        let message = match Message::parse(line) {
            Ok(message) => message,
            Err(error) => return tracing::warn!(%error, "a child's line is not JSON-RPC; dropped"),
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
                if let (Err(_), Some(id)) = (self.tell_only_owner(message.into_bytes()), id) {
                    self.answer(error_response(Some(&id), code::METHOD_NOT_FOUND, "there is no single client to ask", None));
                }
            }
            Kind::Notification => self.dispatch_notification(message),
        }
    }

    fn dispatch_notification(&self, message: Message) {
        // A subscription's messages share stdout with everything else (MCP 2026-07-28, basic/subscriptions).
        if let Some(tag) = message.raw(Field::MetaSubscriptionId) {
            let waiting = self.waiting.lock();
            let id = Id::from_json(tag).ok().and_then(|tag| tag.as_u64());
            return match id.and_then(|id| waiting.get(&id)) {
                Some(waiter) => waiter.take(message.into_bytes()),
                None => tracing::debug!("a message for no open subscription; dropped"),
            };
        }
        if message.method() == "notifications/progress" {
            let token = message.raw(Field::ProgressToken).and_then(|raw| Id::from_json(raw).ok()).and_then(|token| token.as_u64());
            let waiting = self.waiting.lock();
            return match token.and_then(|token| waiting.get(&token)) {
                Some(waiter) => waiter.take(message.into_bytes()),
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
        newest.take(message);
        Ok(())
    }

    /// In a task of its own, so that a child that does not read cannot stop us from reading; only so many at a time.
    fn answer(&self, answer: Bytes) {
        let Ok(place) = Arc::clone(&self.own_answers).try_acquire_owned() else {
            return tracing::debug!("a child asks and does not read the answers; one dropped");
        };
        let out = self.out.clone();
        tokio::spawn(async move {
            if let Err(error) = out.send(answer).await {
                tracing::debug!(%error, "a child could not be answered");
            }
            drop(place);
        });
    }

    fn notice(&self, message: Bytes) {
        if message.len() > MAX_NOTICE {
            return tracing::debug!("a notification is larger than 256 KiB; dropped");
        }
        if self.notices.try_send(Notice { principal: self.principal.clone(), process: self.number, message }).is_err() {
            tracing::debug!("nobody takes this process's notifications; one dropped");
        }
    }
}

/// The child ends when nobody needs it any more.
impl Drop for Process {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn attend(
    process: std::sync::Weak<Process>,
    child: Child,
    mut inbound: Inbound,
    mut stopped: watch::Receiver<bool>,
    tell_end: watch::Sender<Option<Explanation>>,
) {
    loop {
        tokio::select! {
            line = inbound.next() => match line {
                Some(Line::Message(bytes)) => match process.upgrade() {
                    Some(process) => process.dispatch(bytes),
                    None => break,
                },
                Some(Line::TooLong { .. }) => tracing::warn!("a child's line exceeds mcp.bounds.max_line; dropped"),
                Some(Line::NotJson { .. }) => tracing::warn!("a child wrote something other than JSON to its stdout; dropped"),
                None => break,
            },
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    let asked_to_end = *stopped.borrow();
    let explanation = if asked_to_end { None } else { Some(inbound.explain().await) };
    let report = child.shutdown(SHUTDOWN_GRACE).await;
    tracing::debug!(%report, "process ended");
    let ended =
        || Explanation::new(Reason::Exited, "it was ended because nobody needed it any more", "nothing; the next call starts another");
    tell_end.send_replace(Some(explanation.unwrap_or_else(ended)));
    if let Some(process) = process.upgrade() {
        // Dropping the senders ends every caller's stream.
        process.waiting.lock().clear();
    }
}
