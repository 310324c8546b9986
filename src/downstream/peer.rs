//! A client at the other end of one channel, which carries all its messages both ways: stdin and stdout, or an event stream.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, poll};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    batch::{Part, WayIn, collect, heard, parts},
    outlet::EventQueue,
    rescue::{rescue, rescue_opening, rescue_parse},
    stdio::to_line,
    turned_away::{self, TurnedAway},
};
use crate::{
    audit::RequestId,
    auth::Caller,
    gateway::{Client, Gateway, LegacySession, ModernClient, Reach, Reply},
    mcp::{
        Era, Id, Kind, Message, ParseError, ParseErrorKind, Version, batch,
        era::{Opening, classify},
        errors::{code, error_response},
    },
};

/// Requests in work at once. Further ones are refused: waiting would hold up the client's answers, for which those in
/// work may wait.
const IN_WORK: usize = 256;

/// Notifications and answers that are on their way to upstreams at once; the next is waited for.
const PASSING: usize = 256;

const TOO_MANY: &str = "too many requests at once; try again when one of them is answered";

/// Where messages to the client go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// As lines.
    Lines(mpsc::Sender<Bytes>),
    /// As events; the client speaks the legacy era only (MCP 2024-11-05, basic/transports).
    Events(EventQueue),
}

/// One client, with its session and its requests in work.
#[derive(Debug)]
pub(super) struct Peer {
    gateway: Arc<Gateway>,
    out: Outlet,
    session: Mutex<Option<Arc<LegacySession>>>,
    /// Requests in work, by the client's id; more than one where the client uses an id twice.
    running: Mutex<HashMap<Id, Vec<AbortHandle>>>,
    /// Told when a request is not in work any more.
    idle: Notify,
    places: Arc<Semaphore>,
    passing: Arc<Semaphore>,
    tasks: TaskTracker,
    gone: CancellationToken,
}

