//! When a server that does not answer is asked again.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Commands in a row without an answer after which the server is left alone.
const SILENT: u32 = 3;
/// For how long; then one command tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps requests from waiting, one after the other, for a server that takes connections and says nothing.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    silent: AtomicU32,
    /// Milliseconds since `began`; 0: the server answers.
    closed_until: AtomicU64,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), silent: AtomicU32::new(0), closed_until: AtomicU64::new(0) }
    }

    /// Whether a command may go. Of those that come after a pause, one does.
    pub(super) fn may_ask(&self) -> bool {
        let until = self.closed_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.now();
        let next = now + millis(PAUSE);
        now >= until && self.closed_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// An answer came, whatever it says.
    pub(super) fn answered(&self) {
        // Read first: these are written by every command otherwise. Both: somebody who waited in vain may close it late, after
        // another's answer.
        if self.silent.load(Ordering::Relaxed) != 0 || self.closed_until.load(Ordering::Relaxed) != 0 {
            self.silent.store(0, Ordering::Relaxed);
            self.closed_until.store(0, Ordering::Relaxed);
        }
    }

    /// None came in time.
    pub(super) fn waited_in_vain(&self) {
        if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT {
            self.closed_until.store(self.now() + millis(PAUSE), Ordering::Relaxed);
        }
    }

    /// Since the beginning, and never 0.
    fn now(&self) -> u64 {
        millis(self.began.elapsed()).saturating_add(1)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_asked_by_one_at_a_time_until_it_answers() {
        let patience = Patience::new();
        for _ in 0..SILENT {
            assert!(patience.may_ask());
            patience.waited_in_vain();
        }
        assert!(!patience.may_ask());
        advance(PAUSE).await;
        assert!(patience.may_ask());
        assert!(!patience.may_ask(), "the one that tries is on its way");
        patience.waited_in_vain();
        assert!(!patience.may_ask());
        advance(PAUSE).await;
        assert!(patience.may_ask());
        patience.answered();
        assert!(patience.may_ask() && patience.may_ask());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_opens_what_was_closed_after_another_answer() {
        let patience = Patience::new();
        patience.silent.store(SILENT - 1, Ordering::Relaxed);
        // Somebody counts its time-out; another's answer comes; then the first closes.
        patience.silent.fetch_add(1, Ordering::Relaxed);
        patience.answered();
        patience.closed_until.store(patience.now() + millis(PAUSE), Ordering::Relaxed);
        advance(PAUSE).await;
        assert!(patience.may_ask());
        patience.answered();
        assert!(patience.may_ask() && patience.may_ask());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_answers_that_come_late_close_nothing() {
        let patience = Patience::new();
        for _ in 0..10 {
            patience.waited_in_vain();
            patience.waited_in_vain();
            patience.answered();
        }
        assert!(patience.may_ask());
    }
}
