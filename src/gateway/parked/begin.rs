//! Sends a call during which its client may be asked something, and listens beside its stream until the answer begins.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::Incoming;
use crate::{
    gateway::relay::{Relay, Taken},
    mcp::Message,
    upstream::{Answer, Generation, Outgoing, Session, UpstreamError},
};

/// What came first.
pub(in crate::gateway) enum Begun {
    Answer(Answer),
    /// A question, and what is to come of the call.
    Asked(Box<(Incoming, Message)>),
}

impl Relay {
    /// Sends the request. Where nothing can be said beside its stream, as any other.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(in crate::gateway) async fn begin(
        &mut self,
        generation: &Arc<Generation>,
        session: Option<&Arc<Session>>,
        outgoing: Outgoing,
    ) -> Result<Begun, UpstreamError> {
        let (Some(session), true) = (session, self.aside().membership.is_some()) else {
            return generation.exchange(session, outgoing).await.map(Begun::Answer);
        };
        let (within, limit) = ((Arc::clone(generation), Arc::clone(session)), self.call_timeout());
        let mut answer: BoxFuture<'static, _> = Box::pin(async move { within.0.exchange_without_limit(Some(&within.1), outgoing).await });
        let mut late = Box::pin(sleep(limit));
        loop {
            let said = tokio::select! {
                answer = &mut answer => return answer.map(Begun::Answer),
                said = self.aside().next() => said,
                () = &mut late => return Err(UpstreamError::TimedOut(limit)),
            };
            if let Taken::Asked(question) = self.take(said)? {
                return Ok(Begun::Asked(Box::new((Incoming::Pending(answer), *question))));
            }
        }
    }
}
