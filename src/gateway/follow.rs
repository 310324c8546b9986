//! What upstreams say in a legacy session without being asked, brought to the client's GET stream.
//!
//! An upstream's own GET stream is open only while the client's is (MCP 2025-11-25, basic/transports, listening for
//! messages from the server).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{Gateway, LegacySession, handle::Reached, legacy::Asked, outbox::Outbox, task_ids::TaskScope};
use crate::{
    mcp::{Era, Field, Id, Kind, Message, Method, Splices, build, errors},
    upstream::{Generation, Session, Upstream, UpstreamError},
};

/// Pause before an upstream's stream is opened again; doubles until a message comes.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Other replicas are told of what is taken back at most this often for each stream.
const REST: Duration = Duration::from_millis(50);

impl Gateway {
    /// Opens the client's stream of messages that answer no request, and those of the upstreams it has sessions with.
    pub fn open_stream(self: &Arc<Self>, session: &Arc<LegacySession>) -> Outbox {
        let outbox = session.open_outbox();
        for Reached { upstream, generation, up } in self.reached(session) {
            self.follow(session, &upstream, &generation, &up);
        }
        self.stream_is_here(session);
        outbox
    }

    /// Brings what the upstream says in `up` to the client, as long as the client has a stream for it.
    pub(super) fn follow(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        up: &Arc<Session>,
    ) {
        if up.is_process() || !session.begin_following(upstream.id(), up) {
            return;
        }
        let mut follower = Follower {
            gateway: Arc::clone(self),
            session: Arc::clone(session),
            upstream: Arc::clone(upstream),
            generation: Arc::clone(generation),
            up: Arc::clone(up),
            tasks: self.task_scope(&session.record.principal, Era::Legacy, upstream.name()),
            asked: Vec::new(),
            follows: true,
            rests_until: None,
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = follower.stay() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

struct Follower {
    gateway: Arc<Gateway>,
    session: Arc<LegacySession>,
    upstream: Arc<Upstream>,
    generation: Arc<Generation>,
    up: Arc<Session>,
    tasks: Option<TaskScope>,
    /// What the client was asked and has not answered.
    asked: Vec<Id>,
    /// The session still has this for the one that follows.
    follows: bool,
    /// Other replicas are told of nothing before.
    rests_until: Option<Instant>,
}

impl Follower {
    /// Follows as long as the client has a stream and the upstream one to offer.
    async fn stay(&mut self) {
        let (session, up) = (Arc::clone(&self.session), Arc::clone(&self.up));
        let end = session.end_token();
        loop {
            tokio::select! {
                () = self.run() => break,
                () = end.cancelled() => break,
                // Its server may keep the stream of a session open that it does not know any more.
                () = up.gone() => break,
                () = session.stream_closed() => {
                    if session.end_following_unheard(self.upstream.id(), &self.up) {
                        self.follows = false;
                        break;
                    }
                }
            }
        }
        self.end();
        for asked in session.withdraw(&std::mem::take(&mut self.asked)) {
            self.answer(errors::error_response(Some(&asked.id), errors::code::INTERNAL_ERROR, "the client is gone", None)).await;
        }
    }

    /// Follows the upstream's stream, and the next one when it ends. Returns when no other is to be expected.
    async fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            // The one that serves now: the stream of one that was replaced ends, and is opened again here.
            if let Ok(serving) = self.upstream.generation() {
                self.generation = serving;
            }
            match self.generation.listen(&self.up).await {
                Ok(Some(mut messages)) => {
                    while let Some(Ok(bytes)) = messages.next().await {
                        pause = FIRST_PAUSE;
                        match Message::parse(bytes) {
                            Ok(message) => self.take(&message).await,
                            Err(error) => tracing::warn!(upstream = %self.upstream.name(), %error, "a message is not JSON-RPC; dropped"),
                        }
                    }
                    tracing::debug!(upstream = %self.upstream.name(), "the upstream ended its stream");
                }
                Ok(None) => return tracing::debug!(upstream = %self.upstream.name(), "the upstream offers no stream of its own"),
                Err(UpstreamError::SessionLost) => return self.up.lose(),
                Err(error) => tracing::debug!(upstream = %self.upstream.name(), %error, "the upstream's stream could not be opened"),
            }
            if self.upstream.generation().is_ok_and(|serving| serving.number() != self.generation.number()) {
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let is_current = |up: &Arc<Session>| Arc::ptr_eq(up, &self.up);
            if !self.session.upstream_session(self.upstream.id()).as_ref().is_some_and(is_current) {
                return;
            }
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.follows) {
            self.session.end_following(self.upstream.id(), &self.up);
        }
    }

    async fn answer(&self, answer: Bytes) {
        if let Err(error) = self.generation.notify(&self.up, answer).await {
            tracing::debug!(%error, "an answer to a server's request could not be sent");
        }
    }

    async fn take(&mut self, message: &Message) {
        match message.kind() {
            // The gateway says itself that a list changed, once it has read it.
            Kind::Notification => match Method::parse(message.method()) {
                Some(Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged) => {}
                Some(Method::Progress) if self.is_foreign_progress(message) => {
                    tracing::debug!(upstream = %self.upstream.name(), "progress of a call that is not this upstream's; dropped");
                }
                method => {
                    let mut splices = Splices::new();
                    if method == Some(Method::Cancelled) {
                        let granted = message.cancelled_id().and_then(|id| self.session.taken_back(&self.up, &id));
                        let Some(granted) = granted else {
                            return self.take_back_elsewhere(message).await;
                        };
                        let Some(span) = message.span(Field::RequestId) else { return };
                        splices.replace(span, granted.into_json());
                    }
                    if let Some(tasks) = &self.tasks {
                        tasks.show_in_params(&mut splices, message);
                    }
                    self.session.tell(splices.apply(message.bytes()));
                }
            },
            Kind::Request => {
                if let Some(answer) = self.ask(message) {
                    self.answer(answer).await;
                }
            }
            // No response belongs on this stream.
            Kind::Response | Kind::ErrorResponse => {}
        }
    }

    /// What was asked by another replica, maybe. A server that takes back without end keeps nobody's inbox full.
    async fn take_back_elsewhere(&mut self, message: &Message) {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.rests_until = Some(Instant::now() + REST);
        let mut splices = Splices::new();
        if let Some(tasks) = &self.tasks {
            tasks.show_in_params(&mut splices, message);
        }
        let told = splices.apply(message.bytes());
        Box::pin(self.gateway.taken_back_elsewhere(&self.session, &self.upstream, told)).await;
    }

    fn is_foreign_progress(&self, message: &Message) -> bool {
        message.raw(Field::ProgressToken).is_none_or(|token| self.session.flights.is_of_another(self.upstream.id(), &token))
    }

    /// Brings a server's request to the client, or gives the answer to it.
    fn ask(&mut self, message: &Message) -> Option<Bytes> {
        let (id, span) = (message.id()?, message.id_span()?);
        if message.method() == Method::Ping.as_str() {
            return Some(build::response(id, b"{}"));
        }
        let asked = Asked { upstream: Arc::clone(&self.upstream), session: Arc::clone(&self.up), id: id.clone() };
        let Some(granted) = self.session.allows(message).then(|| self.session.ask(asked)).flatten() else {
            return Some(errors::error_response(Some(id), errors::code::METHOD_NOT_FOUND, "this client cannot be asked", None));
        };
        let mut splices = Splices::new();
        splices.replace(span, granted.clone().into_json());
        if let Some(tasks) = &self.tasks {
            tasks.show_in_params(&mut splices, message);
        }
        if !self.session.tell(splices.apply(message.bytes())) {
            self.session.withdraw(&[granted]);
            return Some(errors::error_response(Some(id), errors::code::INTERNAL_ERROR, "the client does not listen", None));
        }
        self.asked.retain(|id| self.session.is_asked(id));
        self.asked.push(granted);
        None
    }
}

/// However it ends, the upstream can be followed anew, and nothing keeps what it asked.
impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
        self.session.withdraw(&self.asked);
    }
}
