//! How many requests are on their way in and have not paid yet.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use super::Network;

/// Requests of all together that may owe at once.
const OF_ALL: u32 = 1024;
/// Those that come from one address; some addresses count as one.
const OF_ONE: u32 = 64;
/// Counters of addresses.
const PLACES: u64 = 1024;

/// Counts debts, so that a flood is met where it comes in: a request that owes has not been charged, and whoever sends its body
/// slowly would have as many of them read as there are connections. What comes on top of this pays on its way in, as exactly, but
/// by a question of its own.
#[derive(Debug)]
pub(super) struct Debts {
    /// Random, so that nobody can choose whose counter it shares.
    seed: RandomState,
    all: AtomicU32,
    places: Box<[AtomicU32]>,
}

impl Debts {
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new(), all: AtomicU32::new(0), places: (0..PLACES).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Notes a debt. `true`: there are so many that this one must be paid now.
    pub(super) fn one_more(&self, address: Option<IpAddr>) -> bool {
        let all = self.all.fetch_add(1, Ordering::Relaxed);
        let ones = self.place(address).map_or(0, |place| place.fetch_add(1, Ordering::Relaxed));
        all >= OF_ALL || ones >= OF_ONE
    }

    /// A debt is settled.
    pub(super) fn one_less(&self, address: Option<IpAddr>) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.place(address) {
            place.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn place(&self, address: Option<IpAddr>) -> Option<&AtomicU32> {
        let place = self.seed.hash_one(Network::from(address?)) % PLACES;
        self.places.get(usize::try_from(place).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(IpAddr::from(last.to_be_bytes()))
    }

    #[test]
    fn who_owes_much_pays_at_once_and_others_do_not() {
        let debts = Debts::new();
        let one = (0..200).filter(|_| debts.one_more(address(1))).count();
        assert_eq!(one, 200 - usize::try_from(OF_ONE).unwrap());
        // One of a thousand shares its counter.
        assert!((2..12).filter(|other| debts.one_more(address(*other))).count() <= 1);
        for _ in 0..200 {
            debts.one_less(address(1));
        }
        assert!(!debts.one_more(address(1)));
    }

    #[test]
    fn many_addresses_together_owe_no_more_than_is_kept() {
        let debts = Debts::new();
        let owing = (0..10_000).filter(|n| !debts.one_more(address(*n))).count();
        assert!(owing <= usize::try_from(OF_ALL).unwrap(), "{owing}");
        assert!(debts.one_more(None), "also who has no address");
    }
}
