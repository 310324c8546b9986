//! Brings an upstream's answer to the client that asked: ids and tokens back to the client's, results into its era.

mod answered;
mod own;
mod turned;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Client, Gateway, GatewayError,
    adapt::{Adapted, MayRepeat},
    again::Again,
    conversation::Unfinished,
    legacy::Asked,
    links::Reading,
    parked::Aside,
    task_ids::TaskScope,
};
use crate::{
    bridge,
    mcp::{Era, Field, Id, Kind, LogLevel, Message, Method, Splices, build},
    upstream::{Generation, Session, Upstream, UpstreamError},
};

/// Longest wait for how a process ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long the result of a task is waited for: as long as the client does.
const UNLIMITED: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Answers to a server's requests, in one call, that wait for the server to take them.
const ANSWERS_UP: usize = 64;

/// What was changed in the request on its way up.
#[derive(Clone, Debug)]
pub(super) struct Renumbered {
    pub(super) id: u64,
    /// The client's own progress token, raw; ours is the id.
    pub(super) token: Option<Bytes>,
}

/// Everybody who takes part in one call.
pub(super) struct Parties {
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) generation: Arc<Generation>,
    /// The era spoken with the upstream in this call.
    pub(super) era: Era,
    pub(super) session: Option<Arc<Session>>,
    pub(super) client: Client,
    pub(super) client_id: Id,
    pub(super) method: Method,
    pub(super) renumbered: Option<Renumbered>,
    /// The client's own progress token, raw.
    pub(super) token: Option<Bytes>,
    /// The modern client asked for log messages in this request.
    pub(super) log: Option<LogLevel>,
    /// The ids of tasks in it are changed on their way.
    pub(super) tasks: Option<TaskScope>,
    /// Raw id of the task whose result is the answer, which the client knows nothing of.
    pub(super) task: Option<Bytes>,
    /// Ends the wait for the answer when a legacy client cancels.
    pub(super) stop: Option<CancellationToken>,
    /// Only where what the answer links to could be another upstream's.
    pub(super) links: Option<Reading>,
    /// A legacy client's call of a modern server, which may have to be made again.
    pub(super) again: Option<Box<Again>>,
}

/// One call's way back. When dropped before the answer came, the upstream is told that nobody waits any more.
pub(super) struct Relay {
    pub(super) parties: Parties,
    aside: Aside,
    asked: Vec<Id>,
    pub(super) answered: bool,
    /// Made with the first answer.
    answers_up: Option<Arc<Semaphore>>,
    pub(super) may_repeat: MayRepeat,
}

/// What became of one message from the upstream.
pub(super) enum Taken {
    Send(Bytes),
    /// The response: nothing follows it.
    Last(Bytes, StatusCode),
    /// A request of the server's that the modern client is to be asked.
    Asked(Box<Message>),
    /// The server does not want the answer to this request of its any more.
    Withdrawn(Id),
    /// A response after which the call goes on.
    Unfinished(Box<Unfinished>),
    Nothing,
}

/// A message before it is known for whom.
pub(super) enum Sorted {
    /// The message is the response.
    Response,
    Other(Taken),
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("upstream", self.parties.upstream.name()).field("id", &self.parties.client_id).finish_non_exhaustive()
    }
}

impl Relay {
    pub(super) fn new(parties: Parties) -> Self {
        let is_possible = parties.again.is_some() && parties.method == Method::ToolsCall;
        let may_repeat = MayRepeat { with_tasks: is_possible, with_headers: is_possible };
        Self { parties, aside: Aside::default(), asked: Vec::new(), answered: false, answers_up: None, may_repeat }
    }

    /// Nothing is to be cancelled any more.
    pub(super) fn settle(&mut self) {
        self.answered = true;
    }

    pub(super) fn is_settled(&self) -> bool {
        self.answered
    }

    pub(super) fn stop(&self) -> Option<&CancellationToken> {
        self.parties.stop.as_ref()
    }

    /// Remembers what an answer, or a piece of it, links to.
    pub(super) fn notice_links(&mut self, bytes: &[u8]) {
        if let Some(links) = &mut self.parties.links {
            links.passes(bytes, &self.parties.gateway.links);
        }
    }

    pub(super) fn call_timeout(&self) -> Duration {
        if self.parties.method == Method::TasksResult {
            return UNLIMITED;
        }
        // A task reports nothing, unless it reports progress.
        if self.parties.task.is_some() {
            return self.call_timeout_max();
        }
        self.parties.generation.call_timeout()
    }

