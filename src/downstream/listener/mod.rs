//! The accept loop: bounded connections, bounded handshakes, bounded headers, a limited wait for each, and a drain at the end.
//!
//! ```text
//! accept ─▶ (handshake, beside others, evicted when there are too many) ─▶ a place among the connections ─▶ HTTP/1.1 or HTTP/2
//! ```

mod arrival;
mod connection;
mod handshakes;
mod http2;
mod patience;
mod places;
mod refuse;
mod renewal;
mod tls;
mod told;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use http::{
    HeaderValue,
    header::{CONNECTION, STRICT_TRANSPORT_SECURITY},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use arrival::Guest;
pub use renewal::{Prepared, Renewal, RenewalParts};
pub use tls::{ListenerTls, Swapped};
pub(crate) use told::Told;

use super::LiveServer;
use arrival::Introduced;
use connection::{Ends, Replaced};
use places::{Place, Places};
use tls::Arrival;

/// Pause after a failed accept, which is out of file descriptors more often than not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds `address`.
///
/// # Errors
/// As the system says; in use, or not an address of this machine.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Lets this process have as many open files as it may.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
}

/// What one listener grants its clients.
#[derive(Clone, Debug)]
pub(crate) enum Limits {
    /// What `[server]` says when a connection comes.
    Live(LiveServer),
    Fixed {
        connections: usize,
        /// Longest a client may leave what was sent to it unread.
        unread: Duration,
    },
}

impl Limits {
    fn connections(&self) -> usize {
        match self {
            Self::Live(server) => server.now().max_connections,
            Self::Fixed { connections, .. } => *connections,
        }
    }

    fn unread(&self) -> Duration {
        match self {
            Self::Live(server) => server.now().request_timeout,
            Self::Fixed { unread, .. } => *unread,
        }
    }
}

/// How a listener ends: first no new requests, then none at all.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No new connections and requests; open ones go on.
    pub drain: CancellationToken,
    /// Open ones are cut off.
    pub now: CancellationToken,
}

/// Serves until `stop.drain`, then lets open requests end, until `stop.now`. With `tls`, nothing but HTTPS is served.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: Limits, tls: Option<Arc<ListenerTls>>, stop: Stop) {
    let shared = Shared { router, places: Places::default(), limits, connections: TaskTracker::new(), stop };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.drain.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        match &tls {
            None => shared.plain(stream, peer),
            Some(tls) => {
                shared.connections.spawn(secured(stream, peer, Arc::clone(tls), shared.clone()));
            }
        }
    }
    drop(listener);
    shared.connections.close();
    shared.connections.wait().await;
}

/// What every connection of a listener needs.
#[derive(Clone)]
struct Shared {
    router: Router,
    places: Places,
    limits: Limits,
    connections: TaskTracker,
    stop: Stop,
}

impl Shared {
    fn plain(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.place() else {
            self.connections.spawn(refuse::busy(stream));
            return;
        };
        let stream = patience::Patient::new(stream, self.limits.unread());
        let router = Introduced::new(self.router.clone(), Guest::new(peer, None));
        let served = connection::http1(stream, router, Ends::of(self.stop.clone()));
        self.connections.spawn(async move {
            served.await;
            drop(place);
        });
    }

    fn place(&self) -> Option<Place> {
        self.places.enter(self.limits.connections())
    }
}

/// One connection to an HTTPS listener. It takes a place among the connections only after its handshake, so that those
/// who never finish theirs keep nobody out.
async fn secured(stream: TcpStream, peer: SocketAddr, tls: Arc<ListenerTls>, shared: Shared) {
    let turn = tls.handshakes().enter();
    let unread = shared.limits.unread();
    let arrived = tokio::select! {
        arrived = tls.arrive(stream, unread) => arrived,
        () = turn.evicted() => return tracing::debug!("a handshake gave way to newer ones"),
        () = shared.stop.drain.cancelled() => return,
    };
    let Arrival { stream, protocol, served, certificate } = match arrived {
        Ok(arrival) => arrival,
        Err(refused) => return refused.tell(peer, tls.told()).await,
    };
    let Some(place) = shared.place() else {
        // It keeps its turn until it was told, so that these have a bound too.
        return refuse::busy_secured(stream, protocol, served.hsts()).await;
    };
    drop(turn);
    let router = match served.hsts() {
        Some(value) => with_hsts(shared.router, value),
        None => shared.router,
    };
    let guest = Guest::new(peer, certificate);
    let replaced = |linger| Replaced { token: served.replaced(), linger, drain: tls.drain() };
    let ends = Ends::of(shared.stop);
    match protocol {
        tls::Protocol::Http1 => {
            let router = Introduced::new(with_farewell(router, served.replaced()), guest);
            connection::http1(stream, router, ends.and_when_replaced(replaced(served.linger()))).await;
        }
        // Its GOAWAY tells the client which requests arrived (RFC 9113 §6.8).
        tls::Protocol::Http2 => {
            let ends = ends.and_when_replaced(replaced(Duration::ZERO));
            let router = Introduced::new(router, guest);
            connection::http2(stream, router, unread, &shared.connections, ends).await;
        }
    }
    drop(place);
}

/// RFC 9112 §9.6: the answer is the connection's last one, and the client knows it before it sends another request.
fn with_farewell(router: Router, replaced: CancellationToken) -> Router {
    router.layer(axum::middleware::map_response(move |mut response: axum::response::Response| {
        if replaced.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        std::future::ready(response)
    }))
}

/// RFC 6797 §6.1: never over plain HTTP, always over HTTPS.
fn with_hsts(router: Router, value: HeaderValue) -> Router {
    router.layer(axum::middleware::map_response(move |mut response: axum::response::Response| {
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, value.clone());
        std::future::ready(response)
    }))
}
