//! The arithmetic of a token bucket, in whole microseconds, so that memory and Redis compute the same.
//!
//! This is the generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"). A bucket is one number: when it will
//! be full again, if nothing more is taken. Taking a token moves that time on by one period; a bucket whose time is further off
//! than its capacity would be overdrawn, which is refused. A bucket that nobody knows is full.

use std::{num::NonZeroU32, time::Duration};

/// Longest time that an empty bucket may take to be full. Keeps every number of the script in Redis, which has
/// floating-point numbers only, below 2^53.
pub(super) const LONGEST_FILL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How much may be taken: from a full bucket `burst` at once, and `burst + floor(T * limit / interval)` within any time T, up to
/// one less where a period is no whole number of microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Microseconds that one token takes to come back; at least 1.
    period: u64,
    /// Microseconds that an empty bucket takes to be full: `burst * period`.
    fill: u64,
}

impl Quota {
    /// `None` when an empty bucket would take longer than 366 days to be full.
    pub fn new(limit: NonZeroU32, interval: Duration, burst: NonZeroU32) -> Option<Self> {
        let interval = u64::try_from(interval.as_micros()).ok()?;
        // Rounded up, because a limit must not be exceeded by rounding.
        let period = interval.div_ceil(u64::from(limit.get())).max(1);
        let fill = period.checked_mul(u64::from(burst.get())).filter(|fill| Duration::from_micros(*fill) <= LONGEST_FILL)?;
        Some(Self { period, fill })
    }

    pub fn period(&self) -> Duration {
        Duration::from_micros(self.period)
    }

    pub fn fill(&self) -> Duration {
        Duration::from_micros(self.fill)
    }

    pub(super) fn period_micros(&self) -> u64 {
        self.period
    }

    pub(super) fn fill_micros(&self) -> u64 {
        self.fill
    }

    /// Takes a token at `now` out of a bucket that will be full at `full_at`: when it will be full then, or how long to wait
    /// until there is a token.
    ///
    /// A bucket is never emptier than empty, so that it soon follows a quota that was made larger and a clock that was set back.
    pub(super) fn take(&self, full_at: u64, now: u64) -> Result<u64, u64> {
        let full_at = full_at.clamp(now, now + self.fill) + self.period;
        match full_at.saturating_sub(now + self.fill) {
            0 => Ok(full_at),
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(limit: u32, interval: Duration, burst: u32) -> Quota {
        Quota::new(NonZeroU32::new(limit).unwrap(), interval, NonZeroU32::new(burst).unwrap()).unwrap()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_says_when_there_is_more() {
        let quota = quota(10, Duration::from_secs(60), 3);
        let mut full_at = 0;
        for _ in 0..3 {
            full_at = quota.take(full_at, 1_000).unwrap();
        }
        assert_eq!(quota.take(full_at, 1_000), Err(6_000_000));
        assert_eq!(quota.take(full_at, 6_000_999), Err(1));
        let full_at = quota.take(full_at, 6_001_000).unwrap();
        assert_eq!(quota.take(full_at, 6_001_000), Err(6_000_000));
    }

    #[test]
    fn an_unused_bucket_holds_no_more_than_its_burst() {
        let quota = quota(1, Duration::from_secs(1), 2);
        let full_at = quota.take(0, 0).unwrap();
        let year = 31_536_000_000_000;
        let full_at = quota.take(full_at, year).unwrap();
        let full_at = quota.take(full_at, year).unwrap();
        assert_eq!(quota.take(full_at, year), Err(1_000_000));
    }

    #[test]
    fn a_bucket_from_the_future_is_empty_and_no_more() {
        let quota = quota(1, Duration::from_secs(1), 2);
        assert_eq!(quota.take(u64::MAX, 1_000), Err(1_000_000));
    }

    #[test]
    fn a_bucket_that_would_take_years_to_be_full_is_refused() {
        let one = NonZeroU32::MIN;
        assert!(Quota::new(one, Duration::from_secs(366 * 86_400), one).is_some());
        assert!(Quota::new(one, Duration::from_secs(366 * 86_400 + 1), one).is_none());
        assert!(Quota::new(one, Duration::from_secs(86_400), NonZeroU32::MAX).is_none());
    }

    proptest! {
        #[test]
        fn what_is_admitted_in_any_time_is_the_burst_and_the_rate(
            limit in 1_u32..2_000,
            millis in 1_u64..100_000_000,
            burst in 1_u32..200,
            steps in prop::collection::vec(0_u64..5, 1..400),
        ) {
            let interval = Duration::from_millis(millis);
            let quota = quota(limit, interval, burst);
            // Somebody who asks again as soon as there could be a token, or a little later, and again until it is refused.
            let (mut now, mut full_at, mut admitted) = (0_u64, 0, 0_u64);
            let mut is_pressed = true;
            for step in steps {
                while let Ok(next) = quota.take(full_at, now) {
                    (full_at, admitted) = (next, admitted + 1);
                }
                let exact = u128::from(burst) + u128::from(now) * u128::from(limit) / interval.as_micros();
                if is_pressed {
                    let rounding = u128::from(now) / u128::from(quota.period) - u128::from(now) / (u128::from(quota.period) + 1);
                    prop_assert!(u128::from(admitted) <= exact, "{admitted} of {exact}");
                    prop_assert!(u128::from(admitted) + 1 + rounding >= exact, "{admitted} of {exact}");
                }
                // Tokens that nobody takes are lost when the bucket is full.
                is_pressed &= step <= u64::from(burst);
                now += step * quota.period;
            }
        }
    }
}
