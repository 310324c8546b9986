//! How many sessions each has, so that one of them does not take the places of all.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
};

use parking_lot::Mutex;

use super::{Gateway, LegacySession};
use crate::{
    auth::{Caller, PrincipalKey},
    session::SessionId,
};

/// What of clients' own words is kept for all sessions together, in bytes for each session that there may be.
const KEPT_FOR_EACH: usize = 4 << 10;
/// And at the least.
const KEPT_AT_LEAST: usize = 64 << 20;

/// The sessions of each holder. Where callers are not told apart there is nobody whose share could be counted.
#[derive(Debug, Default)]
pub(super) struct Headcount(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    of: HashMap<PrincipalKey, HashMap<SessionId, Weak<LegacySession>>>,
    /// Bytes of clients' own words.
    kept: usize,
}

/// What becomes of one session more.
#[derive(Debug)]
enum Seat {
    Free,
    /// After this one, which rested longest, has ended.
    Instead(Arc<LegacySession>),
    None,
}

/// What becomes of a session that makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evicted {
    Ends,
    /// Where other replicas may be serving it, it ends here only.
    LetGo,
}

impl Gateway {
    /// Takes a session among those that live here; `false` when there is no room for it.
    pub(super) async fn seat(self: &Arc<Self>, session: &Arc<LegacySession>, evicted: Evicted) -> bool {
        let config = self.config();
        let seat = self.headcount.enter(session, config.max_sessions_per_principal, config.max_sessions);
        if let Seat::Instead(oldest) = &seat {
            tracing::debug!(session = ?oldest.id(), "a session that rested makes room for another of the same client");
            if evicted == Evicted::LetGo && oldest.is_shared() {
                self.sessions.remove(oldest.id());
                self.let_go(oldest);
            } else if let Err(error) = Box::pin(self.end_everywhere(oldest)).await {
                tracing::debug!(%error, "other replicas may still serve it");
                self.end_session(oldest);
            }
        }
        let is_seated = !matches!(seat, Seat::None) && self.sessions.add(Arc::clone(session), config.max_sessions);
        if !is_seated {
            self.headcount.leave(session);
        }
        is_seated
    }
}

impl Headcount {
    /// Takes a place for a session, of which its holder may have `most`; `max` is for all. What it has and does not use makes room.
    fn enter(&self, session: &Arc<LegacySession>, most: usize, max: usize) -> Seat {
        let mut counted = self.0.lock();
        let counted = &mut *counted;
        let room = KEPT_AT_LEAST.max(max.saturating_mul(KEPT_FOR_EACH));
        if counted.kept + kept(session) > room {
            return Seat::None;
        }
        let mut seat = Seat::Free;
        if let Some(holder) = holder(session) {
            let own = counted.of.entry(holder).or_default();
            if own.len() >= most {
                let resting = own.values().filter_map(Weak::upgrade).filter(|session| !session.is_busy());
                let Some(oldest) = resting.min_by_key(|session| session.last_used()) else { return Seat::None };
                own.remove(&oldest.id());
                if oldest.is_counted.swap(false, Ordering::Relaxed) {
                    counted.kept = counted.kept.saturating_sub(kept(&oldest));
                }
                seat = Seat::Instead(oldest);
            }
            own.insert(session.id(), Arc::downgrade(session));
        }
        session.is_counted.store(true, Ordering::Relaxed);
        counted.kept += kept(session);
        seat
    }

    /// Gives the place of a session back, if it has one.
    pub(super) fn leave(&self, session: &LegacySession) {
        let mut counted = self.0.lock();
        if !session.is_counted.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(holder) = holder(session)
            && let Some(own) = counted.of.get_mut(&holder)
        {
            own.remove(&session.id());
            if own.is_empty() {
                counted.of.remove(&holder);
            }
        }
        counted.kept = counted.kept.saturating_sub(kept(session));
    }
}

fn kept(session: &LegacySession) -> usize {
    session.record.capabilities.len() + session.record.client_info.len()
}

fn holder(session: &LegacySession) -> Option<PrincipalKey> {
    let holder = Caller::holder(&session.opened_by).clone();
    (holder != PrincipalKey::Local).then_some(holder)
}
