//! A legacy client that hangs up has not cancelled (MCP 2025-11-25, basic/transports, sending messages): its call goes on.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Client, Gateway, GatewayError, Reply};
use crate::{auth::Caller, mcp::Message};

impl Gateway {
    /// As [`Gateway::handle`], but to the end even when whoever waits for it goes away.
    ///
    /// # Errors
    /// As [`Gateway::handle`].
    pub async fn handle_to_the_end(self: &Arc<Self>, caller: Caller, client: Client, message: Message) -> Result<Reply, GatewayError> {
        let gateway = Arc::clone(self);
        let work = async move { gateway.handle(&caller, &client, message).await };
        Outliving { work: Some(Box::pin(work)), gateway: Arc::clone(self) }.await
    }
}

/// When dropped, what is left of the work goes on in a task of the gateway's, which ends with the gateway.
struct Outliving<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    gateway: Arc<Gateway>,
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
        let Some(work) = self.work.take() else { return };
        let shutdown = self.gateway.shutdown.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let rest = async move {
                tokio::select! {
                    _ = work => {}
                    () = shutdown.cancelled() => {}
                }
            };
            self.gateway.tasks.spawn_on(rest, &runtime);
        }
    }
}
