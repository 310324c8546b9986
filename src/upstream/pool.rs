//! The sessions open with one upstream: each is opened once, by whoever comes first, and none outlives its owner.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

use super::{Session, SessionKey, UpstreamError};
use crate::{auth::PrincipalKey, session::SessionId};

/// Ended owners that are remembered, so that a call that outlives its session's end opens nothing in its name.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(super) struct Pool {
    places: Mutex<Places>,
    started: Instant,
}

#[derive(Debug, Default)]
struct Places {
    cells: HashMap<SessionKey, Arc<Cell>>,
    /// The last to end is the last.
    ended: VecDeque<SessionId>,
}

/// A place in the pool; filled once.
#[derive(Debug, Default)]
struct Cell {
    session: OnceCell<Arc<Session>>,
    /// Seconds since the pool was made.
    last_used: AtomicU64,
}

impl Places {
    /// Whether somebody among others has taken half of the places: what a client declares is part of the key, and it may declare
    /// something else each time.
    fn has_its_share(&self, key: &SessionKey, limit: usize) -> bool {
        let SessionKey::Pooled(principal, ..) = key else { return false };
        let is_same = |other: &&SessionKey| matches!(other, SessionKey::Pooled(other, ..) if other == principal);
        *principal != PrincipalKey::Local && self.cells.keys().filter(is_same).count() >= limit.div_ceil(2)
    }
}

impl Cell {
    fn has_ended(&self) -> bool {
        self.session.get().is_some_and(|session| session.has_ended())
    }
}

/// Why there is no place for a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    Full,
    OwnerEnded,
}

/// A place that is being used. An unfilled place that nobody holds any more is given up.
pub(super) struct Held<'a> {
    pool: &'a Pool,
    key: SessionKey,
    /// Present until dropped.
    cell: Option<Arc<Cell>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self { places: Mutex::default(), started: Instant::now() }
    }

    /// The place of `key`; a session in it that is not usable is given up. At most `limit` places are taken, where there is a
    /// limit.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub(super) fn hold(&self, key: &SessionKey, limit: Option<usize>, is_usable: impl Fn(&Session) -> bool) -> Result<Held<'_>, NoPlace> {
        let mut places = self.places.lock();
        if matches!(key, SessionKey::Owned(owner) if places.ended.contains(owner)) {
            return Err(NoPlace::OwnerEnded);
        }
        let held = |cell| Held { pool: self, key: key.clone(), cell: Some(cell) };
        if let Some(cell) = places.cells.get(key).filter(|cell| cell.session.get().is_none_or(|session| is_usable(session))).map(Arc::clone)
        {
            cell.last_used.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
            return Ok(held(cell));
        }
        places.cells.remove(key);
        if let Some(limit) = limit {
            places.cells.retain(|_, cell| !cell.has_ended());
            if places.cells.len() >= limit || places.has_its_share(key, limit) {
                return Err(NoPlace::Full);
            }
        }
        let cell = Arc::new(Cell { session: OnceCell::new(), last_used: AtomicU64::new(self.started.elapsed().as_secs()) });
        places.cells.insert(key.clone(), Arc::clone(&cell));
        Ok(held(cell))
    }

    /// The session of `key`, if it is open.
    pub(super) fn open(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.places.lock().cells.get(key).and_then(|cell| cell.session.get().cloned())
    }

    /// Gives up the place of `key`, unless it holds another session by now.
    pub(super) fn forget(&self, key: &SessionKey, session: &Arc<Session>) {
        let mut places = self.places.lock();
        if places.cells.get(key).and_then(|cell| cell.session.get()).is_some_and(|held| Arc::ptr_eq(held, session)) {
            places.cells.remove(key);
        }
    }

    /// Gives up what belongs to an owner; nothing is opened for it any more.
    pub(super) fn end(&self, owner: SessionId) -> Option<Arc<Session>> {
        let mut places = self.places.lock();
        if places.ended.len() >= REMEMBERED {
            places.ended.pop_front();
        }
        places.ended.push_back(owner);
        places.cells.remove(&SessionKey::Owned(owner)).and_then(|cell| cell.session.get().cloned())
    }

    /// Takes out what belongs to an owner, who may come back.
    pub(super) fn take_owned(&self, owner: SessionId) -> Option<Arc<Session>> {
        self.places.lock().cells.remove(&SessionKey::Owned(owner)).and_then(|cell| cell.session.get().cloned())
    }

    /// Takes out the pooled sessions without work for `limit`.
    pub(super) fn take_idle(&self, limit: Duration) -> Vec<Arc<Session>> {
        let now = self.started.elapsed().as_secs();
        let is_idle = |cell: &Arc<Cell>| {
            let unused = now.saturating_sub(cell.last_used.load(Ordering::Relaxed)) >= limit.as_secs();
            unused && Arc::strong_count(cell) == 1 && cell.session.get().is_some_and(|session| Arc::strong_count(session) == 1)
        };
        let mut idle = Vec::new();
        self.places.lock().cells.retain(|key, cell| {
            let goes = matches!(key, SessionKey::Pooled(..) | SessionKey::Listening(_)) && is_idle(cell);
            if goes {
                idle.extend(cell.session.get().cloned());
            }
            !goes
        });
        idle
    }

    /// Takes out all sessions.
    pub(super) fn take_all(&self) -> Vec<Arc<Session>> {
        self.places.lock().cells.drain().filter_map(|(_, cell)| cell.session.get().cloned()).collect()
    }
}

