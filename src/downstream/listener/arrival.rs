//! What a connection tells about every request that comes over it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, routing::future::RouteFuture};
use http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::{auth::Recent, tls::ClientName};

/// Who is at the other end of a connection. Every request that a listener serves has it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) address: SocketAddr,
    /// Whom its client certificate, which was verified in the handshake, is for.
    pub(crate) certificate: Option<Arc<ClientName>>,
    /// The token that it brought last.
    pub(crate) recent: Arc<Recent>,
}

impl Guest {
    pub(super) fn new(address: SocketAddr, certificate: Option<Arc<ClientName>>) -> Self {
        Self { address, certificate, recent: Arc::default() }
    }
}

/// The router, which is told who asks.
#[derive(Clone)]
pub(super) struct Introduced {
    router: Router,
    guest: Guest,
}

impl Introduced {
    pub(super) fn new(router: Router, guest: Guest) -> Self {
        Self { router, guest }
    }
}

impl Service<Request<Incoming>> for Introduced {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.guest.clone());
        self.router.call(request)
    }
}
