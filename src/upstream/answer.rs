//! What an upstream answers to one request, whatever its transport.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::{
    outbound::UpstreamBody,
    upstream::{
        UpstreamError,
        life::Ticket,
        transport::{again::Again, channel::Waiting, events::EventStream},
    },
};

/// An upstream's answer; its content still streams.
#[derive(Debug)]
pub enum Answer {
    /// Nothing will follow: HTTP 202, or an empty 200 or 204 of a careless server.
    Accepted,
    /// One JSON document.
    Json(JsonAnswer),
    /// JSON-RPC messages one by one; the last one is the response.
    Messages(Messages),
}

#[derive(Debug)]
pub struct JsonAnswer {
    /// With HTTP 429 or 503: how long to wait until the next call.
    pub retry_after: Option<Duration>,
    pub status: StatusCode,
    /// From Content-Length.
    pub length: Option<u64>,
    pub body: AnswerBody,
}

/// A body that breaks off when its generation is over.
#[derive(Debug)]
pub struct AnswerBody {
    body: UpstreamBody,
    ticket: Option<Ticket>,
}

impl From<UpstreamBody> for AnswerBody {
    fn from(body: UpstreamBody) -> Self {
        Self { body, ticket: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let Self { body, ticket } = &mut *self;
        if let Some(error) = ticket.as_mut().and_then(Ticket::outstayed) {
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(UpstreamError::from))),
            Poll::Pending => over(ticket.as_mut(), cx),
        }
    }
}

fn over<T>(ticket: Option<&mut Ticket>, cx: &mut Context<'_>) -> Poll<Option<Result<T, UpstreamError>>> {
    ticket.map_or(Poll::Pending, |ticket| ticket.poll_over(cx).map(|error| Some(Err(error))))
}

impl Answer {
    /// The ticket is kept as long as the answer streams.
    pub(crate) fn with(self, ticket: Ticket) -> Self {
        match self {
            Self::Accepted => Self::Accepted,
            Self::Json(mut json) => {
                json.body.ticket = Some(ticket);
                Self::Json(json)
            }
            Self::Messages(messages) => Self::Messages(messages.with(ticket)),
        }
    }
}

impl JsonAnswer {
    /// Reads the whole document.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes or breaks off.
    pub async fn collect(self, limit: usize) -> Result<Bytes, UpstreamError> {
        collect(self.body, limit).await
    }
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// When it is longer or breaks off.
pub(crate) async fn collect(body: AnswerBody, limit: usize) -> Result<Bytes, UpstreamError> {
    use http_body_util::{BodyExt as _, Limited};
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(match error.downcast::<UpstreamError>() {
            Ok(error) => *error,
            Err(_) => UpstreamError::protocol(format!("the answer is longer than {limit} bytes")),
        }),
    }
}

/// JSON-RPC messages in the order they came. Cancel-safe.
#[derive(Debug)]
pub struct Messages {
    source: Source,
    ticket: Option<Ticket>,
}

#[derive(Debug)]
enum Source {
    Events(Box<Events>),
    Ended,
    Channel(Box<Inbound>),
}

#[derive(Debug)]
struct Events {
    stream: EventStream,
    /// Where the stream of a call may be gone on with.
    again: Option<Again>,
    paused: Option<Duration>,
}

/// What a channel brings for one request.
struct Inbound {
    inbox: mpsc::Receiver<Bytes>,
    waiting: Waiting,
    /// Came while the request was still being sent.
    first: Option<Bytes>,
    /// The POST that carries the request, until it is answered.
    posted: Option<Posted>,
}

/// Ready once a request was taken, with the error if it was not.
pub(crate) type Posted = Pin<Box<dyn Future<Output = Result<(), UpstreamError>> + Send>>;

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl Inbound {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Poll::Ready(message) = self.inbox.poll_recv(cx) {
            return Poll::Ready(message.map(|message| {
                self.waiting.read(message.len());
                Ok(message)
            }));
        }
        match self.poll_posted(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_posted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let Some(posted) = &mut self.posted else { return Poll::Ready(Ok(())) };
        let done = posted.as_mut().poll(cx);
        if done.is_ready() {
            self.posted = None;
        }
        done
    }
}

