//! What goes back to the client, still streaming where the upstream streams.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{
    GatewayError,
    conversation::{Conversation, Unfinished},
    document::JsonReply,
    listen::Listening,
    parked::{Attached, Incoming, park},
    relay::{Relay, Taken},
    replay::{Recorder, Said},
    tally::{Counted, Outcome},
};
use crate::{
    mcp::Message,
    reason::Reason,
    upstream::{Messages, UpstreamError},
};

/// An answer to one request.
#[derive(Debug)]
pub enum Reply {
    /// One whole JSON-RPC message.
    Message {
        status: StatusCode,
        body: Bytes,
        /// How long the upstream asked to be left alone, with HTTP 429 or 503.
        retry_after: Option<Duration>,
    },
    /// One whole message in ready-made pieces.
    Pieces([Bytes; 3]),
    /// One JSON-RPC message that streams.
    Json(Box<JsonReply>),
    /// Messages one by one, the response last.
    Events(Box<EventReply>),
}

impl Reply {
    /// Counts the request when this has ended.
    pub(super) fn counted(mut self, mut counted: Counted) -> Self {
        match &mut self {
            Self::Message { body, .. } => {
                counted.passes(body);
                counted.ends(Outcome::Ok);
            }
            Self::Pieces(pieces) => {
                pieces.iter().for_each(|piece| counted.passes(piece));
                counted.ends(Outcome::Ok);
            }
            Self::Json(json) => json.counted = Some(counted),
            Self::Events(events) => {
                if events.is_subscription() {
                    counted.ends(Outcome::Ok);
                }
                events.counted = Some(counted);
            }
        }
        self
    }

    pub(super) fn message(body: Bytes) -> Self {
        Self::with_status(StatusCode::OK, body)
    }

    pub(super) fn with_status(status: StatusCode, body: Bytes) -> Self {
        Self::Message { status, body, retry_after: None }
    }

    /// A cancelled request is not answered.
    pub(super) fn silence() -> Self {
        let mut silent = EventReply::new(Source::Upstream(None), VecDeque::new());
        silent.ended = true;
        Self::Events(Box::new(silent))
    }

    pub(super) fn listening(listening: Listening) -> Self {
        Self::Events(Box::new(EventReply::new(Source::Own(Box::new(listening)), VecDeque::new())))
    }
}

/// Messages on their way, from an upstream or from the gateway itself.
#[derive(Debug)]
pub struct EventReply {
    pub(super) source: Source,
    queued: VecDeque<Bytes>,
    ended: bool,
    counted: Option<Counted>,
    /// Writes it down for a client that may come back.
    pub(super) recorder: Option<Recorder>,
}

#[derive(Debug)]
pub(super) enum Source {
    Upstream(Option<Box<Relayed>>),
    Own(Box<Listening>),
    Conversation(Box<Conversation>),
    /// A call that waits for its client now and then.
    Parked(Attached),
}

#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) messages: Messages,
    pub(super) relay: Relay,
    /// A subscription has no limits: it is quiet until something changes, and ends when the gateway drains.
    limits: Option<Limits>,
    /// Nobody reads this any more; the call runs to its end.
    client_is_gone: bool,
    /// The upstream hung up, and goes on after this.
    pub(super) paused: Option<Duration>,
}

#[derive(Debug)]
struct Limits {
    /// When the call is given up; moved on by every message.
    idle: Pin<Box<Sleep>>,
    /// When it is given up whatever it says.
    last: Instant,
}

impl EventReply {
    pub(super) fn relayed(messages: Messages, relay: Relay, first: Vec<Bytes>) -> Self {
        let limits = (!relay.is_subscription())
            .then(|| Limits { idle: Box::pin(sleep(relay.call_timeout())), last: Instant::now() + relay.call_timeout_max() });
        let relayed = Relayed { messages, relay, limits, client_is_gone: false, paused: None };
        Self::new(Source::Upstream(Some(Box::new(relayed))), first.into())
    }

    fn new(source: Source, queued: VecDeque<Bytes>) -> Self {
        Self { source, queued, ended: false, counted: None, recorder: None }
    }

    pub(super) fn attached(attached: Attached) -> Self {
        Self::new(Source::Parked(attached), VecDeque::new())
    }

