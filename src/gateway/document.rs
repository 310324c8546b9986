//! An answer that is one JSON document, on its way to the client.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    relay::Relay,
    tally::{Counted, Outcome},
};
use crate::{
    mcp::ResponseScanner,
    upstream::{AnswerBody, UpstreamError},
};

/// A JSON document on its way from the upstream.
#[derive(Debug)]
pub struct JsonReply {
    pub status: StatusCode,
    /// Exact, where the upstream said how long its answer is.
    pub length: Option<u64>,
    pub body: JsonBody,
    sent: u64,
    pub(super) counted: Option<Counted>,
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
    relay: Relay,
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
        Self { body, scanner: None, ready: VecDeque::new(), ended: false, wait, relay }
    }

    pub(super) fn scanned(body: AnswerBody, scanner: ResponseScanner, relay: Relay) -> Self {
        let max = relay.call_timeout_max();
        let wait = Wait::Call { patience: relay.call_timeout(), idle: None, last: Instant::now() + max, max };
        Self { body, scanner: Some(scanner), ready: VecDeque::new(), ended: false, wait, relay }
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
                    self.relay.notice_links(&chunk);
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
            if let Some(counted) = &mut self.counted {
                counted.passes(chunk);
            }
        }
        // Whoever knows the length may not ask again after the last byte.
        let outcome = match &chunk {
            Some(Err(_)) => Some(Outcome::Failed),
            None => Some(Outcome::Ok),
            Some(Ok(_)) => (self.length == Some(self.sent)).then_some(Outcome::Ok),
        };
        if let (Some(outcome), Some(counted)) = (outcome, &mut self.counted) {
            if let Some(Err(error)) = &chunk {
                counted.breaks_off(error);
            }
            counted.ends(outcome);
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
