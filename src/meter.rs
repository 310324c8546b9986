//! Counting on the path of a call: atomics only, so that it costs nothing that could be noticed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of a [`Histogram`]'s buckets, in microseconds. What the gateway adds lies at their beginning, what tools
/// take at their end.
pub const BOUNDS_MICROS: [u64; 16] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000, 300_000_000];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often something took how long. Two atomic additions an observation.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one has no bound.
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    nanos: AtomicU64,
}

/// A [`Histogram`] as it was at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub count: u64,
    pub sum: Duration,
    /// Upper bound in seconds and how many fell between it and the one before; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Observations that happen meanwhile may be in the buckets and not yet in the sum.
    pub fn read(&self) -> Reading {
        #[allow(clippy::cast_precision_loss, reason = "the bounds are far below 2^52")]
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        Reading {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            buckets,
        }
    }
}

/// How often something was reloaded, since the start of the process (`nexus_tls_reload_total`), and the time of the last success.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 300_000_000, 300_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        assert_eq!(reading.count, 5);
        assert_eq!(reading.sum, Duration::from_micros(600_000_202));
        assert_eq!(reading.buckets.first(), Some(&(0.0001, 2)));
        assert_eq!(reading.buckets.get(1), Some(&(0.00025, 1)));
        assert_eq!(reading.buckets.get(BOUNDS_MICROS.len() - 1), Some(&(300.0, 1)));
        assert_eq!(reading.buckets.last(), Some(&(f64::INFINITY, 1)));
    }
}
