//! The listeners and the routes behind them.

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use http::{HeaderValue, header::CONTENT_TYPE};
use tokio::net::TcpListener;

use super::{
    LiveServer, ServerConfig,
    callers::Callers,
    door::Door,
    legacy_sse::{self, OpenStreams},
    listener::{self, Limits, ListenerTls, Stop},
    page,
    streamable_http::{self, Endpoint},
};
use crate::{
    auth::{Challenge, Surroundings},
    gateway::Gateway,
    problem::Problem,
    sources::Sources,
};

/// Listeners that are bound but not served yet, so that a taken port is told before anything is started.
#[derive(Debug)]
pub struct Bound {
    mcp: TcpListener,
    health: Option<TcpListener>,
    address: SocketAddr,
    tls: Option<Arc<ListenerTls>>,
}

/// A listener cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {error}")]
    Address { address: SocketAddr, error: io::Error },
    /// A file that its TLS table names cannot be used.
    #[error("{0}")]
    Tls(Box<Problem>),
}

impl From<Box<Problem>> for BindError {
    fn from(problem: Box<Problem>) -> Self {
        Self::Tls(problem)
    }
}

impl Bound {
    /// # Errors
    /// A file of `[server.tls]` cannot be used; the address is taken, or not one of this machine.
    pub async fn bind(config: &ServerConfig, sources: &dyn Sources, now: Duration) -> Result<Self, BindError> {
        let tls = match &config.tls {
            Some(settings) => Some(Arc::new(ListenerTls::load(settings, config.public_host(), config.is_exposed(), sources, now)?)),
            None => None,
        };
        let at = |address| async move { listener::bind(address).await.map_err(|error| BindError::Address { address, error }) };
        let mcp = at(config.listen_address).await?;
        let health = match config.health.listen.filter(|_| config.health.enabled) {
            Some(address) => Some(at(address).await?),
            None => None,
        };
        let address = mcp.local_addr().unwrap_or(config.listen_address);
        Ok(Self { mcp, health, address, tls })
    }

    /// The address in use, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// TLS of the listener for MCP, which a reload exchanges and a watch looks at; `None` serves plain HTTP.
    pub fn tls(&self) -> Option<&Arc<ListenerTls>> {
        self.tls.as_ref()
    }

    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

/// Serves MCP clients over HTTP.
#[derive(Debug)]
pub struct Server {
    bound: Bound,
    config: LiveServer,
    gateway: Arc<Gateway>,
}

impl Server {
    pub fn new(bound: Bound, config: impl Into<LiveServer>, gateway: Arc<Gateway>) -> Self {
        Self { bound, config: config.into(), gateway }
    }

    /// Serves until `stop.drain`, then waits for open requests to end, until `stop.now`.
    pub async fn run(self, stop: Stop) {
        listener::raise_file_limit();
        let Self { bound, config: live, gateway } = self;
        let config = live.now();
        let limits = Limits { connections: config.max_connections, unread: config.request_timeout };
        let path = gateway.config().path.clone();
        let (enabled, sse_path) = (gateway.config().enabled, gateway.config().sse_path.clone());
        let surroundings = Surroundings { clock: Arc::clone(gateway.clock()), sources: Arc::clone(gateway.sources()) };
        let endpoint = Arc::new(Endpoint {
            door: Door::new(&live, bound.address),
            callers: Callers::new(&live, surroundings, &path),
            server: live,
            request_timeout: config.request_timeout,
            streams: OpenStreams::default(),
            gateway,
        });
        let mut router = Router::new();
        if enabled {
            let methods = post(streamable_http::post).get(streamable_http::get).delete(streamable_http::delete).options(page::options);
            if let Some(sse_path) = sse_path {
                let messages = post(legacy_sse::post).options(page::options).with_state(Arc::clone(&endpoint));
                router = router.route(&legacy_sse::messages_path(&sse_path), messages);
                router = router.route(&sse_path, get(legacy_sse::open).options(page::options).with_state(Arc::clone(&endpoint)));
            }
            for well_known in Challenge::paths(&path).into_iter().collect::<BTreeSet<_>>() {
                let metadata = get(page::metadata).options(page::options).with_state(Arc::clone(&endpoint));
                router = router.route(&well_known, metadata);
            }
            router = router.route(&path, methods.with_state(endpoint));
        }
        let health = Router::new().route(&config.health.path, get(healthy));
        // Plain HTTP: what asks it is an orchestrator on the same machine or network.
        let on_its_own = bound.health.map(|listener| listener::serve(listener, health.clone(), limits, None, stop.clone()));
        if config.health.enabled && on_its_own.is_none() {
            router = router.merge(health);
        }
        let mcp = listener::serve(bound.mcp, router, limits, bound.tls, stop);
        match on_its_own {
            Some(health) => {
                tokio::join!(mcp, health);
            }
            None => mcp.await,
        }
    }
}

/// Liveness; never depends on upstreams.
async fn healthy() -> ([(http::HeaderName, HeaderValue); 1], &'static str) {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], r#"{"status":"healthy"}"#)
}
