//! The token that a connection brought last. Clients send the same one with every request, and to compare it costs less than to
//! look it up.

use std::time::Duration;

use parking_lot::Mutex;

use crate::{auth::Caller, secret::Secret};

/// Longest header that is remembered, in bytes: as much memory as a connection may cost on top.
const LONGEST: usize = 4 << 10;

/// What one connection is remembered by. Nobody waits for it: who meets another one there looks the token up.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Option<Holder>>);

#[derive(Debug)]
struct Holder {
    /// All of `Authorization`.
    header: Secret,
    caller: Caller,
    verified: Under,
}

/// What a token was found to be good under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Under {
    /// The number of a configuration in this process.
    pub(super) rules: u64,
    /// Of the key set.
    pub(super) epoch: u64,
}

impl Recent {
    /// Whose header this is, if it is the last one, and good under the same rules and keys as then.
    pub(in crate::auth) fn holder_of(&self, header: &[u8], under: Under, now: Duration) -> Option<Caller> {
        let holder = self.0.try_lock()?;
        let Holder { header: known, caller, verified } = holder.as_ref()?;
        let is_good =
            *verified == under && caller.term().until.is_some_and(|until| now < until) && is_same(known.expose().as_bytes(), header);
        is_good.then(|| caller.clone())
    }

    /// Remembers whose header this is instead of the one before.
    pub(in crate::auth) fn remember(&self, header: &str, caller: &Caller, verified: Under) {
        if header.len() <= LONGEST
            && let Some(mut holder) = self.0.try_lock()
        {
            *holder = Some(Holder { header: Secret::new(header), caller: caller.clone(), verified });
        }
    }
}

/// Looks at all bytes whatever they are: behind a balancer, requests of others come over the same connection, and the time that
/// it takes must not tell them how much of a token they have guessed.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Term;

    const NOW: Duration = Duration::from_secs(1_000);
    const HEADER: &str = "Bearer a.b.c";

    const FIRST: Under = Under { rules: 1, epoch: 7 };

    fn remembering(header: &str, under: Under) -> Recent {
        let recent = Recent::default();
        let caller = Caller::local().during(Term { until: Some(NOW), withdrawn: None });
        recent.remember(header, &caller, under);
        recent
    }

    #[test]
    fn the_last_token_of_a_connection_is_known_until_its_end_and_under_its_keys_and_rules() {
        let recent = remembering(HEADER, FIRST);
        let soon = NOW - Duration::from_millis(1);
        assert!(recent.holder_of(HEADER.as_bytes(), FIRST, soon).is_some());
        assert!(recent.holder_of(HEADER.as_bytes(), FIRST, NOW).is_none(), "it ended");
        assert!(recent.holder_of(HEADER.as_bytes(), Under { epoch: 8, ..FIRST }, soon).is_none(), "a key went");
        assert!(recent.holder_of(HEADER.as_bytes(), Under { rules: 2, ..FIRST }, soon).is_none(), "another configuration");
        for other in ["Bearer a.b.d", "Bearer a.b.", "Bearer a.b.cc", "bearer a.b.c", ""] {
            assert!(recent.holder_of(other.as_bytes(), FIRST, soon).is_none(), "{other}");
        }
    }

    #[test]
    fn one_token_is_remembered_and_no_long_one() {
        let recent = remembering(HEADER, FIRST);
        let long = format!("Bearer {}", "x".repeat(LONGEST));
        recent.remember(&long, &Caller::local().during(Term { until: Some(NOW), withdrawn: None }), FIRST);
        assert!(recent.holder_of(long.as_bytes(), FIRST, Duration::ZERO).is_none());
        assert!(recent.holder_of(HEADER.as_bytes(), FIRST, Duration::ZERO).is_some());
        recent.remember("Bearer d.e.f", &Caller::local().during(Term { until: Some(NOW), withdrawn: None }), FIRST);
        assert!(recent.holder_of(HEADER.as_bytes(), FIRST, Duration::ZERO).is_none());
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", remembering(HEADER, FIRST)).contains("a.b.c"));
    }
}
