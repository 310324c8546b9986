//! How many sessions each has, so that one of them does not take the places of all.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
};

use parking_lot::Mutex;

use super::LegacySession;
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
pub(super) enum Seat {
    Free,
    /// After this one, which rested longest, has ended.
    Instead(Arc<LegacySession>),
    None,
}

impl Headcount {
    /// Takes a place for a session, of which its holder may have `most`; `max` is for all. What it has and does not use makes room.
    pub(super) fn enter(&self, session: &Arc<LegacySession>, most: usize, max: usize) -> Seat {
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
