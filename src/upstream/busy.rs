//! Servers that ask to wait: HTTP 429 or 503 with `Retry-After` (RFC 9110 §10.2.3, §15.6.4; RFC 6585 §4).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use parking_lot::Mutex;
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
use tokio::time::Instant;

/// Longest time that a server is left alone because it says so.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// Until when an upstream is left alone, by everybody who has its credential.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy {
    /// By the gateway's own requests.
    own: Arc<Mutex<Option<Instant>>>,
    /// By calls.
    calls: Arc<Mutex<Option<Instant>>>,
}

impl Busy {
    /// The server asked to wait this long.
    pub(crate) fn wait(&self, after: Duration) {
        *self.own.lock() = Some(Instant::now() + after.min(LONGEST));
    }

    /// The server limits calls, and this is how long it takes until there may be another.
    pub(crate) fn close(&self, after: Duration) {
        *self.calls.lock() = Some(Instant::now() + after.min(LONGEST));
    }

    /// How much longer it wants to be left alone.
    pub(crate) fn left(&self) -> Option<Duration> {
        left(*self.own.lock())
    }

    /// How much longer no call can be answered.
    pub(crate) fn closed_for(&self) -> Option<Duration> {
        left(*self.calls.lock())
    }
}

fn left(until: Option<Instant>) -> Option<Duration> {
    let left = until?.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// How long to wait, if this is an answer that says so.
pub(crate) fn asks_to_wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    headers.get(RETRY_AFTER).filter(|_| is_busy).and_then(|value| retry_after(value, OffsetDateTime::now_utc()))
}

/// Seconds, or the date in the one form that may be sent (RFC 9110 §5.6.7).
fn retry_after(value: &HeaderValue, now: OffsetDateTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let form = format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let at = PrimitiveDateTime::parse(text, form).ok()?.assume_utc();
    Some(Duration::try_from(at - now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn seconds_and_dates_say_how_long_to_wait_and_nothing_else_does() {
        let now = datetime!(2026-11-21 10:00 UTC);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sat, 21 Nov 2026 10:01:30 GMT", Some(90)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999999", None),
            ("Saturday, 21-Nov-26 10:01:30 GMT", None),
        ] {
            assert_eq!(retry_after(&HeaderValue::from_str(text).unwrap(), now).map(|after| after.as_secs()), seconds, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_left_alone_for_as_long_as_it_says_within_a_limit() {
        let busy = Busy::default();
        assert_eq!(busy.left(), None);
        busy.wait(Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(busy.left(), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(busy.left(), None);
        busy.wait(Duration::MAX);
        assert_eq!(busy.left(), Some(LONGEST));
    }
}
