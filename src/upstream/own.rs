//! Who the gateway says it is when it speaks for itself.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Generation, Upstream};
use crate::mcp::{
    Kind, Message, Method, Version, build,
    build::RequestMeta,
    errors::{code, error_response},
};

/// Answers to a server's requests that are on their way at once; it gets no more of them while it does not take these.
const ANSWERS: usize = 8;

/// The gateway's own `clientInfo` and `serverInfo`.
pub(crate) fn own_info() -> Bytes {
    build::implementation("nexus", env!("CARGO_PKG_VERSION"))
}

/// The `_meta` of the gateway's own requests: it can do nothing that a server could ask a client for.
pub(crate) fn own_meta() -> RequestMeta {
    RequestMeta {
        version: Version::LATEST_MODERN,
        client_info: Some(own_info()),
        client_capabilities: Bytes::from_static(b"{}"),
        log_level: None,
    }
}

/// What the gateway says to the requests of a server in its own session: that it is there, and that there is nobody to ask.
#[derive(Debug)]
pub(super) struct OwnAnswers(Arc<Semaphore>);

impl OwnAnswers {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ANSWERS)))
    }

    /// Answers a message, if it is a request.
    pub(super) fn answer(&self, upstream: &Upstream, generation: &Arc<Generation>, message: Bytes) {
        let Ok(message) = Message::parse(message) else { return };
        let (Kind::Request, Some(id), Some(session)) = (message.kind(), message.id(), generation.own_session.clone()) else { return };
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else { return };
        let answer = match Method::parse(message.method()) {
            Some(Method::Ping) => build::response(id, b"{}"),
            _ => error_response(Some(id), code::METHOD_NOT_FOUND, "no client is behind this session", None),
        };
        let generation = Arc::clone(generation);
        upstream.tasks.spawn(async move {
            if let Err(error) = generation.notify(&session, answer).await {
                tracing::debug!(%error, "an answer to a server's request could not be sent");
            }
            drop(place);
        });
    }
}
