//! The places of a listener's connections. How many there are may change while it serves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many connections are open.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One connection's; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Places);

impl Places {
    /// `None`: all `limit` are taken. Connections that came under a higher limit keep theirs.
    pub(super) fn enter(&self, limit: usize) -> Option<Place> {
        let more = |open: usize| (open < limit).then_some(open + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_lets_nobody_in_before_enough_have_left() {
        let places = Places::default();
        let (first, second) = (places.enter(2).unwrap(), places.enter(2).unwrap());
        assert!(places.enter(2).is_none());
        drop(first);
        assert!(places.enter(1).is_none());
        drop(second);
        assert!(places.enter(1).is_some());
    }
}
