//! What comes from the upstream in one call, from before its answer begins to the end.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::upstream::{Answer, Messages, UpstreamError};

/// The messages of a call one by one, also when the answer has not begun yet or is a document.
pub(in crate::gateway) enum Incoming {
    Pending(BoxFuture<'static, Result<Answer, UpstreamError>>),
    Document(BoxFuture<'static, Result<Bytes, UpstreamError>>),
    Messages(Messages),
    Ended,
}

impl Incoming {
    /// The next message; `None` at the end of the stream. `max` is the longest document in bytes. Cancel-safe.
    pub(super) async fn next(&mut self, max: usize) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            match self {
                Self::Pending(answer) => match answer.await {
                    Ok(Answer::Json(json)) => *self = Self::Document(Box::pin(json.collect(max))),
                    Ok(Answer::Messages(messages)) => *self = Self::Messages(messages),
                    Ok(Answer::Accepted) => {
                        *self = Self::Ended;
                        return Some(Err(UpstreamError::protocol("the request was acknowledged but not answered")));
                    }
                    Err(error) => {
                        *self = Self::Ended;
                        return Some(Err(error));
                    }
                },
                Self::Document(whole) => {
                    let whole = whole.await;
                    *self = Self::Ended;
                    return Some(whole);
                }
                Self::Messages(messages) => match messages.next().await {
                    // The server hung up, and goes on in another stream.
                    None if messages.take_pause().is_some() => {}
                    next => return next,
                },
                Self::Ended => return None,
            }
        }
    }
}
