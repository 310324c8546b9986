//! What goes back to the client, still streaming where the upstream streams.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    GatewayError,
    listen::Listening,
    parked::{Attached, Incoming, park},
    relay::{Relay, Taken},
    tally::{Counted, Outcome},
};
use crate::{
    mcp::{Message, ResponseScanner},
    reason::Reason,
    upstream::{AnswerBody, Messages, UpstreamError},
};

/// An answer to one request.
#[derive(Debug)]
pub enum Reply {
    /// One whole JSON-RPC message.
    Message { status: StatusCode, body: Bytes },
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
            Self::Message { .. } | Self::Pieces(_) => counted.ends(Outcome::Ok),
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
        Self::Message { status: StatusCode::OK, body }
    }

    /// A cancelled request is not answered.
    pub(super) fn silence() -> Self {
        Self::Events(Box::new(EventReply { source: Source::Upstream(None), queued: VecDeque::new(), ended: true, counted: None }))
    }

    pub(super) fn listening(listening: Listening) -> Self {
        Self::Events(Box::new(EventReply {
            source: Source::Own(Box::new(listening)),
            queued: VecDeque::new(),
            ended: false,
            counted: None,
        }))
    }
}

/// A JSON document on its way from the upstream.
#[derive(Debug)]
pub struct JsonReply {
    pub status: StatusCode,
    /// Exact, where the upstream said how long its answer is.
    pub length: Option<u64>,
    pub body: JsonBody,
    sent: u64,
    counted: Option<Counted>,
}

impl JsonReply {
    pub(super) fn new(status: StatusCode, length: Option<u64>, body: JsonBody) -> Self {
        Self { status, length, body, sent: 0, counted: None }
    }
}

/// The document's bytes; with a scanner, the id is put back on the way, and a wrong one breaks the body off.
#[derive(Debug)]
pub struct JsonBody {
    body: AnswerBody,
    scanner: Option<ResponseScanner>,
    ready: VecDeque<Bytes>,
    ended: bool,
    wait: Wait,
    _relay: Relay,
}

/// How long the rest of a document is waited for.
#[derive(Debug)]
enum Wait {
    Call {
        patience: Duration,
        /// Made when the upstream first lets us wait.
        idle: Option<Pin<Box<Sleep>>>,
        /// When it is given up whatever comes, and how long after its beginning that is.
        last: Instant,
        max: Duration,
    },
    /// As long as the gateway does not drain.
    Subscription(Pin<Box<WaitForCancellationFutureOwned>>),
}

impl JsonBody {
    /// A subscription that a server answers with documents instead of events.
    pub(super) fn subscription(body: AnswerBody, relay: Relay) -> Self {
        let wait = Wait::Subscription(Box::pin(relay.gateway().drain.clone().cancelled_owned()));
        Self { body, scanner: None, ready: VecDeque::new(), ended: false, wait, _relay: relay }
    }

    pub(super) fn scanned(body: AnswerBody, scanner: ResponseScanner, relay: Relay) -> Self {
        let max = relay.call_timeout_max();
        let wait = Wait::Call { patience: relay.call_timeout(), idle: None, last: Instant::now() + max, max };
        Self { body, scanner: Some(scanner), ready: VecDeque::new(), ended: false, wait, _relay: relay }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) if !self.wait.is_over() => frame,
                Poll::Ready(_) | Poll::Pending => {
                    let error = ready!(self.wait.poll_end(cx));
                    self.ended = true;
                    return Poll::Ready(error.map(Err));
                }
            };
            self.wait.restart();
            let taken = match frame {
                None => {
                    self.ended = true;
                    self.scanner.take().map_or(Ok(()), ResponseScanner::finish)
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    match &mut self.scanner {
                        None => return Poll::Ready(Some(Ok(chunk))),
                        Some(scanner) => scanner.push(&chunk, &mut |piece| self.ready.push_back(piece)),
                    }
                }
            };
            if let Err(error) = taken {
                self.ended = true;
                self.ready.clear();
                return Poll::Ready(Some(Err(UpstreamError::protocol(error.to_string()))));
            }
        }
    }
}

impl Wait {
    /// Whether even a body that never pauses is given up now.
    fn is_over(&self) -> bool {
        matches!(self, Self::Call { last, .. } if Instant::now() >= *last)
    }

    fn restart(&mut self) {
        if let Self::Call { idle, .. } = self {
            *idle = None;
        }
    }

    /// Ready when nothing is waited for any more, with the error if it is one.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<UpstreamError>> {
        match self {
            Self::Subscription(drained) => drained.as_mut().poll(cx).map(|()| None),
            Self::Call { patience, idle, last, max } => {
                let now = Instant::now();
                if now >= *last {
                    return Poll::Ready(Some(UpstreamError::TimedOut(*max)));
                }
                let idle = idle.get_or_insert_with(|| Box::pin(sleep_until((*last).min(now + *patience))));
                ready!(idle.as_mut().poll(cx));
                Poll::Ready(Some(UpstreamError::TimedOut(if Instant::now() >= *last { *max } else { *patience })))
            }
        }
    }
}

