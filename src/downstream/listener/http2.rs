//! What HTTP/2 needs beyond HTTP/1.1: a socket that makes progress says nothing about one stream of it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tower_service::Service;

use super::arrival::Introduced;

/// How often a connection is looked at; the limits hold within one such span.
const LOOK: Duration = Duration::from_secs(5);
/// A connection without a request is closed after this long, like an HTTP/1.1 one.
const IDLE: Duration = Duration::from_secs(60);

/// The streams of one connection.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    began: Instant,
    requests: u64,
    /// Without an open stream: since when.
    idle_since: Option<Instant>,
    /// Each open stream; set while its client has not taken what it was given.
    open: std::collections::BTreeMap<u64, Option<Instant>>,
}

impl Default for Streams {
    fn default() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Seen { began: now, requests: 0, idle_since: Some(now), open: std::collections::BTreeMap::new() })))
    }
}

impl Streams {
    /// Says why the connection is not worth keeping, once that is so: no request within `first`, none for a minute, or
    /// something left unread for longer than `unread`. Cancel-safe.
    pub(super) async fn given_up(&self, first: Duration, unread: Duration) -> &'static str {
        let mut looks = interval(LOOK.min(unread));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(why) = self.judge(first, unread) {
                return why;
            }
        }
    }

    fn judge(&self, first: Duration, unread: Duration) -> Option<&'static str> {
        let seen = self.0.lock();
        if seen.requests == 0 && seen.began.elapsed() >= first {
            return Some("no request came");
        }
        if seen.requests > 0 && seen.idle_since.is_some_and(|since| since.elapsed() >= IDLE) {
            return Some("it was idle");
        }
        let is_left = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() >= unread);
        seen.open.values().any(is_left).then_some("it does not read")
    }

    fn open(&self) -> Stream {
        let mut seen = self.0.lock();
        let number = seen.requests;
        seen.requests += 1;
        seen.idle_since = None;
        seen.open.insert(number, None);
        Stream { streams: self.clone(), number }
    }
}

/// One open stream; closed when dropped.
#[derive(Debug)]
struct Stream {
    streams: Streams,
    number: u64,
}

impl Stream {
    fn gave(&self, given: Option<Instant>) {
        if let Some(open) = self.streams.0.lock().open.get_mut(&self.number) {
            *open = given;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut seen = self.streams.0.lock();
        seen.open.remove(&self.number);
        if seen.open.is_empty() {
            seen.idle_since = Some(Instant::now());
        }
    }
}

/// The router, with every request and the body of its answer in [`Streams`].
#[derive(Clone)]
pub(super) struct Tracked {
    router: Introduced,
    streams: Streams,
}

impl Tracked {
    pub(super) fn new(router: Introduced, streams: Streams) -> Self {
        Self { router, streams }
    }
}

impl Service<Request<hyper::body::Incoming>> for Tracked {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let stream = self.streams.open();
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // A client whose window has no room from the start is never asked for more, and has to read all the same.
            stream.gave(Some(Instant::now()));
            Ok(answer.map(|body| TrackedBody { body, stream }))
        })
    }
}

/// hyper asks a body for its next frame only after the one before has found room in the client's window, so from one frame to
/// the next question the client has to read.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    stream: Stream,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.stream.gave(matches!(frame, Poll::Ready(Some(Ok(_)))).then(Instant::now));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const UNREAD: Duration = Duration::from_secs(30);
    const FIRST: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_any_request_is_given_up() {
        let streams = Streams::default();
        let began = Instant::now();
        assert_eq!(streams.given_up(FIRST, UNREAD).await, "no request came");
        assert!(began.elapsed() >= FIRST && began.elapsed() <= FIRST + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_between_requests_is_kept_for_a_minute() {
        let streams = Streams::default();
        drop(streams.open());
        let began = Instant::now();
        assert_eq!(streams.given_up(FIRST, UNREAD).await, "it was idle");
        assert!(began.elapsed() >= IDLE && began.elapsed() <= IDLE + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_leaves_unread_for_too_long_ends_its_connection() {
        let streams = Streams::default();
        let mut body = TrackedBody { body: Body::from("an answer"), stream: streams.open() };
        body.frame().await.unwrap().unwrap();
        let began = Instant::now();
        assert_eq!(streams.given_up(FIRST, UNREAD).await, "it does not read");
        assert!(began.elapsed() >= UNREAD && began.elapsed() <= UNREAD + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_wait_for_an_event_as_long_as_it_likes() {
        let streams = Streams::default();
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
        let mut body = TrackedBody { body: endless, stream: streams.open() };
        let waiting = tokio::time::timeout(UNREAD * 10, async {
            tokio::select! {
                _ = body.frame() => "a frame",
                why = streams.given_up(FIRST, UNREAD) => why,
            }
        });
        assert!(waiting.await.is_err(), "neither came");
    }
}