    pub(super) fn call_timeout_max(&self) -> Duration {
        if self.parties.method == Method::TasksResult {
            return UNLIMITED;
        }
        self.parties.gateway.view.load().lineup.config.call_timeout_max
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.parties.gateway
    }

    /// The exchange stays open until one side ends it.
    pub(super) fn is_subscription(&self) -> bool {
        self.parties.method == Method::Listen
    }

    pub(super) fn client(&self) -> &Client {
        &self.parties.client
    }

    /// An upstream's failure after its answer had begun.
    pub(super) fn failure(&mut self, error: UpstreamError) -> GatewayError {
        // What leaves the upstream working is told when this is dropped.
        self.answered |= !error.leaves_it_working();
        self.parties.upstream.report(&error);
        Gateway::upstream_error(&self.parties.upstream, error)
    }

    /// Why a stream of messages ended without the response.
    pub(super) async fn premature_end(&self) -> UpstreamError {
        match self.parties.session.as_ref().filter(|session| session.is_channel()) {
            // The end of the stream comes with the end of the process; a moment later it is known how.
            Some(session) => tokio::time::timeout(LAST_WORDS, session.end_error())
                .await
                .unwrap_or_else(|_| UpstreamError::protocol("the process let go of the call without an answer")),
            None => UpstreamError::protocol("the stream ended without the answer"),
        }
    }

    pub(super) fn down(&self) -> Era {
        self.parties.client.era()
    }

    pub(super) fn up(&self) -> Era {
        self.parties.era
    }

    /// The exchange carries this one request only and both sides speak alike: its bytes pass untouched.
    pub(super) fn is_untouched(&self) -> bool {
        self.parties.renumbered.is_none() && self.parties.tasks.is_none() && self.down() == Era::Modern && self.up() == Era::Modern
    }

    pub(super) fn expected(&self) -> Id {
        self.parties.renumbered.as_ref().map_or_else(|| self.parties.client_id.clone(), |renumbered| Id::from_u64(renumbered.id))
    }

    /// Sorts one message of the upstream's.
    ///
    /// # Errors
    /// The response cannot be shown to this client.
    pub(super) fn take(&mut self, bytes: Bytes) -> Result<Taken, UpstreamError> {
        let message = read(bytes)?;
        match self.sort(&message) {
            Sorted::Response if self.is_untouched() => Ok(Taken::Last(message.into_bytes(), StatusCode::OK)),
            Sorted::Response => {
                self.watch_era(&message);
                Ok(match self.adapt(message)? {
                    Adapted::Ready(body, status) => Taken::Last(body, status),
                    Adapted::Unfinished(unfinished) => Taken::Unfinished(unfinished),
                })
            }
            Sorted::Other(taken) => Ok(taken),
        }
    }

    /// The same, with a response as it came.
    pub(super) fn sort(&mut self, message: &Message) -> Sorted {
        match message.kind() {
            Kind::Response | Kind::ErrorResponse => {
                let anonymous = message.kind() == Kind::ErrorResponse && message.id().is_none();
                if !anonymous && !self.is_answered_by(message) {
                    tracing::warn!(upstream = %self.parties.upstream.name(), "an answer to another request came on this stream; dropped");
                    return Sorted::Other(Taken::Nothing);
                }
                self.settle();
                self.notice_links(message.bytes());
                Sorted::Response
            }
            Kind::Notification => Sorted::Other(self.take_notification(message)),
            Kind::Request => Sorted::Other(self.take_request(message)),
        }
    }

    fn take_notification(&self, message: &Message) -> Taken {
        let mut splices = Splices::new();
        let is_bridged = self.down() == Era::Modern && self.up() == Era::Legacy;
        match Method::parse(message.method()) {
            Some(Method::Progress) if is_bridged && self.token().is_none() => return Taken::Nothing,
            Some(Method::Progress) => {
                let (Some(said), Some(span)) = (message.raw(Field::ProgressToken), message.span(Field::ProgressToken)) else {
                    return Taken::Nothing;
                };
                if let Some(renumbered) = &self.parties.renumbered
                    && let Some(token) = &renumbered.token
                {
                    if Id::from_json(said).ok().and_then(|said| said.as_u64()) != Some(renumbered.id) {
                        return Taken::Nothing;
                    }
                    splices.replace(span, token.clone());
                } else if !self.may_speak_of(&said) {
                    tracing::debug!(upstream = %self.parties.upstream.name(), "progress of a call that is not this upstream's; dropped");
                    return Taken::Nothing;
                }
            }
            // Others who share the process may want more of them.
            Some(Method::LogMessage) if self.parties.client.session().is_some_and(|down| !down.wants_log(message)) => {
                return Taken::Nothing;
            }
            // A modern client gets log messages only where its request asked for them (MCP 2026-07-28, server/logging).
            Some(Method::LogMessage) if self.down() == Era::Modern && !self.is_untouched() && !self.wants(message) => {
                return Taken::Nothing;
            }
            Some(Method::LogMessage) => {}
            Some(Method::Cancelled) if is_bridged => return message.cancelled_id().map_or(Taken::Nothing, Taken::Withdrawn),
            Some(Method::Cancelled) if self.up() == Era::Legacy => return self.take_back(message),
            // Other notifications do not belong on the stream of a modern request.
            _ if is_bridged => return Taken::Nothing,
            _ => {}
        }
        if let Some(tasks) = &self.parties.tasks {
            tasks.show_in_params(&mut splices, message);
        }
        Taken::Send(splices.apply(message.bytes()))
    }

