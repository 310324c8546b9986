//! Failed checks in a row: one is bad luck, some are a suspicion, more mean that the upstream is down.

use std::num::NonZeroU32;

/// What the last checks of an upstream say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Standing {
    #[default]
    Well,
    /// So many checks failed in a row, and fewer than it takes to call it down.
    Suspect(u32),
    Down,
}

/// Counts the failed checks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Streak(u32);

impl Streak {
    /// Any success ends it.
    pub fn passed(&mut self) -> Standing {
        self.0 = 0;
        Standing::Well
    }

    /// `limit`: `failures_before_down`.
    pub fn failed(&mut self, limit: NonZeroU32) -> Standing {
        self.0 = self.0.saturating_add(1);
        if self.0 >= limit.get() { Standing::Down } else { Standing::Suspect(self.0) }
    }

    /// Failed checks in a row.
    pub fn length(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();

    #[test]
    fn the_third_failure_in_a_row_is_down_and_any_success_starts_anew() {
        let mut streak = Streak::default();
        assert_eq!(streak.failed(THREE), Standing::Suspect(1));
        assert_eq!(streak.failed(THREE), Standing::Suspect(2));
        assert_eq!(streak.passed(), Standing::Well);
        assert_eq!(streak.failed(THREE), Standing::Suspect(1));
        assert_eq!(streak.failed(THREE), Standing::Suspect(2));
        assert_eq!(streak.failed(THREE), Standing::Down);
        assert_eq!(streak.failed(THREE), Standing::Down);
        assert_eq!(streak.length(), 4);
        assert_eq!(streak.passed(), Standing::Well);
    }

    #[test]
    fn with_a_limit_of_one_there_is_no_suspicion() {
        assert_eq!(Streak::default().failed(NonZeroU32::MIN), Standing::Down);
    }
}
