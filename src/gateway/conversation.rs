//! A call that goes on after a modern server's first answer: the legacy client is asked what the server needs, and the call
//! is made again with it (MCP 2026-07-28, basic/patterns/mrtr).
//!
//! To the client it is one request whose answer comes as a stream: questions first, the result last.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Gateway, GatewayError, LegacySession,
    adapt::Adapted,
    again::{Again, Input},
    questions::Asking,
    relay::{Relay, Taken},
};
use crate::{
    bridge::{Given, InputRequest, InputRequired, gathered},
    mcp::{
        Era, Field, Message,
        errors::{code, error_response},
        param_headers::ParamHeaders,
    },
    upstream::{Answer, Messages, UpstreamError},
};

/// How often a server may ask in one call.
const MAX_ROUNDS: u32 = 16;
/// Pause before a call is repeated for a server that asked for nothing but that; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An answer of a modern server that is not yet the answer of the call.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) message: Message,
    pub(super) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The server asks for input.
    Input,
    /// The server works on it as a task.
    Task,
    /// The server refuses it from who does not know tasks.
    NeedsTasks,
    /// The server wants other arguments repeated as headers than its tool said when it was listed.
    Headers,
}

/// The stream of such a call.
pub(super) struct Conversation {
    work: Option<Work>,
    /// What came of the work, while messages before it wait.
    done: Option<Done>,
    messages: mpsc::Receiver<Bytes>,
    gateway: Arc<Gateway>,
    client: Arc<LegacySession>,
}

/// `None`: nothing is answered, as nobody waits.
type Done = Option<Result<Bytes, GatewayError>>;
type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").field("client", &self.client.id()).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Goes on with a call, at the longest until `last`. `None`: the call is not one that can go on.
    pub(super) fn begin(mut relay: Relay, unfinished: Unfinished, last: Instant) -> Option<Self> {
        let again = relay.take_again()?;
        let client = Arc::clone(relay.client().session()?);
        let gateway = Arc::clone(relay.gateway());
        let (to_client, messages) = mpsc::channel(1);
        let talk = Talk { relay, again, client: Arc::clone(&client), to_client, rounds: 0 };
        Some(Self { work: Some(Box::pin(talk.hold(unfinished, last))), done: None, messages, gateway, client })
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub(super) fn client(&self) -> &Arc<LegacySession> {
        &self.client
    }

    /// The client's stream is gone: it can be asked nothing more.
    pub(super) fn client_is_gone(&mut self) {
        self.messages.close();
    }

    /// The next message and whether it is the last. `None`: no answer follows. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<(Bytes, bool), GatewayError>> {
        loop {
            if let Ok(message) = self.messages.try_recv() {
                return Some(Ok((message, false)));
            }
            if let Some(done) = self.done.take() {
                return done.map(|done| done.map(|message| (message, true)));
            }
            let work = self.work.as_mut()?;
            tokio::select! {
                biased;
                Some(message) = self.messages.recv() => return Some(Ok((message, false))),
                done = work => {
                    self.work = None;
                    self.done = Some(done);
                }
            }
        }
    }
}

/// The work behind it.
pub(super) struct Talk {
    pub(super) relay: Relay,
    pub(super) again: Box<Again>,
    pub(super) client: Arc<LegacySession>,
    to_client: mpsc::Sender<Bytes>,
    rounds: u32,
}

/// Why a conversation ended without the server's result.
#[derive(Debug)]
pub(super) enum Ended {
    Upstream(UpstreamError),
    /// With this message to the client.
    Answered(Bytes),
    /// Nobody is there to be asked.
    Nobody,
}

impl From<UpstreamError> for Ended {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl Talk {
    async fn hold(mut self, unfinished: Unfinished, last: Instant) -> Done {
        let (stop, end) = (self.relay.stop().cloned(), self.client.end_token());
        let max = self.relay.call_timeout_max();
        let outcome = tokio::select! {
            outcome = timeout_at(last, self.talk(unfinished)) => outcome.unwrap_or(Err(Ended::Upstream(UpstreamError::TimedOut(max)))),
            // What is open upstream ends when it is dropped here.
            () = async { match &stop { Some(stop) => stop.cancelled().await, None => std::future::pending().await } } => return None,
            () = end.cancelled() => return None,
        };
        match outcome {
            Ok(message) | Err(Ended::Answered(message)) => Some(Ok(message)),
            Err(Ended::Upstream(error)) => Some(Err(self.relay.failure(error))),
            Err(Ended::Nobody) => None,
        }
    }

    async fn talk(&mut self, mut unfinished: Unfinished) -> Result<Bytes, Ended> {
        loop {
            match unfinished.why {
                Why::Input => self.again.input = self.gather(&unfinished.message).await?,
                Why::Task => return Box::pin(self.drive(&unfinished.message)).await,
                Why::NeedsTasks => self.again.tasks = true,
                Why::Headers => self.list_again().await,
            }
            match self.once_more().await? {
                Adapted::Ready(message, _) => return Ok(message),
                Adapted::Unfinished(next) => unfinished = *next,
            }
        }
    }

    /// Asks the client for everything that an `input_required` result requires.
    async fn gather(&mut self, message: &Message) -> Result<Input, Ended> {
        let required = InputRequired::read(&message.raw(Field::Result).unwrap_or_default())?;
        self.begin_round()?;
        if required.requests.is_empty() {
            sleep(FIRST_PAUSE.saturating_mul(1 << self.rounds.min(8)).min(LONGEST_PAUSE)).await;
            return Ok(Input { responses: None, state: required.state });
        }
        let responses = self.ask(&required.requests).await?;
        Ok(Input { responses: Some(responses), state: required.state })
    }

