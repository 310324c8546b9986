//! A stream without an end of its own lasts as long as whoever opened it may call.

use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt as _;
use http::Response;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Caller, Term},
    clock::Clock,
};

/// How long that is.
#[derive(Debug)]
pub(super) struct Tenure {
    /// Until the file says anew who may call.
    pub(super) file: Arc<CancellationToken>,
    /// Until the credential ends.
    pub(super) term: Term,
    pub(super) clock: Arc<dyn Clock>,
}

impl Tenure {
    /// `file` was taken before the caller was identified, so that no change in between is missed.
    pub(super) fn new(file: Arc<CancellationToken>, caller: &Caller, clock: &Arc<dyn Clock>) -> Self {
        Self { file, term: caller.term().clone(), clock: Arc::clone(clock) }
    }

    /// Ends the body with it. The client comes back, and is identified again.
    pub(super) fn bounds(self, response: Response<Body>) -> Response<Body> {
        let ended = async move {
            tokio::select! {
                () = self.file.cancelled() => {}
                () = self.term.ended(&*self.clock) => {}
            }
        };
        response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(ended))))
    }
}