impl Held<'_> {
    /// The session in this place, opened by the first who succeeds.
    ///
    /// # Errors
    /// Those of `open`; the next who holds the place tries again.
    pub(super) async fn session<F>(&self, open: impl FnOnce() -> F) -> Result<Arc<Session>, UpstreamError>
    where
        F: Future<Output = Result<Arc<Session>, UpstreamError>>,
    {
        let cell = self.cell.as_ref().expect("the cell is present until the drop");
        // On the heap: it is large, and few calls open a session.
        cell.session.get_or_try_init(|| Box::pin(open())).await.map(Arc::clone)
    }

    /// Whether its owner ended meanwhile, so that nobody will ever end the session.
    pub(super) fn owner_has_ended(&self) -> bool {
        matches!(self.key, SessionKey::Owned(owner) if self.pool.places.lock().ended.contains(&owner))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut places = self.pool.places.lock();
        let Some(cell) = self.cell.take() else { return };
        let is_in_place = places.cells.get(&self.key).is_some_and(|other| Arc::ptr_eq(other, &cell));
        // Every holder lets go under the lock: two are left, the pool's own and this one.
        if is_in_place && cell.session.get().is_none() && Arc::strong_count(&cell) == 2 {
            places.cells.remove(&self.key);
        }
        drop(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mcp::Era, upstream::ClientCapabilities};

    const KEY: SessionKey = SessionKey::Pooled(PrincipalKey::Local, ClientCapabilities::NONE, Era::Legacy);

    #[test]
    fn an_opening_that_is_given_up_leaves_no_place_taken() {
        let pool = Pool::new();
        drop(pool.hold(&KEY, Some(1), |_| true).ok());
        assert!(pool.places.lock().cells.is_empty());
    }

    #[test]
    fn a_place_stays_while_another_waits_for_it() {
        let pool = Pool::new();
        let first = pool.hold(&KEY, None, |_| true).ok();
        let second = pool.hold(&KEY, None, |_| true).ok();
        drop(first);
        assert_eq!(pool.places.lock().cells.len(), 1);
        drop(second);
        assert!(pool.places.lock().cells.is_empty());
    }

    #[test]
    fn no_more_places_are_taken_than_allowed() {
        let pool = Pool::new();
        assert_eq!(pool.hold(&KEY, Some(0), |_| true).err(), Some(NoPlace::Full));
    }

    #[test]
    fn whoever_declares_something_else_each_time_takes_half_of_the_places_only() {
        let pool = Pool::new();
        let of = |subject: &str, roots, sampling| {
            let capabilities = ClientCapabilities { roots, sampling, ..ClientCapabilities::NONE };
            SessionKey::Pooled(PrincipalKey::of("test", "test", subject), capabilities, Era::Legacy)
        };
        let (one, two) = (pool.hold(&of("eve", false, false), Some(4), |_| true), pool.hold(&of("eve", true, false), Some(4), |_| true));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(pool.hold(&of("eve", true, true), Some(4), |_| true).err(), Some(NoPlace::Full));
        assert!(pool.hold(&of("eve", true, false), Some(4), |_| true).is_ok(), "what it has it keeps");
        assert!(pool.hold(&of("ann", false, false), Some(4), |_| true).is_ok());
    }
}