    pub(super) fn begin_round(&mut self) -> Result<(), UpstreamError> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(UpstreamError::CannotAsk("it asks for input again and again without an end"));
        }
        Ok(())
    }

    /// Asks the client all of this and gives its answers as raw `inputResponses`. If one thing cannot be asked, none is.
    pub(super) async fn ask(&mut self, requests: &[InputRequest]) -> Result<Bytes, Ended> {
        requests.iter().try_for_each(|request| request.check(self.client.declared()))?;
        let mut asking = Asking::new(&self.client, self.relay.parties.upstream.id());
        for request in requests {
            let message = asking.open(request).ok_or(UpstreamError::CannotAsk("too many questions wait for this client already"))?;
            self.to_client.send(message).await.map_err(|_| Ended::Nobody)?;
        }
        let limit = self.relay.gateway().config().bounds.max_event;
        let mut given: Vec<Option<(String, Bytes)>> = requests.iter().map(|_| None).collect();
        let mut size = 0;
        for _ in requests {
            let (number, answer) = tokio::select! {
                answer = asking.next() => answer,
                () = self.is_left() => return Err(Ended::Nobody),
            };
            let (Some(request), Some(place)) = (requests.get(number), given.get_mut(number)) else { continue };
            match Given::read(&answer) {
                Given::Input(input) => {
                    size += input.len();
                    if size > limit {
                        return Err(self.refusal(request, code::INVALID_PARAMS, "the answers are larger than mcp.bounds.max_event"));
                    }
                    *place = Some((request.key.clone(), input));
                }
                Given::Refusal { code, message } => return Err(self.refusal(request, code, &message)),
            }
        }
        Ok(gathered(&given.into_iter().flatten().collect::<Vec<_>>()))
    }

    /// The client's stream is gone, and no answer came for as long as a call may be quiet.
    async fn is_left(&self) {
        self.to_client.closed().await;
        sleep(self.relay.call_timeout()).await;
    }

    /// The client answered a question with an error, which `inputResponses` has no place for: its call ends with it.
    fn refusal(&self, request: &InputRequest, code: i64, words: &str) -> Ended {
        let parties = &self.relay.parties;
        let method = request.method.as_str();
        let words = format!("upstream \"{}\" needs an answer to {method}, and the client refused: {words}", parties.upstream.name());
        let data = format!("{{\"upstream\":\"{}\",\"request\":\"{method}\",\"code\":{code}}}", parties.upstream.name());
        Ended::Answered(error_response(Some(&parties.client_id), code::INTERNAL_ERROR, &words, Some(data.as_bytes())))
    }

    /// Sends the call again and reads the answer, notifications on the way included.
    async fn once_more(&mut self) -> Result<Adapted, UpstreamError> {
        let parties = &self.relay.parties;
        let generation = parties.upstream.generation()?;
        if generation.era() != Era::Modern {
            return Err(UpstreamError::protocol("another server has taken its place in the middle of a call"));
        }
        let session = parties.session.clone();
        let (outgoing, renumbered) = self.again.outgoing(parties, &self.client, &generation)?;
        self.relay.begins_again(&generation, renumbered);
        match generation.exchange(session.as_ref(), outgoing).await? {
            Answer::Accepted => Err(UpstreamError::protocol("the request was acknowledged but not answered")),
            Answer::Json(json) => {
                let message = self.relay.whole(json).await?;
                self.relay.adapt(message)
            }
            Answer::Messages(messages) => self.follow(messages).await,
        }
    }

    async fn follow(&mut self, mut messages: Messages) -> Result<Adapted, UpstreamError> {
        let patience = self.relay.call_timeout();
        loop {
            let next = timeout(patience, messages.next()).await.map_err(|_| UpstreamError::TimedOut(patience))?;
            let Some(message) = next else { return Err(self.relay.premature_end().await) };
            match self.relay.take(message?)? {
                // A client that is gone hears nothing; its call goes on.
                Taken::Send(message) => drop(self.to_client.send(message).await),
                Taken::Last(message, status) => return Ok(Adapted::Ready(message, status)),
                Taken::Unfinished(unfinished) => return Ok(Adapted::Unfinished(unfinished)),
                // A modern server asks by its results.
                Taken::Nothing | Taken::Asked(_) | Taken::Withdrawn(_) => {}
            }
        }
    }

    /// Has the tools listed anew, because the headers of this one are not those that the server wants
    /// (MCP 2026-07-28, basic/transports/streamable-http).
    async fn list_again(&mut self) {
        let parties = &self.relay.parties;
        let mut rebuilds = self.relay.gateway().rebuilds();
        rebuilds.mark_unchanged();
        let before = parties.upstream.offer();
        parties.upstream.list_again();
        let is_new = || match (&before, &parties.upstream.offer()) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            (before, now) => before.is_some() != now.is_some(),
        };
        let listed = async { while !is_new() && rebuilds.changed().await.is_ok() {} };
        if timeout(parties.generation.list_timeout(), listed).await.is_err() {
            tracing::debug!(upstream = %parties.upstream.name(), "the tools were not listed in time to repeat a call");
        }
        let Some(offer) = parties.upstream.offer() else { return };
        let tool = offer.tools.iter().find(|tool| *tool.name() == *self.again.name());
        let annotations = tool.and_then(|tool| tool.input_schema()).and_then(|schema| ParamHeaders::read(schema).ok());
        self.again.mirrors(annotations.unwrap_or_default());
    }
}