impl Peer {
    /// `gone` is cancelled when the client is; whoever cancels it closes the peer.
    pub(super) fn new(gateway: Arc<Gateway>, out: Outlet, gone: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            out,
            session: Mutex::default(),
            running: Mutex::default(),
            idle: Notify::new(),
            places: Arc::new(Semaphore::new(IN_WORK)),
            passing: Arc::new(Semaphore::new(PASSING)),
            tasks: TaskTracker::new(),
            gone,
        })
    }

    /// The client is gone: nobody waits for what is still running, and its session ends.
    pub(super) fn close(&self) {
        self.gone.cancel();
        for task in self.running.lock().drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
        if let Some(session) = self.session.lock().take() {
            self.gateway.end(&session);
        }
        self.tasks.close();
    }

    /// Waits until no request is in work.
    pub(super) async fn worked_off(&self) {
        loop {
            let told = self.idle.notified();
            if self.running.lock().is_empty() {
                return;
            }
            told.await;
        }
    }

    /// Takes the text of one message, or of a batch, of the client itself.
    pub(super) async fn take(self: &Arc<Self>, caller: &Caller, text: Bytes, way_in: WayIn) {
        match Message::parse(text.clone()) {
            Ok(message) => self.take_message(caller, message).await,
            Err(error) if error.kind == ParseErrorKind::Batch => match self.split(&text) {
                Ok((session, messages)) => self.take_batch(caller.clone(), session, messages, way_in).await,
                Err(error) => self.say(rescue_parse(&error).body).await,
            },
            Err(error) => self.say(rescue_parse(&error).body).await,
        }
    }

    /// Only 2025-03-26 has batches.
    fn split(&self, text: &Bytes) -> Result<(Arc<LegacySession>, Vec<Bytes>), ParseError> {
        let session = self.session.lock().clone().filter(|session| session.record.version == Version::V2025_03_26);
        let session = session.ok_or(ParseErrorKind::Batch)?;
        Ok((session, batch::split(text)?))
    }

    /// Answers the requests of a batch with a batch; what else belongs to them is said as it comes.
    async fn take_batch(self: &Arc<Self>, caller: Caller, session: Arc<LegacySession>, messages: Vec<Bytes>, way_in: WayIn) {
        let (gateway, peer, refused) = (Arc::clone(&self.gateway), Arc::clone(self), caller.clone());
        let work = async move {
            let mut parts = parts(gateway, caller, session, messages, way_in);
            let mut answers = Vec::new();
            while let Some(part) = parts.next().await {
                match part {
                    Part::Begins => {}
                    Part::Message(message) => peer.say(message).await,
                    Part::Answer(answer) => answers.push(answer),
                }
            }
            if !answers.is_empty() {
                peer.say(batch::join(&answers)).await;
            }
        };
        match self.place() {
            Some(place) => self.run(Id::from_u64(0), place, work),
            None => self.refuse_one_more(&refused, None).await,
        }
    }

    /// Takes one message.
    pub(super) async fn take_message(self: &Arc<Self>, caller: &Caller, message: Message) {
        let known = self.session.lock().clone();
        let opening = match classify(&message, None, known.is_some()) {
            Ok(opening) => opening,
            Err(error) => return self.say(rescue_opening(&error, message.id()).body).await,
        };
        let client = match (opening, known) {
            (Opening::Initialize, _) => return self.initialize(caller, &message).await,
            (Opening::Modern(_), _) if matches!(self.out, Outlet::Events(_)) => {
                let words = "this transport is not one of 2026-07-28: send initialize, or use the streamable HTTP endpoint";
                return self.say(error_response(message.id(), code::METHOD_NOT_FOUND, words, None)).await;
            }
            (Opening::Modern(_), _) => Client::Modern(Arc::new(ModernClient::default())),
            (Opening::Legacy(_), Some(session)) => Client::Legacy(session),
            // A modern client's notification says no version; a legacy one sends none before initialize.
            (Opening::Legacy(_), None) if message.kind() == Kind::Notification => Client::Modern(Arc::new(ModernClient::default())),
            (Opening::Legacy(_), None) => {
                let words = "Invalid request: send initialize first";
                return self.say(error_response(message.id(), code::INVALID_REQUEST, words, None)).await;
            }
        };
        match message.kind() {
            Kind::Request => self.start(caller.clone(), client, message).await,
            Kind::Notification => {
                if let Some(id) =
                    message.cancelled_id().filter(|_| message.method() == "notifications/cancelled" && client.era() == Era::Modern)
                {
                    self.cancel(&id);
                }
                let gateway = Arc::clone(&self.gateway);
                self.pass_on(async move { heard(gateway.notified(&client, &message).await) }).await;
            }
            Kind::Response | Kind::ErrorResponse => {
                let gateway = Arc::clone(&self.gateway);
                self.pass_on(async move { heard(gateway.answered(&client, message).await) }).await;
            }
        }
    }

    /// Begins what is for upstreams, in the order of its coming, and ends it beside the reading: an upstream that is slow to hear
    /// it holds up nothing that is for another.
    async fn pass_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        if poll!(&mut work).is_ready() {
            return;
        }
        match Arc::clone(&self.passing).try_acquire_owned() {
            Ok(place) => drop(self.tasks.spawn(async move {
                work.await;
                drop(place);
            })),
            Err(_) => work.await,
        }
    }

    async fn initialize(self: &Arc<Self>, caller: &Caller, message: &Message) {
        match self.gateway.initialize(caller, message, Reach::Here).await {
            Ok((session, reply)) => {
                let mut outbox = self.gateway.open_stream(&session);
                let ended = session.end_token();
                if let Some(old) = self.session.lock().replace(session) {
                    self.gateway.end(&old);
                }
                // Whoever closed it meanwhile found no session yet.
                if self.gone.is_cancelled()
                    && let Some(session) = self.session.lock().take()
                {
                    return self.gateway.end(&session);
                }
                self.send(reply, message.id().cloned(), Era::Legacy).await;
                let peer = Arc::downgrade(self);
                let gone = self.gone.clone();
                self.tasks.spawn(async move {
                    loop {
                        let message = tokio::select! {
                            message = outbox.next() => message,
                            () = ended.cancelled() => None,
                            () = gone.cancelled() => None,
                        };
                        let (Some(message), Some(peer)) = (message, peer.upgrade()) else { break };
                        peer.say(message).await;
                    }
                });
            }
            Err(error) => self.say(rescue(&error, message.id(), Era::Legacy).body).await,
        }
    }

    async fn start(self: &Arc<Self>, caller: Caller, client: Client, message: Message) {
        let Some(id) = message.id().cloned() else { return };
        let Some(place) = self.place() else { return self.refuse_one_more(&caller, Some(&id)).await };
        let (peer, era, key) = (Arc::clone(self), client.era(), id.clone());
        let work = async move {
            match peer.gateway.handle(&caller, &client, message).await {
                Ok(reply) => peer.send(reply, Some(id), era).await,
                Err(error) => peer.say(rescue(&error, Some(&id), era).body).await,
            }
        };
        self.run(key, place, work);
    }

    /// Room for one more request; `None` when too many are in work.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    pub(super) async fn refuse_one_more(&self, caller: &Caller, id: Option<&Id>) {
        if self.gateway.audit().is_on() {
            let request_id = caller.request_id().unwrap_or_else(RequestId::next);
            turned_away::record(&self.gateway, &TurnedAway::TooMany(caller.clone()), request_id, caller.address(), None);
        }
        self.say(error_response(id, code::SERVER_ERROR, TOO_MANY, None)).await;
    }

    fn run(self: &Arc<Self>, key: Id, place: OwnedSemaphorePermit, work: impl Future<Output = ()> + Send + 'static) {
        let peer = Arc::clone(self);
        let (registered, begin) = tokio::sync::oneshot::channel::<()>();
        let finished = key.clone();
        let task = self.tasks.spawn(async move {
            let _place = place;
            // Not before it can be cancelled.
            let _ = begin.await;
            work.await;
            peer.finished(&finished);
        });
        self.running.lock().entry(key).or_default().push(task.abort_handle());
        if self.gone.is_cancelled() {
            task.abort();
        }
        let _ = registered.send(());
    }

    /// Takes this very task out of the requests in work.
    fn finished(&self, id: &Id) {
        let mut running = self.running.lock();
        let Some(tasks) = running.get_mut(id) else { return };
        tasks.retain(|task| Some(task.id()) != tokio::task::try_id());
        if tasks.is_empty() {
            running.remove(id);
        }
        drop(running);
        self.idle.notify_waiters();
    }

    /// Of two requests with one id neither is cancelled: it could be the wrong one.
    fn cancel(&self, id: &Id) {
        let mut running = self.running.lock();
        if let Some([task]) = running.get(id).map(Vec::as_slice) {
            task.abort();
            running.remove(id);
        }
    }

    async fn send(&self, reply: Reply, id: Option<Id>, era: Era) {
        match reply {
            Reply::Message { body, .. } => self.say(body).await,
            Reply::Pieces(pieces) => self.say(pieces.concat().into()).await,
            Reply::Json(json) => match collect(*json, self.gateway.config().bounds.max_event).await {
                Ok(whole) => self.say(whole).await,
                Err(words) => self.say(error_response(id.as_ref(), code::INTERNAL_ERROR, &words, None)).await,
            },
            Reply::Events(mut events) => {
                while let Some(next) = events.next().await {
                    match next {
                        Ok(message) => self.say(message).await,
                        Err(error) => self.say(rescue(&error, id.as_ref(), era).body).await,
                    }
                }
            }
        }
    }

    pub(super) async fn say(&self, message: Bytes) {
        match &self.out {
            // Fails only when the client is gone.
            Outlet::Lines(lines) => drop(lines.send(to_line(&message)).await),
            Outlet::Events(events) => events.put(message).await,
        }
    }
}
