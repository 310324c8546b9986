//! Legacy upstream sessions that modern clients' subscriptions share: one stream each, open while somebody listens, and
//! everybody hears what he asked for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{ListenSink, Pauses};
use crate::{
    gateway::{Gateway, forward::Held},
    mcp::{Kind, Message, Method, build, errors},
    upstream::{Generation, Session, Upstream, UpstreamError},
};

/// How often a stream that its server does not offer is asked for again, in case a front had refused it.
const NO_STREAM: Duration = Duration::from_secs(30);

/// The hubs of all sessions that are listened to, by the session.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Hubs(Mutex<HashMap<usize, Hub>>);

#[derive(Debug)]
struct Hub {
    session: Arc<Session>,
    ears: HashMap<u64, Ear>,
    /// Ends the stream with the hub.
    _stream: DropGuard,
}

/// What one client's subscription wants of one session.
#[derive(Clone, Debug)]
struct Ear {
    uris: Arc<BTreeSet<Box<str>>>,
    sink: Arc<ListenSink>,
}

fn key(session: &Arc<Session>) -> usize {
    Arc::as_ptr(session) as usize
}

/// Listens until dropped, and then ends the subscriptions that nobody else has.
#[derive(Debug)]
pub(super) struct Listens {
    gateway: Arc<Gateway>,
    upstream: Arc<Upstream>,
    session: Arc<Session>,
    number: u64,
}

impl Gateway {
    /// Lets a client's subscription hear what a pooled session says of `uris`.
    pub(super) fn hear(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        held: &Arc<Held>,
        number: u64,
        uris: Arc<BTreeSet<Box<str>>>,
        sink: &Arc<ListenSink>,
    ) -> Listens {
        let session = &held.session;
        let mut hubs = self.hubs.0.lock();
        let hub = hubs.entry(key(session)).or_insert_with(|| {
            let ends = CancellationToken::new();
            // A process says everything on its one stdout.
            if !session.is_process() {
                let work = follow(Arc::clone(self), Arc::clone(upstream), Arc::clone(held));
                let (ended, shutdown) = (ends.clone(), self.shutdown.clone());
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = work => {}
                        () = ended.cancelled() => {}
                        () = shutdown.cancelled() => {}
                    }
                });
            }
            Hub { session: Arc::clone(session), ears: HashMap::new(), _stream: ends.drop_guard() }
        });
        hub.ears.insert(number, Ear { uris, sink: Arc::clone(sink) });
        Listens { gateway: Arc::clone(self), upstream: Arc::clone(upstream), session: Arc::clone(session), number }
    }
}

impl Listens {
    /// Hears of these only from now on.
    pub(super) fn narrow(&self, uris: BTreeSet<Box<str>>) {
        let mut hubs = self.gateway.hubs.0.lock();
        if let Some(ear) = hubs.get_mut(&key(&self.session)).and_then(|hub| hub.ears.get_mut(&self.number)) {
            ear.uris = Arc::new(uris);
        }
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        {
            let mut hubs = self.gateway.hubs.0.lock();
            if let Some(hub) = hubs.get_mut(&key(&self.session)) {
                hub.ears.remove(&self.number);
                if hub.ears.is_empty() {
                    hubs.remove(&key(&self.session));
                }
            }
        }
        let (upstream, session, number) = (Arc::clone(&self.upstream), Arc::clone(&self.session), self.number);
        let shutdown = self.gateway.shutdown.clone();
        self.gateway.tasks.spawn(async move {
            let Ok(generation) = upstream.generation() else { return };
            tokio::select! {
                () = generation.leave(&session, number) => {}
                // The session itself ends with the gateway.
                () = shutdown.cancelled() => {}
            }
        });
    }
}

impl Hubs {
    /// Brings what a process said to those who listen to it.
    pub(in crate::gateway) fn heard_of_process(&self, process: u64, message: &Message) {
        let of_process = |hub: &&Hub| hub.session.is_of_process(process);
        let ears: Vec<Ear> = self.0.lock().values().filter(of_process).flat_map(|hub| hub.ears.values().cloned()).collect();
        tell(&ears, message);
    }

    fn heard(&self, session: &Arc<Session>, message: &Message) {
        let ears: Vec<Ear> = self.0.lock().get(&key(session)).map(|hub| hub.ears.values().cloned().collect()).unwrap_or_default();
        tell(&ears, message);
    }
}

/// Updates, and nothing else: log messages belong to requests (MCP 2026-07-28, basic/subscriptions), and that a list changed
/// is said by the gateway once it has read it.
fn tell(ears: &[Ear], message: &Message) {
    if message.kind() == Kind::Notification && Method::parse(message.method()) == Some(Method::ResourceUpdated) {
        for ear in ears {
            ear.sink.put_update(message, ear.uris.iter());
        }
    }
}

/// Follows the session's own stream until the session is lost.
async fn follow(gateway: Arc<Gateway>, upstream: Arc<Upstream>, held: Arc<Held>) {
    let mut pauses = Pauses::new();
    while !held.session.has_ended() {
        let Ok(generation) = upstream.generation() else {
            pauses.wait().await;
            continue;
        };
        match generation.listen(&held.session).await {
            Ok(Some(mut messages)) => {
                while let Some(Ok(bytes)) = messages.next().await {
                    match Message::parse(bytes) {
                        Ok(message) => take(&gateway, &generation, &held.session, &message).await,
                        Err(error) => tracing::debug!(upstream = %upstream.name(), %error, "a message is not JSON-RPC; dropped"),
                    }
                }
            }
            Ok(None) => sleep(NO_STREAM).await,
            Err(UpstreamError::SessionLost) => return held.forget(&upstream).await,
            Err(error) => tracing::debug!(upstream = %upstream.name(), %error, "the upstream's stream could not be opened"),
        }
        pauses.wait().await;
    }
}

async fn take(gateway: &Gateway, generation: &Generation, session: &Arc<Session>, message: &Message) {
    if message.kind() != Kind::Request {
        return gateway.hubs.heard(session, message);
    }
    // No request of a client's carries this question, and a modern client is asked in answers only.
    let Some(id) = message.id() else { return };
    let answer = match Method::parse(message.method()) {
        Some(Method::Ping) => build::response(id, b"{}"),
        _ => errors::error_response(Some(id), errors::code::METHOD_NOT_FOUND, "there is no client to ask outside of a call", None),
    };
    if let Err(error) = generation.notify(session, answer).await {
        tracing::debug!(%error, "an answer to a server's request could not be sent");
    }
}
