//! A legacy client that hangs up has not cancelled (MCP 2025-11-25, basic/transports, sending messages): its call goes on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Semaphore, time::sleep};

use super::{Client, Gateway, GatewayError, LegacySession, Reply};
use crate::{auth::Caller, mcp::Message};

/// Calls of this process that go on although nobody waits for them; further ones are cancelled.
const MAX_OUTLIVING: usize = 1000;
/// Those of one session among them, so that no client can take all.
pub(super) const MAX_OUTLIVING_OF_ONE: usize = 250;
/// What a call may take to end by itself at the last moment.
const GRACE: Duration = Duration::from_secs(1);
static PLACES: Semaphore = Semaphore::const_new(MAX_OUTLIVING);

impl Gateway {
    /// As [`Gateway::handle`], but to the end even when whoever waits for it goes away.
    ///
    /// # Errors
    /// As [`Gateway::handle`].
    pub async fn handle_to_the_end(self: &Arc<Self>, caller: Caller, client: Client, message: Message) -> Result<Reply, GatewayError> {
        let gateway = Arc::clone(self);
        let session = client.session().cloned();
        let work = async move { gateway.handle(&caller, &client, message).await };
        Outliving { work: Some(Box::pin(work)), gateway: Arc::clone(self), session }.await
    }

    /// Does something in a task of the gateway's, which its end waits for.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// Does the work in a task of the gateway's, at the longest until the client's session or the gateway ends.
    pub(super) fn outlive<F: Future<Output: Send> + Send + 'static>(&self, session: &LegacySession, work: F) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let places = (Arc::clone(&session.outliving).try_acquire_owned(), PLACES.try_acquire());
        let (Ok(own), Ok(place)) = places else {
            return tracing::debug!("too many calls go on for clients that hung up; one more is cancelled");
        };
        let (end, shutdown) = (session.end_token(), self.shutdown.clone());
        // What has no limit of its own while its client waits, such as the result of a task, has one now.
        let limit = self.config().call_timeout_max + GRACE;
        let rest = async move {
            let done = tokio::select! {
                done = work => Some(done),
                () = end.cancelled() => None,
                () = shutdown.cancelled() => None,
                () = sleep(limit) => None,
            };
            // What was done may itself go on when it is dropped, and needs the place then.
            drop((own, place));
            drop(done);
        };
        self.tasks.spawn_on(rest, &runtime);
    }
}

/// When dropped, what is left of the work goes on in a task of the gateway's, which ends with the gateway.
struct Outliving<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    gateway: Arc<Gateway>,
    /// Without one nothing goes on.
    session: Option<Arc<LegacySession>>,
}

impl<F: Future<Output: Send> + Send + 'static> Future for Outliving<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Outliving<F> {
    fn drop(&mut self) {
        if let (Some(work), Some(session)) = (self.work.take(), &self.session) {
            self.gateway.outlive(session, work);
        }
    }
}