impl Body for JsonReply {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let chunk = ready!(self.body.poll_chunk(cx));
        if let Some(Ok(chunk)) = &chunk {
            self.sent += chunk.len() as u64;
        }
        // Whoever knows the length may not ask again after the last byte.
        let outcome = match &chunk {
            Some(Err(_)) => Some(Outcome::Failed),
            None => Some(Outcome::Ok),
            Some(Ok(_)) => (self.length == Some(self.sent)).then_some(Outcome::Ok),
        };
        if let (Some(outcome), Some(counted)) = (outcome, &mut self.counted) {
            counted.ends(outcome);
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Messages on their way, from an upstream or from the gateway itself.
#[derive(Debug)]
pub struct EventReply {
    source: Source,
    queued: VecDeque<Bytes>,
    ended: bool,
    counted: Option<Counted>,
}

#[derive(Debug)]
enum Source {
    Upstream(Option<Box<Relayed>>),
    Own(Box<Listening>),
    /// A call that waits for its client now and then.
    Parked(Attached),
}

/// What comes next on a stream.
enum Passed {
    Message(Bytes),
    Last(Bytes),
    /// The server asks the client, who is told by the end of the stream.
    Asked(Box<Message>),
}

#[derive(Debug)]
struct Relayed {
    messages: Messages,
    relay: Relay,
    /// A subscription has no limits: it is quiet until something changes, and ends when the gateway drains.
    limits: Option<Limits>,
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
        let relayed = Relayed { messages, relay, limits };
        Self { source: Source::Upstream(Some(Box::new(relayed))), queued: first.into(), ended: false, counted: None }
    }

    pub(super) fn attached(attached: Attached) -> Self {
        Self { source: Source::Parked(attached), queued: VecDeque::new(), ended: false, counted: None }
    }

    fn is_subscription(&self) -> bool {
        match &self.source {
            Source::Own(_) => true,
            Source::Parked(_) => false,
            Source::Upstream(relayed) => relayed.as_ref().is_some_and(|relayed| relayed.relay.is_subscription()),
        }
    }

    /// An untouched stream ends when the upstream ends it; any other, with its response.
    fn is_complete(&self) -> bool {
        let Source::Upstream(Some(relayed)) = &self.source else { return false };
        relayed.relay.is_untouched() && !relayed.relay.stop().is_some_and(CancellationToken::is_cancelled)
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        if let Some(counted) = &mut self.counted {
            counted.ends(outcome);
        }
    }

    /// The next message; after an error nothing follows. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, GatewayError>> {
        if let Some(message) = self.queued.pop_front() {
            return Some(Ok(message));
        }
        if self.ended {
            return None;
        }
        let mut next = match &mut self.source {
            Source::Own(listening) => listening.next().await.map(|message| Ok(Passed::Message(message))),
            Source::Upstream(None) => None,
            Source::Upstream(Some(relayed)) => relayed.next().await,
            Source::Parked(attached) => next_of(attached).await,
        };
        if let Some(Ok(Passed::Asked(question))) = next {
            let Source::Upstream(relayed) = &mut self.source else { return None };
            let Relayed { messages, relay, .. } = *relayed.take()?;
            // Kept before it is waited for: this future may be dropped at any wait.
            self.source = Source::Parked(park(Incoming::Messages(messages), relay, *question));
            let Source::Parked(attached) = &mut self.source else { return None };
            next = next_of(attached).await;
        }
        match next {
            Some(Ok(Passed::Message(message))) => Some(Ok(message)),
            Some(Ok(Passed::Asked(_))) => None,
            Some(Ok(Passed::Last(message))) => {
                self.end(Outcome::Ok);
                Some(Ok(message))
            }
            Some(Err(error)) => {
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

async fn next_of(attached: &mut Attached) -> Option<Result<Passed, GatewayError>> {
    let next = attached.next().await?;
    Some(next.map(|(message, is_last)| if is_last { Passed::Last(message) } else { Passed::Message(message) }))
}

impl Relayed {
    /// The next message. `None`: the client cancelled or its subscription ends, so no answer
    /// follows.
    async fn next(&mut self) -> Option<Result<Passed, GatewayError>> {
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
                    None => return None,
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
                // An untouched stream is the upstream's own affair to the end.
                None if self.relay.is_untouched() => {
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
            if self.relay.is_untouched() {
                return Some(Ok(Passed::Message(message)));
            }
            match self.relay.take(message) {
                Ok(Taken::Send(message)) => return Some(Ok(Passed::Message(message))),
                Ok(Taken::Last(message, _)) => return Some(Ok(Passed::Last(message))),
                Ok(Taken::Asked(question)) => return Some(Ok(Passed::Asked(question))),
                Ok(Taken::Nothing | Taken::Withdrawn(_)) => {}
                Err(error) => return Some(Err(self.relay.failure(error))),
            }
        }
    }
}

/// A legacy client that disconnects has not cancelled (MCP 2025-11-25, basic/transports): its call runs to the end.
impl Drop for EventReply {
    fn drop(&mut self) {
        let Source::Upstream(relayed) = &mut self.source else { return };
        let Some(mut relayed) = relayed.take() else { return };
        if self.ended || relayed.relay.is_settled() {
            return;
        }
        let Some(session) = relayed.relay.client().session().cloned() else { return };
        let gateway = Arc::clone(relayed.relay.gateway());
        gateway.outlive(&session, async move { while let Some(Ok(Passed::Message(_))) = relayed.next().await {} });
    }
}
