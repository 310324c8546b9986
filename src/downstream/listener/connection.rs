//! One connection with its protocol, until the client, the drain or a new certificate ends it.

use std::{future::Future, pin::Pin, time::Duration};

use hyper::server::conn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Stop,
    arrival::Introduced,
    http2::{Streams, Tracked},
};

/// Longest wait for a request's whole header section.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header section; a larger one is answered with 431.
const MAX_HEADERS: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection, its streams of events included.
const MAX_STREAMS: u32 = 128;
/// Kept for one HTTP/2 stream whose client reads slowly.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// A peer that is silent for so long is asked whether it is still there, and given up when it does not say so in time.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What ends a connection from our side.
pub(super) struct Ends {
    stop: Stop,
    replaced: Option<Replaced>,
}

/// How a connection ends after other certificates are served.
pub(super) struct Replaced {
    pub(super) token: CancellationToken,
    /// From then on it takes no new requests.
    pub(super) linger: Duration,
    /// From then on there is nothing at all.
    pub(super) drain: Duration,
}

impl Ends {
    pub(super) fn of(stop: Stop) -> Self {
        Self { stop, replaced: None }
    }

    pub(super) fn and_when_replaced(self, replaced: Replaced) -> Self {
        Self { replaced: Some(replaced), ..self }
    }

    async fn no_new_requests(&self) {
        match &self.replaced {
            None => self.stop.drain.cancelled().await,
            Some(replaced) => tokio::select! {
                () = self.stop.drain.cancelled() => {}
                () = replaced.and_for(replaced.linger) => {}
            },
        }
    }

    async fn at_once(&self) {
        let Some(replaced) = &self.replaced else { return self.stop.now.cancelled().await };
        tokio::select! {
            () = self.stop.now.cancelled() => {}
            () = replaced.and_for(replaced.drain) => {}
        }
    }
}

impl Replaced {
    async fn and_for(&self, span: Duration) {
        self.token.cancelled().await;
        tokio::time::sleep(span).await;
    }
}

/// Serves one connection after another request, one at a time.
pub(super) async fn http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Introduced, ends: Ends) {
    let connection = conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .half_close(false)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    until_its_end(connection, conn::http1::Connection::graceful_shutdown, std::future::pending(), &ends).await;
}

/// Serves the requests of one connection side by side; they run in `tasks`.
pub(super) async fn http2(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Introduced,
    unread: Duration,
    tasks: &TaskTracker,
    ends: Ends,
) {
    let streams = Streams::default();
    let connection = conn::http2::Builder::new(InTracker(tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(Tracked::new(router, streams.clone())));
    tokio::pin!(connection);
    until_its_end(connection, conn::http2::Connection::graceful_shutdown, streams.given_up(HEADER_TIMEOUT, unread), &ends).await;
}

async fn until_its_end<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    given_up: impl Future<Output = &'static str>,
    ends: &Ends,
) {
    let served = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = ends.no_new_requests() => {
                graceful(connection.as_mut());
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = ends.at_once() => return tracing::debug!("a client's connection was cut off"),
        why = given_up => return tracing::debug!("a client's connection was given up: {why}"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// Runs HTTP/2 streams where the listener's drain waits for them.
#[derive(Clone)]
struct InTracker(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for InTracker {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tokio::time::timeout;

    use super::*;
    use crate::downstream::listener::Guest;

    #[tokio::test(start_paused = true)]
    async fn an_http2_client_that_never_makes_room_for_its_answer_is_given_up() {
        const UNREAD: Duration = Duration::from_secs(60);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let router = axum::Router::new().fallback(async || "an answer");
        let router = Introduced::new(router, Guest::new("127.0.0.1:1".parse().unwrap(), None));
        let serving = tokio::spawn(async move { http2(ours, router, UNREAD, &TaskTracker::new(), Ends::of(Stop::default())).await });
        let mut client = hyper::client::conn::http2::Builder::new(InTracker(TaskTracker::new()));
        client.initial_stream_window_size(0);
        let (mut sender, connection) = client.handshake(TokioIo::new(theirs)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(http::Request::new(Empty::<bytes::Bytes>::new())).await.unwrap();
        timeout(UNREAD * 2, serving).await.expect("given up").unwrap();
        drop(answer);
    }
}