    /// A server's request in the middle of a call: a client that can be asked answers it, for anybody else it is declined.
    /// So it is in the session that the gateway opened for itself, which declared nothing and may be everybody's.
    fn take_request(&mut self, message: &Message) -> Taken {
        let (Some(id), Some(session)) = (message.id(), &self.parties.session) else { return Taken::Nothing };
        if message.method() == "ping" {
            let pong = build::response(id, b"{}");
            self.answer_up(pong);
            return Taken::Nothing;
        }
        let asked = || Asked { upstream: Arc::clone(&self.parties.upstream), session: Arc::clone(session), id: id.clone() };
        if self.askable().is_some_and(|askable| bridge::may_ask(message, askable.capabilities)) {
            return Taken::Asked(Box::new(message.clone()));
        }
        let granted = match &self.parties.client {
            // A modern server asks by its result, which the client can be shown as a request of this revision.
            Client::Legacy(down) if self.up() == Era::Legacy && !self.parties.generation.is_own(session) && down.allows(message) => {
                down.ask(asked())
            }
            Client::Legacy(_) | Client::Modern(_) => None,
        };
        let (Some(granted), Some(span)) = (granted, message.id_span()) else {
            self.decline(message);
            return Taken::Nothing;
        };
        let mut splices = Splices::new();
        splices.replace(span, granted.clone().into_json());
        if let Some(tasks) = &self.parties.tasks {
            tasks.show_in_params(&mut splices, message);
        }
        self.asked.push(granted);
        Taken::Send(splices.apply(message.bytes()))
    }

    /// Answers a server's request; a server that asks and asks without taking the answers gets no more of them.
    fn answer_up(&mut self, body: Bytes) {
        let places = self.answers_up.get_or_insert_with(|| Arc::new(Semaphore::new(ANSWERS_UP)));
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => self.tell_up(body, Some(place)),
            Err(_) => tracing::debug!(upstream = %self.parties.upstream.name(), "an upstream asks without taking the answers; one dropped"),
        }
    }

    fn tell_up(&self, body: Bytes, place: Option<OwnedSemaphorePermit>) {
        let sent = self.send_up(body);
        self.parties.gateway.tasks.spawn(async move {
            let _place = place;
            if let Err(error) = sent.await {
                tracing::debug!(%error, "an answer to a server's request could not be sent");
            }
        });
    }

    /// Sends a message that wants no answer, in the session of the call. The future does not depend on the call.
    pub(super) fn send_up(&self, body: Bytes) -> impl Future<Output = Result<(), UpstreamError>> + Send + use<> {
        let session = self.parties.session.clone();
        // Sessions outlive generations; what serves now can say it in any case.
        let generation = self.parties.upstream.generation().unwrap_or_else(|_| Arc::clone(&self.parties.generation));
        async move {
            match session {
                Some(session) => generation.notify(&session, body).await,
                None => Ok(()),
            }
        }
    }
}

pub(super) fn read(bytes: Bytes) -> Result<Message, UpstreamError> {
    Message::parse(bytes).map_err(|error| UpstreamError::protocol(format!("a message is not JSON-RPC: {error}")))
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Client::Legacy(down) = &self.parties.client {
            down.flights.finished(&self.parties.client_id);
            down.withdraw(&self.asked);
        }
        // Closing the stream cancels a modern HTTP exchange; everywhere else it must be said.
        let is_told = self.answered || self.stop().is_some_and(CancellationToken::is_cancelled);
        if let (false, Some(renumbered)) = (is_told, &self.parties.renumbered) {
            self.tell_up(build::cancelled(&Id::from_u64(renumbered.id), "the client does not wait any more"), None);
            self.cancel_task();
        }
    }
}
