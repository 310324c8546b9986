//! Goes on with a stream that ended before the answer (MCP 2025-11-25, basic/transports, resumability and redelivery): a server
//! may close the connection of a long call, and the client comes back for the rest with a GET and `Last-Event-ID`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::{Instant, Sleep, sleep};

use super::{events::EventStream, streamable_http::HttpTransport};
use crate::{auth::Caller, mcp::sse::Event, upstream::UpstreamError};

/// Attempts in a row that bring nothing new.
const FRUITLESS: u32 = 5;
/// Pause before the first attempt where the server names none; doubles with each that brings nothing.
const PAUSE: Duration = Duration::from_millis(500);
/// Least pause, whatever the server says.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// A longer one is not waited for: the call is given up by its time-out long before.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// A longer event id is not kept.
const MAX_ID: usize = 1024;

/// What is needed to go on where a stream ended.
pub(crate) struct Again {
    http: Arc<HttpTransport>,
    version: Option<HeaderValue>,
    session: Option<HeaderValue>,
    caller: Option<Caller>,
    last_id: Option<HeaderValue>,
    /// As the server wants it.
    pause: Option<Duration>,
    fruitless: u32,
    phase: Phase,
}

enum Phase {
    Reading,
    Waiting(Pin<Box<Sleep>>),
    Opening(Opening),
}

type Opening = Pin<Box<dyn Future<Output = Result<EventStream, UpstreamError>> + Send>>;

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again").field("fruitless", &self.fruitless).finish_non_exhaustive()
    }
}

impl Again {
    pub(crate) fn new(
        http: Arc<HttpTransport>,
        version: Option<HeaderValue>,
        session: Option<HeaderValue>,
        caller: Option<Caller>,
    ) -> Self {
        Self { http, version, session, caller, last_id: None, pause: None, fruitless: 0, phase: Phase::Reading }
    }

    /// Remembers where the stream is.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Some(id) = event.id.as_ref().filter(|id| id.len() <= MAX_ID) {
            // An empty id takes the last one back (HTML Living Standard, section 9.2.6).
            self.last_id = (!id.is_empty()).then(|| HeaderValue::from_maybe_shared(Bytes::clone(id)).ok()).flatten();
            self.fruitless = 0;
        }
        if let Some(retry) = event.retry {
            self.pause = Some(Duration::from_millis(retry).clamp(LEAST_PAUSE, LONGEST_PAUSE));
        }
    }

    /// Prepares to go on; gives the pause before it, or `None` when the stream cannot be resumed.
    pub(crate) fn begin(&mut self) -> Option<Duration> {
        if self.last_id.is_none() || self.fruitless >= FRUITLESS {
            return None;
        }
        let pause = self.pause.unwrap_or_else(|| PAUSE * 2_u32.pow(self.fruitless));
        self.fruitless += 1;
        self.phase = Phase::Waiting(Box::pin(sleep(pause)));
        Some(pause)
    }

    /// Goes on at once: whoever the answer is for has come back sooner than the server asked for.
    pub(crate) fn hurry(&mut self) {
        if let Phase::Waiting(pause) = &mut self.phase {
            pause.as_mut().reset(Instant::now());
        }
    }

    /// The stream that goes on, if one is waited for; ready with `None` when none is.
    pub(crate) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<EventStream, UpstreamError>>> {
        loop {
            match &mut self.phase {
                Phase::Reading => return Poll::Ready(None),
                Phase::Waiting(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    let (http, version, session) = (Arc::clone(&self.http), self.version.clone(), self.session.clone());
                    let (last_id, caller) = (self.last_id.clone(), self.caller.clone());
                    self.phase = Phase::Opening(Box::pin(async move { http.resume(version, session, last_id, caller).await }));
                }
                Phase::Opening(opening) => {
                    let opened = ready!(opening.as_mut().poll(cx));
                    self.phase = Phase::Reading;
                    // The server may be about to come back.
                    if let Err(UpstreamError::Failed { never_sent: true, .. }) = &opened
                        && self.begin().is_some()
                    {
                        continue;
                    }
                    return Poll::Ready(Some(opened.map_err(|error| lost(&error))));
                }
            }
        }
    }
}

/// Whatever it was, the call itself had been sent: it may have been executed.
fn lost(error: &UpstreamError) -> UpstreamError {
    let mut explanation = error.explanation();
    explanation.detail = format!("the stream ended without the answer, and could not be resumed: {}", explanation.detail);
    UpstreamError::Failed { explanation, never_sent: false }
}