impl Messages {
    pub(crate) fn of_events(body: UpstreamBody, max_event: usize) -> Self {
        let events = Events { stream: EventStream::new(body, max_event), again: None, paused: None };
        Self { source: Source::Events(Box::new(events)), ticket: None }
    }

    /// Events of a call whose stream the server may close before the answer.
    pub(crate) fn resumed_by(mut self, again: Again) -> Self {
        if let Source::Events(events) = &mut self.source {
            events.again = Some(again);
        }
        self
    }

    /// Ends such a pause: whoever the answer is for is there already.
    pub(crate) fn hurry(&mut self) {
        if let Source::Events(events) = &mut self.source
            && let Some(again) = &mut events.again
        {
            again.hurry();
        }
    }

    /// After the end of the stream: it was none, and the rest comes after this pause.
    pub(crate) fn take_pause(&mut self) -> Option<Duration> {
        match &mut self.source {
            Source::Events(events) => events.paused.take(),
            Source::Ended | Source::Channel(_) => None,
        }
    }

    /// `posted` may still be on its way.
    pub(crate) fn of_channel(inbox: mpsc::Receiver<Bytes>, waiting: Waiting, posted: Option<Posted>) -> Self {
        Self { source: Source::Channel(Box::new(Inbound { inbox, waiting, first: None, posted })), ticket: None }
    }

    /// Waits until the request was taken, or something came back for it.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) async fn begun(&mut self) -> Result<(), UpstreamError> {
        let Source::Channel(inbound) = &mut self.source else { return Ok(()) };
        std::future::poll_fn(|cx| {
            if let Poll::Ready(posted) = inbound.poll_posted(cx) {
                return Poll::Ready(posted);
            }
            match std::task::ready!(inbound.inbox.poll_recv(cx)) {
                Some(message) => {
                    inbound.waiting.read(message.len());
                    inbound.first = Some(message);
                    Poll::Ready(Ok(()))
                }
                // How the channel ended is told by whoever reads on.
                None => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    /// The ticket is kept as long as the messages come.
    pub(crate) fn with(mut self, ticket: Ticket) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// The next message; `None` at the end of the stream, and after an error. If there is a pause then, it goes on.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        if !matches!(self.source, Source::Ended)
            && let Some(error) = self.ticket.as_mut().and_then(Ticket::outstayed)
        {
            self.source = Source::Ended;
            return Poll::Ready(Some(Err(error)));
        }
        let next = match &mut self.source {
            Source::Ended => Poll::Ready(None),
            Source::Channel(inbound) => inbound.poll_next(cx),
            Source::Events(events) => events.poll_next(cx),
        };
        if next.is_ready() {
            return next;
        }
        let over = over(self.ticket.as_mut(), cx);
        if over.is_ready() {
            // What is left of it is let go of at once: its connection must not outlive its generation.
            self.source = Source::Ended;
        }
        over
    }
}

impl Events {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        loop {
            if let Some(again) = &mut self.again {
                match std::task::ready!(again.poll_opened(cx)) {
                    None => {}
                    Some(Ok(stream)) => self.stream = stream,
                    Some(Err(error)) => {
                        self.again = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            let ended = match std::task::ready!(self.stream.poll_next(cx)) {
                Some(Ok(event)) => {
                    if let Some(again) = &mut self.again {
                        again.note(&event);
                    }
                    // A priming event has an id and empty data; it carries no message.
                    match event.data.filter(|data| !data.is_empty()) {
                        Some(data) => return Poll::Ready(Some(Ok(data))),
                        None => continue,
                    }
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            match (self.again.as_mut().and_then(Again::begin), ended) {
                // The server hung up on purpose, which whoever reads may want to know.
                (Some(pause), None) => {
                    self.paused = Some(pause);
                    return Poll::Ready(None);
                }
                (Some(_), Some(error)) => tracing::debug!(%error, "the stream of a call broke; going on with it"),
                (None, Some(error)) => return Poll::Ready(Some(Err(error))),
                (None, None) => return Poll::Ready(None),
            }
        }
    }
}
