//! What an upstream answers to one request, whatever its transport.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::{
    mcp::sse::EventReader,
    outbound::UpstreamBody,
    upstream::{UpstreamError, life::Ticket, transport::process::Waiting},
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
struct Events {
    body: UpstreamBody,
    parser: EventReader,
    ready: VecDeque<Bytes>,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    Events(Box<Events>),
    Ended,
    Process { inbox: mpsc::Receiver<Bytes>, waiting: Waiting },
}

impl Messages {
    pub(crate) fn of_events(body: UpstreamBody, max_event: usize) -> Self {
        let events = Events { body, parser: EventReader::new(max_event), ready: VecDeque::new(), ended: false };
        Self { source: Source::Events(Box::new(events)), ticket: None }
    }

    pub(crate) fn of_process(inbox: mpsc::Receiver<Bytes>, waiting: Waiting) -> Self {
        Self { source: Source::Process { inbox, waiting }, ticket: None }
    }

    /// The ticket is kept as long as the messages come.
    pub(crate) fn with(mut self, ticket: Ticket) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// The next message; `None` at the end of the stream, and after an error.
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
            Source::Process { inbox, waiting } => inbox.poll_recv(cx).map(|message| {
                message.map(|message| {
                    waiting.read(message.len());
                    Ok(message)
                })
            }),
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
        let Self { body, parser, ready, ended } = self;
        loop {
            if let Some(message) = ready.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            if *ended {
                return Poll::Ready(None);
            }
            match std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
                None => *ended = true,
                Some(Err(error)) => {
                    *ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => {
                    let Ok(chunk) = frame.into_data() else { continue };
                    let taken = parser.push(chunk, &mut |event| {
                        // A priming event has an id and empty data; it carries no message.
                        if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                            ready.push_back(data);
                        }
                    });
                    if let Err(error) = taken {
                        *ended = true;
                        ready.clear();
                        return Poll::Ready(Some(Err(UpstreamError::protocol(error.to_string()))));
                    }
                }
            }
        }
    }
}
