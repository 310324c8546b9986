//! The events of an HTTP answer, one by one.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Body;

use crate::{
    mcp::sse::{Event, EventReader},
    outbound::UpstreamBody,
    upstream::UpstreamError,
};

/// A body that is read as server-sent events. Cancel-safe.
#[derive(Debug)]
pub(crate) struct EventStream {
    body: UpstreamBody,
    parser: EventReader,
    ready: VecDeque<Event>,
    ended: bool,
}

impl EventStream {
    /// `max_event`: the most bytes of one event.
    pub(crate) fn new(body: UpstreamBody, max_event: usize) -> Self {
        Self { body, parser: EventReader::new(max_event), ready: VecDeque::new(), ended: false }
    }

    /// The next event; `None` at the end of the stream, and after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Event, UpstreamError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, UpstreamError>>> {
        let Self { body, parser, ready, ended } = self;
        loop {
            if let Some(event) = ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
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
                    if let Err(error) = parser.push(chunk, &mut |event| ready.push_back(event)) {
                        *ended = true;
                        ready.clear();
                        return Poll::Ready(Some(Err(UpstreamError::protocol(error.to_string()))));
                    }
                }
            }
        }
    }
}
