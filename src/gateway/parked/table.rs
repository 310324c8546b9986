//! The calls that wait, by the ids that only sealed states name. Bounded, also for each principal.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{Retry, state::CallId};
use crate::{auth::PrincipalKey, gateway::config::ParkedConfig, secret::Secret, session::Sealer};

/// Retries of one call that wait to be looked at.
const RETRIES: usize = 4;
/// Bytes of questions and results, of all calls together, that are held while clients are away.
const MAX_HELD: usize = 256 << 20;
/// Those of one principal among them, so that none can take all.
const MAX_HELD_OF_ONE: usize = 64 << 20;
/// States of calls to be made again that were used, and are remembered as such.
const SPENT: usize = 16_384;

/// Every call of this gateway that waits for its client, and what their states are sealed with.
#[derive(Debug)]
pub(in crate::gateway) struct Parking {
    pub(super) sealer: Sealer,
    calls: Mutex<HashMap<CallId, Entry>>,
    spent: Mutex<Spent>,
    held: Mutex<Bytes>,
}

/// So many bytes are held. Given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    parking: Arc<Parking>,
    principal: PrincipalKey,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Bytes {
    all: usize,
    of: HashMap<PrincipalKey, usize>,
}

#[derive(Debug)]
struct Entry {
    principal: PrincipalKey,
    retries: mpsc::Sender<Retry>,
    /// It is over, and only remembered for a repeat.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Spent {
    known: HashSet<CallId>,
    order: VecDeque<CallId>,
}

/// A call's place in the table. Given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    parking: Arc<Parking>,
    pub(super) id: CallId,
    pub(super) retries: mpsc::Receiver<Retry>,
}

impl Parking {
    pub(in crate::gateway) fn new(secrets: &[Secret]) -> Self {
        Self { sealer: Sealer::new(secrets), calls: Mutex::default(), spent: Mutex::default(), held: Mutex::default() }
    }

    /// Takes a place for a call. `None`: too many wait already.
    pub(super) fn enter(self: &Arc<Self>, principal: &PrincipalKey, limits: ParkedConfig) -> Option<Place> {
        let mut calls = self.calls.lock();
        let (mut all, mut same) = (0, 0);
        for entry in calls.values().filter(|entry| !entry.is_over) {
            all += 1;
            same += usize::from(entry.principal == *principal);
        }
        if all >= limits.max || same >= limits.max_per_principal {
            return None;
        }
        let id = random();
        let (tx, retries) = mpsc::channel(RETRIES);
        calls.insert(id, Entry { principal: principal.clone(), retries: tx, is_over: false });
        Some(Place { parking: Arc::clone(self), id, retries })
    }

    /// Where a retry of this principal's call goes.
    pub(super) fn find(&self, id: &CallId, principal: &PrincipalKey) -> Option<mpsc::Sender<Retry>> {
        self.calls.lock().get(id).filter(|entry| entry.principal == *principal).map(|entry| entry.retries.clone())
    }

    /// Makes room for so many bytes of a principal's. `None`: too much is held already.
    pub(super) fn hold(self: &Arc<Self>, principal: &PrincipalKey, bytes: usize) -> Option<Held> {
        let mut held = self.held.lock();
        let all = held.all.checked_add(bytes).filter(|all| *all <= MAX_HELD)?;
        let own = held.of.get(principal).copied().unwrap_or_default();
        let own = own.checked_add(bytes).filter(|own| *own <= MAX_HELD_OF_ONE)?;
        held.all = all;
        held.of.insert(principal.clone(), own);
        Some(Held { parking: Arc::clone(self), principal: principal.clone(), bytes })
    }

    /// Uses a state that is good for one call. `false`: it was used before.
    pub(super) fn spend(&self, id: CallId) -> bool {
        let mut spent = self.spent.lock();
        if !spent.known.insert(id) {
            return false;
        }
        spent.order.push_back(id);
        if spent.order.len() > SPENT
            && let Some(oldest) = spent.order.pop_front()
        {
            spent.known.remove(&oldest);
        }
        true
    }
}

impl Place {
    /// The call is over and remembered for repeats only. `false`: enough such calls are.
    pub(super) fn is_over(&self, limits: ParkedConfig) -> bool {
        let mut calls = self.parking.calls.lock();
        let Some(principal) = calls.get(&self.id).map(|entry| entry.principal.clone()) else { return false };
        let (mut over, mut same) = (0, 0);
        for entry in calls.values().filter(|entry| entry.is_over) {
            over += 1;
            same += usize::from(entry.principal == principal);
        }
        if over >= limits.max || same >= limits.max_per_principal {
            return false;
        }
        if let Some(entry) = calls.get_mut(&self.id) {
            entry.is_over = true;
        }
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.parking.held.lock();
        held.all -= self.bytes;
        if let Some(own) = held.of.get_mut(&self.principal) {
            *own -= self.bytes;
            if *own == 0 {
                held.of.remove(&self.principal);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.parking.calls.lock().remove(&self.id);
    }
}

/// # Panics
/// If the operating system gives no randomness: nothing could be kept secret then.
pub(super) fn random() -> CallId {
    let mut id = CallId::default();
    SystemRandom::new().fill(&mut id).expect("the operating system provides randomness");
    id
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(max: usize, max_per_principal: usize) -> ParkedConfig {
        ParkedConfig { ttl: Duration::from_secs(1), max, max_per_principal }
    }

    #[test]
    fn no_more_calls_wait_than_allowed_and_those_that_are_over_do_not_count() {
        let parking = Arc::new(Parking::new(&[]));
        let enter = |limits| parking.enter(&PrincipalKey::Local, limits);
        let first = enter(limits(2, 2)).expect("there is room");
        let _second = enter(limits(2, 2)).expect("there is room");
        assert!(enter(limits(2, 9)).is_none() && enter(limits(9, 2)).is_none());
        assert!(first.is_over(limits(1, 1)));
        let third = enter(limits(2, 2)).expect("there is room again");
        assert!(!third.is_over(limits(1, 1)), "one is remembered already");
        assert!(parking.find(&first.id, &PrincipalKey::Local).is_some(), "for a repeat");
        let id = first.id;
        drop(first);
        assert!(parking.find(&id, &PrincipalKey::Local).is_none());
    }

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let parking = Arc::new(Parking::new(&[]));
        let hold = |n: usize, bytes| parking.hold(&PrincipalKey::of("test", "test", n.to_string()), bytes);
        let held = hold(0, MAX_HELD_OF_ONE - 1).expect("there is room");
        assert!(hold(0, 2).is_none() && hold(0, usize::MAX).is_none());
        let one = hold(0, 1).expect("up to the limit");
        let others: Vec<_> = (1..MAX_HELD / MAX_HELD_OF_ONE).map(|n| hold(n, MAX_HELD_OF_ONE).expect("others have room")).collect();
        assert!(hold(1000, 1).is_none(), "that was all");
        drop(held);
        assert!(hold(0, MAX_HELD_OF_ONE).is_none());
        drop(one);
        assert!(hold(0, MAX_HELD_OF_ONE).is_some());
        drop(others);
        assert!(parking.held.lock().of.is_empty() && parking.held.lock().all == 0);
    }

    #[test]
    fn a_state_for_a_new_call_is_spent_once() {
        let parking = Parking::new(&[]);
        let id = random();
        assert!(parking.spend(id) && !parking.spend(id));
        for _ in 0..2 * SPENT {
            assert!(parking.spend(random()));
        }
        let spent = parking.spent.lock();
        assert_eq!((spent.known.len(), spent.order.len()), (SPENT, SPENT));
    }
}
