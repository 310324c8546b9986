//! `/events?since=`: what happened lately, as JSON; with `Accept: text/event-stream` it goes on as it happens.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header::ACCEPT};
use serde::Serialize;
use tokio::{sync::watch, time::timeout};

use super::date;
use crate::{
    admin::{respond, server::Inner},
    events::{Event, Events},
};

/// A quiet stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct EventList {
    events: Vec<EventView>,
    /// For the next question's `since`.
    last: u64,
}

/// One event in JSON.
#[derive(Serialize)]
struct EventView {
    id: u64,
    at: String,
    kind: &'static str,
    severity: &'static str,
    upstream: Option<String>,
    reason: Option<&'static str>,
    detail: String,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            at: date(event.at),
            kind: event.news.kind.word(),
            severity: event.news.severity.word(),
            upstream: event.news.upstream,
            reason: event.news.reason.map(crate::reason::Reason::code),
            detail: event.news.detail,
        }
    }
}

pub(super) async fn since(State(state): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let events = &state.parts.events;
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/event-stream"));
    let streams = request.headers().get_all(ACCEPT).iter().any(accepts);
    // A stream that broke off is taken up where it was (HTML, server-sent events, `Last-Event-ID`).
    let resumed = request.headers().get("last-event-id").filter(|_| streams).and_then(|id| id.to_str().ok());
    let asked = resumed.or_else(|| request.uri().query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("since="))));
    let Ok(since) = asked.map_or(Ok(0), str::parse::<u64>) else {
        return respond::error(StatusCode::BAD_REQUEST, "since is the id of an event, a whole number");
    };
    if streams {
        let follower = Follower { events: events.clone(), news: events.follow(), last: since, ready: VecDeque::new() };
        let kind = HeaderValue::from_static("text/event-stream");
        return respond::with(StatusCode::OK, kind, Body::from_stream(follower.into_stream()));
    }
    let events = events.since(since);
    let last = events.last().map_or(since, |event| event.id);
    respond::json(StatusCode::OK, &EventList { events: events.into_iter().map(EventView::from).collect(), last })
}

/// One operator who follows. Whoever reads too slowly misses what was forgotten meanwhile, and nobody waits for them.
struct Follower {
    events: Events,
    news: watch::Receiver<u64>,
    last: u64,
    ready: VecDeque<Event>,
}

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        futures_util::stream::unfold(self, |mut follower| async move {
            let bytes = loop {
                if let Some(event) = follower.ready.pop_front() {
                    follower.last = event.id;
                    break written(event);
                }
                // Marked as seen before looking, so that nothing falls between.
                follower.news.borrow_and_update();
                follower.ready = follower.events.since(follower.last).into();
                if follower.ready.is_empty() {
                    match timeout(KEEP_ALIVE, follower.news.changed()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return None,
                        Err(_) => break Bytes::from_static(b": still here\n\n"),
                    }
                }
            };
            Some((Ok(bytes), follower))
        })
    }
}

fn written(event: Event) -> Bytes {
    let (id, kind) = (event.id, event.news.kind.word());
    // Strings and numbers can always be written.
    let data = respond::document(&EventView::from(event)).unwrap_or_default();
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").into()
}
