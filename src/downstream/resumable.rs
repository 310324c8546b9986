//! Streams that a client whose connection broke comes back for (MCP 2025-11-25, basic/transports, resumability and
//! redelivery): their events carry ids, and a GET with `Last-Event-ID` goes on with one of them.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use tokio::time::timeout;

use super::{rescue::rescue, streamable_http::KEEP_ALIVE};
use crate::{
    gateway::{EventId, EventReply, Replay, Said},
    mcp::{Era, Id, sse},
};

/// The answer to a call, as events that are recorded.
pub(super) fn recorded(events: EventReply, id: Option<Id>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold(Step::Opening(Box::new(events)), move |step| {
        let id = id.clone();
        async move {
            let mut events = match step {
                Step::Opening(events) if events.is_primed() => {
                    let opening = empty_event(events.last_id(), None);
                    return Some((Ok(opening), Step::Telling(events)));
                }
                Step::Opening(events) | Step::Telling(events) => events,
                Step::HungUp => return None,
            };
            let taken_over = events.taken_over();
            let next = tokio::select! {
                next = timeout(KEEP_ALIVE, events.next()) => next,
                () = taken_over => return None,
            };
            let bytes = match next {
                Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
                Ok(Some(Ok(message))) => with_id(sse::Event::message(message), events.last_id()).encode(),
                Ok(Some(Err(error))) => sse::Event::message(rescue(&error, id.as_ref(), Era::Legacy).body).encode(),
                Ok(None) => match events.take_pause() {
                    // The upstream wants no connection to stay open meanwhile. What follows is written down.
                    Some(pause) => return Some((Ok(empty_event(events.last_id(), Some(pause))), Step::HungUp)),
                    None => {
                        events.delivered();
                        return None;
                    }
                },
            };
            Some((Ok(bytes), Step::Telling(events)))
        }
    })
}

enum Step {
    Opening(Box<EventReply>),
    Telling(Box<EventReply>),
    HungUp,
}

/// The rest of a stream, for a client that came back.
pub(super) fn replayed(replay: Replay) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold(replay, |mut replay| async move {
        let bytes = match timeout(KEEP_ALIVE, replay.next()).await {
            Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
            Ok(None) => return None,
            Ok(Some((at, said))) => {
                let message = match said {
                    Said::Message(message) => message,
                    Said::Failed { error, id } => rescue(&error, Some(&id), Era::Legacy).body,
                };
                with_id(sse::Event::message(message), Some(at)).encode()
            }
        };
        Some((Ok(bytes), replay))
    })
}

fn with_id(event: sse::Event, at: Option<EventId>) -> sse::Event {
    match at {
        Some(at) => event.with_id(at.to_string()),
        None => event,
    }
}

/// An event that says where the stream is and carries no message.
fn empty_event(at: Option<EventId>, retry: Option<Duration>) -> Bytes {
    let retry = retry.map(|retry| u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
    with_id(sse::Event { retry, data: Some(Bytes::new()), ..sse::Event::default() }, at).encode()
}
