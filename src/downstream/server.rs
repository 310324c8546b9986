//! The listeners that clients reach.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{
    LiveServer, ServerConfig,
    callers::Callers,
    door::Door,
    legacy_sse::OpenStreams,
    listener::{self, Limits, ListenerTls, Stop},
    routes,
    streamable_http::Endpoint,
};
use crate::{auth::Surroundings, gateway::Gateway, problem::Problem, sources::Sources};

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
        let Self { bound, config, gateway } = self;
        let limits = Limits::Live(config.clone());
        let door = Door::new(&config, bound.address);
        let surroundings = Surroundings { clock: Arc::clone(gateway.clock()), sources: Arc::clone(gateway.sources()) };
        let callers = Callers::new(&config, surroundings);
        let endpoint = Arc::new(Endpoint { door, callers, server: config.clone(), streams: OpenStreams::default(), gateway });
        // Plain HTTP: what asks it is an orchestrator on the same machine or network.
        let health = bound.health.map(|listener| listener::serve(listener, routes::health(config), limits.clone(), None, stop.clone()));
        let mcp = listener::serve(bound.mcp, routes::all(endpoint), limits, bound.tls, stop);
        match health {
            Some(health) => {
                tokio::join!(mcp, health);
            }
            None => mcp.await,
        }
    }
}