    /// The stream of a call that goes on, at the longest until `last`; `None` when it cannot.
    pub(super) fn unfinished(relay: Relay, unfinished: Unfinished, last: Instant) -> Option<Self> {
        let conversation = Conversation::begin(relay, unfinished, last)?;
        Some(Self::new(Source::Conversation(Box::new(conversation)), VecDeque::new()))
    }

    fn is_subscription(&self) -> bool {
        match &self.source {
            Source::Own(_) => true,
            Source::Conversation(_) | Source::Parked(_) => false,
            Source::Upstream(relayed) => relayed.as_ref().is_some_and(|relayed| relayed.relay.is_subscription()),
        }
    }

    /// An untouched subscription ends when the upstream ends it; any other stream, with its response.
    fn is_complete(&self) -> bool {
        let Source::Upstream(Some(relayed)) = &self.source else { return false };
        relayed.is_untouched_subscription()
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        if let Some(counted) = &mut self.counted {
            counted.ends(outcome);
        }
    }

    /// Nothing follows.
    pub fn is_over(&self) -> bool {
        self.ended && self.queued.is_empty()
    }

    /// The next message; after an error nothing follows. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, GatewayError>> {
        if let Some(message) = self.queued.pop_front() {
            return Some(Ok(self.recorded(message)));
        }
        if self.ended {
            return None;
        }
        let primed = self.is_primed();
        let next = loop {
            match self.source.next().await {
                None if self.source.is_paused() && primed => return None,
                None if self.source.take_pause().is_some() => {}
                next => break next,
            }
        };
        match next {
            Some(Ok((message, is_last))) => {
                if is_last {
                    if let Some(counted) = &mut self.counted {
                        counted.passes(&message);
                    }
                    self.end(Outcome::Ok);
                }
                Some(Ok(self.recorded(message)))
            }
            Some(Err(mut error)) => {
                if let Some(counted) = &mut self.counted {
                    counted.fails(&mut error, |_| false);
                }
                self.end(Outcome::Failed);
                Some(Err(error))
            }
            None => {
                let outcome = if self.is_complete() { Outcome::Ok } else { Outcome::Abandoned };
                self.end(outcome);
                None
            }
        }
    }
}

impl Source {
    /// The next message and whether it is the last. `None`: no answer follows. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<(Bytes, bool), GatewayError>> {
        let step = match self {
            Self::Own(listening) => return listening.next().await.map(|message| Ok((message, false))),
            Self::Conversation(conversation) => return conversation.next().await,
            Self::Parked(attached) => return attached.next().await,
            Self::Upstream(None) => return None,
            Self::Upstream(Some(relayed)) => relayed.next().await?,
        };
        let goes_on = match step {
            Ok(Step::Message(message)) => return Some(Ok((message, false))),
            Ok(Step::Last(message)) => return Some(Ok((message, true))),
            Ok(Step::GoesOn(goes_on)) => goes_on,
            Err(error) => return Some(Err(error)),
        };
        // Kept before it is waited for: this future may be dropped at any wait.
        let Self::Upstream(relayed) = self else { return None };
        *self = (*relayed.take()?).goes_on(goes_on)?;
        match self {
            Self::Conversation(conversation) => conversation.next().await,
            Self::Parked(attached) => attached.next().await,
            Self::Own(_) | Self::Upstream(_) => None,
        }
    }
}

/// What comes next on a stream.
enum Step {
    Message(Bytes),
    Last(Bytes),
    GoesOn(GoesOn),
}

/// How a call goes on in another way.
enum GoesOn {
    /// A modern server's response leads to a further request.
    Unfinished(Box<Unfinished>),
    /// A legacy server asks its modern client, who is told by the end of the stream.
    Asked(Box<Message>),
}

impl Relayed {
    fn is_untouched_subscription(&self) -> bool {
        self.relay.is_subscription() && self.relay.is_untouched()
    }

    fn goes_on(self, goes_on: GoesOn) -> Option<Source> {
        let Self { messages, relay, limits, client_is_gone, .. } = self;
        let unfinished = match goes_on {
            GoesOn::Asked(question) => return Some(Source::Parked(park(Incoming::Messages(messages), relay, *question))),
            GoesOn::Unfinished(unfinished) => unfinished,
        };
        let last = limits.map_or_else(|| Instant::now() + relay.call_timeout_max(), |limits| limits.last);
        let mut conversation = Box::new(Conversation::begin(relay, *unfinished, last)?);
        if client_is_gone {
            conversation.client_is_gone();
        }
        Some(Source::Conversation(conversation))
    }

