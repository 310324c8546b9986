//! A bound on handshakes that favours the newest: whoever stalls is in nobody's way.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Handshakes under way at a time. An honest one takes two round trips, so it is over long before so many others came.
pub(super) const MOST: usize = 512;

/// The handshakes of one listener that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// In the order of their arrival.
    turns: BTreeMap<u64, CancellationToken>,
}

/// One handshake; over when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    handshakes: Handshakes,
    number: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    /// Begins a handshake. One too many ends the oldest.
    pub(super) fn enter(&self) -> Turn {
        let evicted = CancellationToken::new();
        let mut under_way = self.0.lock();
        let number = under_way.next;
        under_way.next += 1;
        if under_way.turns.len() >= MOST
            && let Some((_, oldest)) = under_way.turns.pop_first()
        {
            oldest.cancel();
        }
        under_way.turns.insert(number, evicted.clone());
        drop(under_way);
        Turn { handshakes: self.clone(), number, evicted }
    }
}

impl Turn {
    /// Until a newer one needs the turn. Cancel-safe.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.handshakes.0.lock().turns.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_ends_the_oldest_and_no_other() {
        let handshakes = Handshakes::default();
        let turns: Vec<Turn> = (0..MOST).map(|_| handshakes.enter()).collect();
        assert!(turns.iter().all(|turn| !turn.evicted.is_cancelled()));
        let _newest = handshakes.enter();
        let evicted: Vec<u64> = turns.iter().filter(|turn| turn.evicted.is_cancelled()).map(|turn| turn.number).collect();
        assert_eq!(evicted, [0]);
        assert_eq!(handshakes.0.lock().turns.len(), MOST);
    }

    #[test]
    fn one_that_is_over_makes_room() {
        let handshakes = Handshakes::default();
        let mut turns: Vec<Turn> = (0..MOST).map(|_| handshakes.enter()).collect();
        turns.pop();
        let _newest = handshakes.enter();
        assert!(turns.iter().all(|turn| !turn.evicted.is_cancelled()));
    }
}
