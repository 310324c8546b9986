//! The end of a generation: the calls in it are counted, and what is left after a while is cut off.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::UpstreamError;
use crate::reason::{Explanation, Reason};

/// How long a generation lives after another has taken its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    calls: TaskTracker,
    over: CancellationToken,
}

/// What ends with an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// A call: it is waited for.
    Call,
    /// A stream without an end of its own: it is opened again elsewhere as soon as the calls are done.
    Stream,
}

impl Life {
    /// Waits until the calls are answered, at most `limit`, and cuts off what is left.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.calls.close();
        if timeout(limit, self.calls.wait()).await.is_err() {
            tracing::warn!(calls = self.calls.len(), "calls of a replaced generation did not end in time (mcp.upstream_drain)");
        }
        self.over.cancel();
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        TaskTracker::ptr_eq(&self.calls, &other.calls)
    }

    /// Cuts everything off now.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Something begins that the end of this generation concerns.
    ///
    /// # Errors
    /// `drained`, with nothing sent, when it is over already.
    pub(crate) fn begin(&self, stay: Stay) -> Result<Ticket, UpstreamError> {
        if self.over.is_cancelled() {
            return Err(drained(true));
        }
        let counted = (stay == Stay::Call).then(|| self.calls.token());
        Ok(Ticket { _counted: counted, over: self.over.clone(), wait: None })
    }
}

/// Held as long as an exchange lasts.
#[derive(Debug)]
pub(crate) struct Ticket {
    _counted: Option<TaskTrackerToken>,
    over: CancellationToken,
    /// Made when it is first waited for.
    wait: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Ticket {
    /// Does the work as long as the generation lives.
    ///
    /// # Errors
    /// Those of the work, and `drained`.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, UpstreamError> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.over.cancelled() => Err(drained(false)),
        }
    }

    /// Ready with the error once the generation is over. To be asked when there is nothing else to give.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        let Self { over, wait, .. } = self;
        let wait = wait.get_or_insert_with(|| Box::pin(over.clone().cancelled_owned()));
        wait.as_mut().poll(cx).map(|()| drained(false))
    }
}

fn drained(never_sent: bool) -> UpstreamError {
    let detail = "the generation that the call was sent with was replaced, and its time to drain is over";
    let explanation = Explanation::new(Reason::Drained, detail, "raise mcp.upstream_drain, if calls may last longer");
    UpstreamError::Failed { explanation, never_sent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_call_ends_the_drain_and_the_drain_ends_the_streams() {
        let life = Life::default();
        let call = life.begin(Stay::Call).unwrap();
        let stream = life.begin(Stay::Stream).unwrap();
        let (drained, ended) = tokio::join!(
            async {
                life.drain(Duration::from_secs(600)).await;
                tokio::time::Instant::now()
            },
            async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                drop(call);
                stream.within(std::future::pending::<Result<(), _>>()).await
            },
        );
        assert!(drained.elapsed() < Duration::from_secs(1) && life.over.is_cancelled());
        assert_eq!(ended.unwrap_err().reason(), Reason::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_off_at_the_limit_and_nothing_begins_after_it() {
        let life = Life::default();
        let call = life.begin(Stay::Call).unwrap();
        let (_, cut) = tokio::join!(life.drain(Duration::from_secs(600)), call.within(std::future::pending::<Result<(), _>>()));
        let (cut, late) = (cut.unwrap_err(), life.begin(Stay::Call).unwrap_err());
        assert_eq!((cut.reason(), cut.is_safe_to_repeat()), (Reason::Drained, false), "it may have been executed");
        assert_eq!((late.reason(), late.is_safe_to_repeat()), (Reason::Drained, true), "it was never sent");
    }
}
