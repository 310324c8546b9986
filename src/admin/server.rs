//! The admin listener and its routes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::State, routing::get};
use http::{Request, Response, StatusCode};
use tokio::net::TcpListener;

use super::{
    AdminConfig, Reload, api,
    guard::{Guard, Purpose},
    metrics, page,
    ready::{Readiness, Ready},
    respond,
};
use crate::{
    clock::Clock,
    downstream::{
        BindError, ListenerTls, LiveServer, Stop,
        listener::{self, Limits},
    },
    events::Events,
    gateway::Gateway,
    health::Board,
    meter::Reloads,
    outbound::probe::Prober,
    sources::Sources,
};

/// Connections at a time: probes, Prometheus, a few operators.
const CONNECTIONS: usize = 256;
/// Longest that somebody may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(60);

/// A listener that is bound but not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ListenerTls>>,
}

impl Bound {
    /// # Errors
    /// A file of `[admin.tls]` cannot be used; the address is taken, or not one of this machine.
    pub async fn bind(config: &AdminConfig, sources: &dyn Sources, now: Duration) -> Result<Self, BindError> {
        let tls = match &config.tls {
            Some(settings) => Some(Arc::new(ListenerTls::load(settings, None, config.is_exposed(), sources, now)?)),
            None => None,
        };
        let listener = listener::bind(config.listen_address).await;
        let listener = listener.map_err(|error| BindError::Address { address: config.listen_address, error })?;
        let address = listener.local_addr().unwrap_or(config.listen_address);
        Ok(Self { listener, address, tls })
    }

    /// TLS of the listener, which a reload exchanges and a watch looks at; `None` serves plain HTTP.
    pub fn tls(&self) -> Option<&Arc<ListenerTls>> {
        self.tls.as_ref()
    }

    /// The address in use, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What the admin listener speaks of.
#[derive(Debug)]
pub struct Parts {
    pub gateway: Arc<Gateway>,
    pub events: Events,
    /// What the watch knows.
    pub board: Board,
    /// The watch's own, so that no server is knocked at twice at a time.
    pub prober: Prober,
    pub clock: Arc<dyn Clock>,
    /// Absent: this gateway cannot reload.
    pub reload: Option<Arc<dyn Reload>>,
    /// What is reloaded beside upstreams: the configuration file and listeners' files, by the `target` they are counted as.
    pub reloads: Vec<(&'static str, Arc<Reloads>)>,
}

/// Serves operators, orchestrators and Prometheus.
#[derive(Debug)]
pub struct Admin {
    bound: Bound,
    state: Arc<Inner>,
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) guard: Guard,
    pub(super) ready: Readiness,
    pub(super) parts: Arc<Parts>,
}

impl Admin {
    /// `server` has the names under which the gateway is called.
    pub fn new(bound: Bound, config: &AdminConfig, server: &LiveServer, parts: Parts) -> Self {
        let guard = Guard::new(config, server, bound.address);
        Self { bound, state: Arc::new(Inner { guard, ready: Readiness::default(), parts: Arc::new(parts) }) }
    }

    /// Serves until `stop.drain`, then waits for open requests to end, until `stop.now`.
    pub async fn run(self, stop: Stop) {
        let router = routes(&self.state).with_state(self.state);
        let limits = Limits::Fixed { connections: CONNECTIONS, unread: UNREAD };
        listener::serve(self.bound.listener, router, limits, self.bound.tls, stop).await;
    }
}

fn routes(state: &Arc<Inner>) -> Router<Arc<Inner>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/", get(show_page))
        .nest("/api/v1", api::routes(state))
        .fallback(nothing)
}

/// The process runs and answers; nothing else is looked at.
async fn livez() -> Response<Body> {
    respond::text(StatusCode::OK, "ok\n")
}

async fn readyz(State(state): State<Arc<Inner>>) -> Response<Body> {
    match state.ready.of(&state.parts.gateway) {
        Ready::Yes => respond::text(StatusCode::OK, "ok\n"),
        Ready::Draining => respond::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        // Whoever may only probe learns how many, not which.
        Ready::Waiting(names) => {
            tracing::debug!(upstreams = names.join(", "), "not ready: required upstreams were not up yet");
            let count = names.len();
            let words = format!("waiting for {count} required upstream{}\n", if count == 1 { "" } else { "s" });
            respond::text(StatusCode::SERVICE_UNAVAILABLE, words)
        }
    }
}

async fn metrics(State(state): State<Arc<Inner>>, request: Request<Body>) -> Response<Body> {
    if let Err(refusal) = state.check(Purpose::Metrics, &request) {
        return *refusal;
    }
    match metrics::page(&state.parts) {
        Ok(text) => respond::with(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(_) => respond::error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
    }
}

async fn show_page(State(state): State<Arc<Inner>>, request: Request<Body>) -> Response<Body> {
    match state.check(Purpose::Look, &request) {
        Ok(()) => page::page(&state.parts),
        Err(refusal) => *refusal,
    }
}

async fn nothing(State(state): State<Arc<Inner>>, request: Request<Body>) -> Response<Body> {
    let purpose = if request.method().is_safe() { Purpose::Read } else { Purpose::Act };
    match state.check(purpose, &request) {
        Ok(()) => respond::error(StatusCode::NOT_FOUND, "unknown path; the API begins with /api/v1/"),
        Err(refusal) => *refusal,
    }
}
