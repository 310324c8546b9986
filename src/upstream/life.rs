//! The end of a generation: the calls in it are counted, and what is left after a while is cut off.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::UpstreamError;
use crate::reason::{Explanation, Reason};

/// Set in the count once nothing begins any more. Who comes too late counts for a moment too, hence the second highest bit.
const OVER: usize = 1 << (usize::BITS - 2);

/// What a stream that never pauses is still given after the end; enough for what is on its way.
const LAST_PIECES: u8 = 64;

/// How long a generation lives after another has taken its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Calls that have begun and not ended, and [`OVER`]: no call begins between the last look at the count and the end.
    calls: AtomicUsize,
    /// Told when a call ends and none is left.
    idle: Notify,
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
    /// Waits until the calls are answered, at most `limit`, and cuts off what is left. Cancel-safe.
    pub(crate) async fn drain(&self, limit: Duration) {
        if timeout(limit, self.idle()).await.is_err() {
            let calls = self.0.calls.load(Ordering::Relaxed) & !OVER;
            tracing::warn!(calls, "calls of a replaced generation did not end in time (mcp.upstream_drain)");
        }
        self.end();
    }

    /// Waits until there is no call at one moment, which is then the end.
    async fn idle(&self) {
        loop {
            let told = self.0.idle.notified();
            match self.0.calls.compare_exchange(0, OVER, Ordering::AcqRel, Ordering::Acquire) {
                Err(calls) if calls & OVER == 0 => told.await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Cuts everything off now.
    pub(crate) fn end(&self) {
        self.0.calls.fetch_or(OVER, Ordering::AcqRel);
        self.0.over.cancel();
    }

    /// Something begins that the end of this generation concerns.
    ///
    /// # Errors
    /// `drained`, with nothing sent, when it is over already.
    pub(crate) fn begin(&self, stay: Stay) -> Result<Ticket, UpstreamError> {
        // Counted first: whoever ends the generation sees it, or is seen here.
        let ticket = Ticket { life: self.clone(), is_counted: stay == Stay::Call, wait: None, pieces: LAST_PIECES };
        let before = if ticket.is_counted { self.0.calls.fetch_add(1, Ordering::AcqRel) } else { self.0.calls.load(Ordering::Acquire) };
        if before & OVER == 0 { Ok(ticket) } else { Err(drained(true)) }
    }
}

/// Held as long as an exchange lasts.
#[derive(Debug)]
pub(crate) struct Ticket {
    life: Life,
    is_counted: bool,
    /// Made when it is first waited for.
    wait: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// How much more may come after the end.
    pieces: u8,
}

impl Ticket {
    /// Does the work as long as the generation lives. It is pinned by the caller: a future that is an argument takes its room
    /// twice in the future it becomes a part of, and calls move through here.
    ///
    /// # Errors
    /// Those of the work, and `drained`.
    pub(crate) async fn within<T>(&self, work: Pin<&mut impl Future<Output = Result<T, UpstreamError>>>) -> Result<T, UpstreamError> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.life.0.over.cancelled() => Err(drained(false)),
        }
    }

    /// The error, if the generation was over so long ago that nothing is taken any more although it comes. To be asked before
    /// each piece.
    pub(crate) fn outstayed(&mut self) -> Option<UpstreamError> {
        if self.life.0.calls.load(Ordering::Relaxed) & OVER == 0 {
            return None;
        }
        self.pieces = self.pieces.saturating_sub(1);
        (self.pieces == 0).then(|| drained(false))
    }

    /// Ready with the error once the generation is over. To be asked when there is nothing else to give.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<UpstreamError> {
        let Self { life, wait, .. } = self;
        let wait = wait.get_or_insert_with(|| Box::pin(life.0.over.clone().cancelled_owned()));
        wait.as_mut().poll(cx).map(|()| drained(false))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_counted && self.life.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.life.0.idle.notify_waiters();
        }
    }
}

fn drained(never_sent: bool) -> UpstreamError {
    let detail = "the generation that the call was sent with was replaced, and its time to drain is over";
    let explanation = Explanation::new(Reason::Drained, detail, "raise mcp.upstream_drain, if calls may last longer");
    UpstreamError::Failed { explanation, never_sent }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn is_over(life: &Life) -> bool {
        life.0.over.is_cancelled()
    }

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
                stream.within(pin!(std::future::pending::<Result<(), _>>())).await
            },
        );
        assert!(drained.elapsed() < Duration::from_secs(1) && is_over(&life));
        assert_eq!(ended.unwrap_err().reason(), Reason::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_cut_off_at_the_limit_and_nothing_begins_after_it() {
        let life = Life::default();
        let call = life.begin(Stay::Call).unwrap();
        let endless = pin!(std::future::pending::<Result<(), _>>());
        let (_, cut) = tokio::join!(life.drain(Duration::from_secs(600)), call.within(endless));
        let (cut, late) = (cut.unwrap_err(), life.begin(Stay::Call).unwrap_err());
        assert_eq!((cut.reason(), cut.is_safe_to_repeat()), (Reason::Drained, false), "it may have been executed");
        assert_eq!((late.reason(), late.is_safe_to_repeat()), (Reason::Drained, true), "it was never sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_begins_right_after_the_last_one_ended_is_waited_for_too() {
        let life = Life::default();
        let opening = life.begin(Stay::Call).unwrap();
        let ((), call) = tokio::join!(life.drain(Duration::from_secs(600)), async {
            // As a call that opens its session first: nothing is in flight for a moment, and the drain has not looked yet.
            drop(opening);
            let call = life.begin(Stay::Call).unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(!is_over(&life));
            call.within(pin!(async { Ok(()) })).await
        });
        assert!(call.is_ok() && is_over(&life));
    }

    #[test]
    fn no_call_that_began_is_cut_off_by_a_drain_without_a_wait() {
        // Threads that begin calls while the generation ends, again and again.
        for _ in 0..500 {
            let life = Life::default();
            std::thread::scope(|scope| {
                let begin = || life.begin(Stay::Call).map_err(|error| error.is_safe_to_repeat());
                let calls = [scope.spawn(begin), scope.spawn(begin)];
                let mut idle = Box::pin(life.idle());
                let mut cx = Context::from_waker(std::task::Waker::noop());
                let ended = idle.as_mut().poll(&mut cx).is_ready();
                // None is dropped before all have begun.
                for call in calls.map(|call| call.join().unwrap()) {
                    match call {
                        Ok(_) => assert!(!ended, "a call that had begun is cut off"),
                        Err(is_safe) => assert!(ended && is_safe),
                    }
                }
            });
        }
    }

    #[test]
    fn what_never_pauses_ends_soon_after_the_generation() {
        let life = Life::default();
        let mut stream = life.begin(Stay::Stream).unwrap();
        assert!((0..1_000).all(|_| stream.outstayed().is_none()));
        life.end();
        let given = (0..1_000).take_while(|_| stream.outstayed().is_none()).count();
        assert!((1..=usize::from(LAST_PIECES)).contains(&given), "{given}");
    }
}