    /// The next message. `None`: the client cancelled or its subscription ends, so no answer follows.
    async fn next(&mut self) -> Option<Result<Step, GatewayError>> {
        let stop = self.relay.stop().cloned();
        let drain = self.relay.gateway().drain.clone();
        loop {
            let (call_timeout, call_timeout_max) = (self.relay.call_timeout(), self.relay.call_timeout_max());
            let given_up = async {
                match &mut self.limits {
                    None => {
                        drain.cancelled().await;
                        None
                    }
                    Some(Limits { idle, last }) => tokio::select! {
                        () = idle.as_mut() => Some(call_timeout),
                        () = sleep_until(*last) => Some(call_timeout_max),
                    },
                }
            };
            let message = tokio::select! {
                message = self.messages.next() => message,
                said = self.relay.aside().next() => Some(Ok(said)),
                given_up = given_up => match given_up {
                    Some(limit) => Some(Err(UpstreamError::TimedOut(limit))),
                    None => {
                        self.relay.settle();
                        return Some(Ok(Step::Last(super::listen::farewell(self.relay.client_id()))));
                    }
                },
                () = async { match &stop { Some(stop) => stop.cancelled().await, None => std::future::pending().await } } => {
                    self.relay.settle();
                    return None;
                }
            };
            let message = match message {
                Some(Ok(message)) => message,
                // Whoever subscribed does so again, and then meets the generation of then.
                Some(Err(error)) if self.limits.is_none() && error.reason() == Reason::Drained => {
                    self.relay.settle();
                    return None;
                }
                Some(Err(error)) => return Some(Err(self.relay.failure(error))),
                None if let Some(pause) = self.messages.take_pause() => {
                    self.paused = Some(pause);
                    return None;
                }
                // How a subscription ends is the upstream's own affair.
                None if self.is_untouched_subscription() => {
                    self.relay.settle();
                    return None;
                }
                None => {
                    let error = self.relay.premature_end().await;
                    return Some(Err(self.relay.failure(error)));
                }
            };
            if let Some(limits) = &mut self.limits {
                limits.idle.as_mut().reset(Instant::now() + call_timeout);
            }
            match self.relay.take(message) {
                Ok(Taken::Send(message)) => return Some(Ok(Step::Message(message))),
                Ok(Taken::Last(message, _)) => return Some(Ok(Step::Last(message))),
                Ok(Taken::Unfinished(unfinished)) => return Some(Ok(Step::GoesOn(GoesOn::Unfinished(unfinished)))),
                Ok(Taken::Asked(question)) => return Some(Ok(Step::GoesOn(GoesOn::Asked(question)))),
                Ok(Taken::Nothing | Taken::Withdrawn(_)) => {}
                Err(error) => return Some(Err(self.relay.failure(error))),
            }
        }
    }
}

/// A legacy client that disconnects has not cancelled (MCP 2025-11-25, basic/transports): its call runs to the end.
impl Drop for EventReply {
    fn drop(&mut self) {
        let mut source = std::mem::replace(&mut self.source, Source::Upstream(None));
        if self.ended {
            return;
        }
        let (gateway, session) = match &mut source {
            Source::Upstream(Some(relayed)) if !relayed.relay.is_settled() => {
                relayed.client_is_gone = true;
                let Some(session) = relayed.relay.client().session().cloned() else { return };
                (Arc::clone(relayed.relay.gateway()), session)
            }
            Source::Conversation(conversation) => {
                conversation.client_is_gone();
                (Arc::clone(conversation.gateway()), Arc::clone(conversation.client()))
            }
            Source::Upstream(_) | Source::Own(_) | Source::Parked(_) => return,
        };
        let recorder = self.recorder.take();
        if let Some(recorder) = &recorder {
            self.queued.drain(..).for_each(|message| recorder.keep(Said::Message(message)));
        }
        let mut draft = self.counted.as_mut().and_then(Counted::take_draft);
        if let Some(draft) = &mut draft {
            draft.client_left();
        }
        gateway.outlive(&session, source.run_out(recorder, draft));
    }
}
