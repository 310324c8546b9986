//! Chance, so that neither replicas nor upstreams come in step.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// Between 90 % and 110 % of `span`.
pub(super) fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.9 + 0.2 * chance())
}

/// Between nothing and `span`.
pub(super) fn part_of(span: Duration) -> Duration {
    span.mul_f64(chance())
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0_u8, 128];
    // Without randomness the span is merely not moved.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}
