//! Everybody with upstreams of their own, by principal; no lock concerns them all.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Person;
use crate::{
    auth::{Caller, PrincipalKey},
    gateway::view::View,
};

/// Principals are spread over so many locks.
const SHARDS: usize = 16;

/// Everybody with upstreams of their own.
#[derive(Debug)]
pub(in crate::gateway) struct Persons {
    shards: [Mutex<HashMap<PrincipalKey, Arc<Person>>>; SHARDS],
    hasher: RandomState,
    count: AtomicUsize,
    began: Instant,
}

impl Persons {
    pub(in crate::gateway) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }

    fn shard(&self, principal: &PrincipalKey) -> &Mutex<HashMap<PrincipalKey, Arc<Person>>> {
        let hash = self.hasher.hash_one(principal);
        // The remainder is below the number of shards, which fits any index.
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        self.shards.get(index).expect("the remainder is below the number of shards")
    }

    pub(in crate::gateway) fn find(&self, principal: &PrincipalKey) -> Option<Arc<Person>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.shard(principal).lock().get(principal).map(Arc::clone)
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The one of this caller, and whether it is new.
    pub(super) fn enter(&self, caller: &Caller, shared: &Arc<View>) -> (Arc<Person>, bool) {
        let now = self.now();
        let mut shard = self.shard(caller.principal()).lock();
        if let Some(person) = shard.get(caller.principal()) {
            person.last_used.store(now, Ordering::Relaxed);
            return (Arc::clone(person), false);
        }
        let person = Arc::new(Person::new(caller, shared, now));
        shard.insert(caller.principal().clone(), Arc::clone(&person));
        drop(shard);
        self.count.fetch_add(1, Ordering::Relaxed);
        (person, true)
    }

    /// Takes out whoever was not seen for the longest time, as long as there are more than `max`; first those whose tokens no
    /// server has taken yet, so that made-up ones drive nobody out.
    pub(super) fn take_oldest(&self, max: usize, but: &Arc<Person>) -> Vec<Arc<Person>> {
        let mut gone = Vec::new();
        while self.count.load(Ordering::Relaxed) > max.max(1) {
            let all = self.all();
            let others = all.iter().filter(|person| !Arc::ptr_eq(person, but));
            let Some(oldest) = others.min_by_key(|person| (person.was_served(), person.last_used.load(Ordering::Relaxed))) else { break };
            if self.take(oldest) {
                gone.push(Arc::clone(oldest));
            }
        }
        gone
    }

    pub(super) fn take(&self, person: &Arc<Person>) -> bool {
        let mut shard = self.shard(&person.principal).lock();
        let is_there = shard.get(&person.principal).is_some_and(|found| Arc::ptr_eq(found, person));
        if is_there {
            shard.remove(&person.principal);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        is_there
    }

    pub(in crate::gateway) fn all(&self) -> Vec<Arc<Person>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        self.shards.iter().flat_map(|shard| shard.lock().values().map(Arc::clone).collect::<Vec<_>>()).collect()
    }
}
