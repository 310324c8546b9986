//! How long before its end a certificate is warned about.

use std::time::Duration;

use crate::finding::Severity;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A span before the end of a certificate, and how bad it is to be within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Zero: the certificate has ended.
    pub before: Duration,
    pub severity: Severity,
}

/// `warn_before`: the spans as the operator wants them, for a certificate that lives long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds(Vec<Duration>);

impl Default for Thresholds {
    fn default() -> Self {
        Self::new([30, 14, 7, 1].map(|days| DAY * days))
    }
}

impl Thresholds {
    pub fn new(spans: impl IntoIterator<Item = Duration>) -> Self {
        let mut spans: Vec<_> = spans.into_iter().collect();
        spans.sort_unstable_by(|a, b| b.cmp(a));
        spans.dedup();
        Self(spans)
    }

    /// Those that make sense for a certificate of this lifetime, longest first; its end is always among them.
    ///
    /// A span longer than a third of the lifetime, rounded up to a day, would warn of what is normal: certificates are renewed
    /// about then. The last span is at most a tenth of the lifetime, so that one of six days is not called critical for one
    /// sixth of its life.
    pub fn of(&self, lifetime: Duration) -> Vec<Threshold> {
        let longest = round_up_to_a_day(lifetime / 3);
        let mut spans = Vec::with_capacity(self.0.len() + 1);
        if let Some((last, earlier)) = self.0.split_last() {
            spans.extend(earlier.iter().copied().filter(|span| *span <= longest));
            spans.push((*last).min(lifetime / 10));
        }
        spans.push(Duration::ZERO);
        spans.dedup();
        spans.into_iter().map(|before| Threshold { before, severity: severity(before) }).collect()
    }

    /// The narrowest span that `now` is within, for a certificate that is valid between the two dates; all in seconds since
    /// 1970. `None` while there is plenty of time.
    pub fn reached(&self, not_before: i64, not_after: i64, now: i64) -> Option<Threshold> {
        let lifetime = Duration::from_secs(u64::try_from(not_after.saturating_sub(not_before)).unwrap_or_default());
        let left = not_after.saturating_sub(now);
        let within = |threshold: &Threshold| {
            // A certificate is valid through the second of its end (RFC 5280 §4.1.2.5).
            if threshold.before.is_zero() { left < 0 } else { left <= i64::try_from(threshold.before.as_secs()).unwrap_or(i64::MAX) }
        };
        self.of(lifetime).into_iter().rfind(within)
    }
}

/// A month is time enough for anybody, a day for nobody.
fn severity(before: Duration) -> Severity {
    match before {
        _ if before <= DAY => Severity::Critical,
        _ if before <= DAY * 7 => Severity::Error,
        _ if before <= DAY * 14 => Severity::Warning,
        _ => Severity::Info,
    }
}

fn round_up_to_a_day(span: Duration) -> Duration {
    let days = span.as_secs().div_ceil(DAY.as_secs());
    Duration::from_secs(days.saturating_mul(DAY.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: i64 = 24 * 60 * 60;
    const H: i64 = 60 * 60;

    /// Hours before the end at which a certificate of so many days is told of, and the words for how bad that is.
    fn told(days: i64) -> Vec<(i64, &'static str)> {
        let lifetime = Duration::from_secs(u64::try_from(days * D).unwrap());
        let hours = |before: Duration| i64::try_from(before.as_secs()).unwrap() / H;
        Thresholds::default().of(lifetime).iter().map(|t| (hours(t.before), t.severity.word())).collect()
    }

    #[test]
    fn a_certificate_is_told_of_in_proportion_to_its_lifetime() {
        let month = (30 * 24, "info");
        let fortnight = (14 * 24, "warning");
        let week = (7 * 24, "error");
        let day = (24, "critical");
        let end = (0, "critical");
        assert_eq!(told(6), [(14, "critical"), end]);
        assert_eq!(told(10), [day, end]);
        assert_eq!(told(47), [fortnight, week, day, end]);
        assert_eq!(told(90), [month, fortnight, week, day, end]);
        assert_eq!(told(3650), [month, fortnight, week, day, end]);
    }

    #[test]
    fn a_second_less_than_ninety_days_is_ninety_days() {
        let almost = Duration::from_secs(90 * 24 * 60 * 60 - 1);
        assert_eq!(Thresholds::default().of(almost).len(), 5);
    }

    #[test]
    fn the_narrowest_span_counts() {
        let of = |left: i64| Thresholds::default().reached(0, 90 * D, 90 * D - left).map(|t| t.before.as_secs() / 86_400);
        assert_eq!(of(31 * D), None);
        assert_eq!(of(30 * D), Some(30));
        assert_eq!(of(14 * D + 1), Some(30));
        assert_eq!(of(14 * D), Some(14));
        assert_eq!(of(5 * D), Some(7));
        assert_eq!(of(H), Some(1));
        assert_eq!(of(0), Some(1), "the last second is still valid");
        assert_eq!(of(-1), Some(0));
    }

    #[test]
    fn an_end_is_told_even_without_any_span() {
        let none = Thresholds::new([]);
        assert_eq!(none.reached(0, 90 * D, 90 * D - 1), None);
        assert_eq!(none.reached(0, 90 * D, 90 * D + 1).map(|t| t.severity), Some(Severity::Critical));
    }

    #[test]
    fn dates_that_make_no_sense_do_not_panic() {
        for (from, to, now) in [(D, 0, 0), (i64::MIN, i64::MAX, 0), (i64::MAX, i64::MIN, i64::MAX), (0, i64::MAX, i64::MIN)] {
            let _ = Thresholds::default().reached(from, to, now);
        }
        assert_eq!(Thresholds::default().reached(D, 0, D).map(|t| t.before), Some(Duration::ZERO));
    }

    #[test]
    fn the_operators_own_spans_are_put_in_order() {
        let spans = Thresholds::new([DAY * 3, DAY * 60, DAY * 3, DAY * 20]);
        let told: Vec<_> = spans.of(DAY * 365).iter().map(|t| (t.before.as_secs() / 86_400, t.severity)).collect();
        assert_eq!(told, [(60, Severity::Info), (20, Severity::Info), (3, Severity::Error), (0, Severity::Critical)]);
    }
}
