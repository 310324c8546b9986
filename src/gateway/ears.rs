//! Who listens, so that a stream follows the groups with which its caller comes now.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::auth::{Caller, PrincipalKey};

/// Everybody who listens, as it came last.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// How many streams; looked at by every request.
    count: AtomicUsize,
    of: Mutex<HashMap<PrincipalKey, Latest>>,
}

#[derive(Debug)]
struct Latest {
    streams: usize,
    caller: watch::Sender<Caller>,
}

/// The place of one stream.
#[derive(Debug)]
pub(super) struct Ear {
    ears: Arc<Ears>,
    principal: PrincipalKey,
    latest: watch::Receiver<Caller>,
}

impl Ears {
    /// For a stream of this caller's.
    pub(super) fn open(self: &Arc<Self>, caller: &Caller) -> Ear {
        let mut of = self.of.lock();
        let principal = caller.principal().clone();
        let new = || Latest { streams: 0, caller: watch::Sender::new(caller.at_rest()) };
        let latest = of.entry(principal.clone()).or_insert_with(new);
        latest.streams += 1;
        latest.saw(caller);
        let receiver = latest.caller.subscribe();
        self.count.fetch_add(1, Ordering::Relaxed);
        Ear { ears: Arc::clone(self), principal, latest: receiver }
    }

    /// Notes that the caller is here. Costs next to nothing where nobody listens.
    pub(super) fn saw(&self, caller: &Caller) {
        if self.count.load(Ordering::Relaxed) == 0 || *caller.principal() == PrincipalKey::Local {
            return;
        }
        if let Some(latest) = self.of.lock().get(caller.principal()) {
            latest.saw(caller);
        }
    }
}

impl Latest {
    fn saw(&self, caller: &Caller) {
        self.caller.send_if_modified(|latest| {
            let is_other = latest.groups() != caller.groups();
            if is_other {
                *latest = caller.at_rest();
            }
            is_other
        });
    }
}

impl Ear {
    /// Waits until the caller comes with other groups. Cancel-safe.
    pub(super) async fn other(&mut self) -> Caller {
        match self.latest.changed().await {
            Ok(()) => self.latest.borrow_and_update().clone(),
            // Its place is there as long as this is.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut of = self.ears.of.lock();
        self.ears.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(latest) = of.get_mut(&self.principal) {
            latest.streams -= 1;
            if latest.streams == 0 {
                of.remove(&self.principal);
            }
        }
    }
}
