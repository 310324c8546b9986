//! What a request over HTTP owes for its way in.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// What one request owes those who count everybody's requests and each address's, and how long it has waited in vain for whoever counts.
///
/// Goes with the request, so that its call pays for everything at once; shared by all that becomes of it, so that it is paid once.
#[derive(Debug)]
pub struct Toll {
    address: Option<IpAddr>,
    is_owed: AtomicBool,
    is_refused: AtomicBool,
    /// Microseconds.
    waited: AtomicU64,
}

impl Toll {
    /// Of a request that comes from this address.
    pub fn owed(address: Option<IpAddr>) -> Self {
        Self { address, is_owed: AtomicBool::new(true), is_refused: AtomicBool::new(false), waited: AtomicU64::new(0) }
    }

    /// Nothing is owed; what is waited is noted all the same.
    pub fn free() -> Self {
        Self { address: None, is_owed: AtomicBool::new(false), is_refused: AtomicBool::new(false), waited: AtomicU64::new(0) }
    }

    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Relaxed)
    }

    /// Settles it: `true` for the one who has to see to it, if somebody has to.
    #[must_use]
    pub fn settle(&self) -> bool {
        // Read first: mostly it was settled long ago.
        self.is_owed() && self.is_owed.swap(false, Ordering::Relaxed)
    }

    /// Notes that who had to see to it was refused: what else becomes of the request must go nowhere.
    pub fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// How long its request has waited in vain so far.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// Notes that its request has waited for nothing.
    pub fn has_waited(&self, further: Duration) {
        self.waited.fetch_add(u64::try_from(further.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toll_is_settled_by_one_of_all_who_could() {
        let toll = Toll::owed(None);
        let settled = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| toll.settle())).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|settled| *settled).count()
        });
        assert_eq!((settled, toll.is_owed()), (1, false));
        assert!(!Toll::free().settle());
    }

    #[test]
    fn waits_add_up() {
        let toll = Toll::free();
        for _ in 0..3 {
            toll.has_waited(Duration::from_millis(2));
        }
        assert_eq!(toll.waited(), Duration::from_millis(6));
    }
}
