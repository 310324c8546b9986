//! How often something was reloaded, with what result, and when last.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counts since the start of the process (`nexus_tls_reload_total`), and the time of the last success.
#[derive(Debug, Default)]
pub struct Reloads {
    succeeded: AtomicU64,
    rejected: AtomicU64,
    /// Seconds since 1970; 0: never.
    last_success: AtomicU64,
}

impl Reloads {
    /// It was reloaded at `now`, since 1970.
    pub fn succeeded(&self, now: Duration) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(now.as_secs(), Ordering::Relaxed);
    }

    /// What is configured was tried and not taken.
    pub fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was reloaded, and how often that was rejected.
    pub fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.rejected.load(Ordering::Relaxed))
    }

    /// Since 1970.
    pub fn last_success(&self) -> Option<Duration> {
        Some(self.last_success.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}
