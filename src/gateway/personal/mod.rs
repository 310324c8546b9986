//! What one principal sees where upstreams take their callers' own tokens: upstreams of its own in the places of those, and
//! the catalog made of both. Sessions, connections and items of such an upstream are nobody else's, because the upstream is
//! not.

mod persons;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub(super) use self::persons::Persons;
use super::{
    Gateway,
    listen::Change,
    rebuild::{Part, change_for, parts_of, same_parts, sources_of},
    view::{Lineup, View},
};
use crate::{
    auth::{Access, Audience, Caller, PrincipalKey},
    catalog::{
        self, Catalog,
        search::{SearchError, SearchIndex},
    },
    mcp::build,
    reason::Reason,
    upstream::{Behalf, Difference, State, Surroundings, Upstream, UpstreamId, supervise},
};

/// A token that was refused is shown again when its caller comes back after this.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// `[mcp] downstream_cache`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most principals whose own upstreams are kept at a time.
    pub max_size: usize,
    /// A principal's own upstreams end after this long without a request.
    pub idle_timeout: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_size: 1000, idle_timeout: Duration::from_secs(600) }
    }
}

/// One principal with upstreams of its own.
#[derive(Debug)]
pub(in crate::gateway) struct Person {
    principal: PrincipalKey,
    behalf: Arc<Behalf>,
    view: ArcSwap<View>,
    /// The lineup of all, in which its own upstreams stand in the places of some.
    of: ArcSwapOption<Lineup>,
    making: Mutex<Making>,
    /// Told after every change of a state or an offer of its own upstreams.
    changed: Arc<Notify>,
    /// Counts the makings of its catalog.
    rebuilt: watch::Sender<u64>,
    /// Counts the changes of each of its lists.
    pub(super) changes: watch::Sender<Change>,
    /// The index of `search`, and what it is of.
    index: Mutex<Option<(Arc<Catalog>, Arc<SearchIndex>)>>,
    /// Since when its upstreams are being tried.
    since: Mutex<Instant>,
    /// Microseconds since the first of all began.
    last_used: AtomicU64,
    end: CancellationToken,
}

/// What its view is made of.
#[derive(Debug, Default)]
struct Making {
    /// Its own lineup.
    lineup: Option<Arc<Lineup>>,
    own: Vec<Own>,
    parts: Arc<[Part]>,
}

/// An upstream of one principal's own.
#[derive(Debug)]
struct Own {
    /// What all callers share of it.
    of: UpstreamId,
    upstream: Arc<Upstream>,
    /// When its refused token was last shown again.
    asked: Instant,
}

impl Person {
    fn new(caller: &Caller, shared: &Arc<View>, now: u64) -> Self {
        Self {
            principal: caller.principal().clone(),
            behalf: Arc::new(Behalf::of(caller.clone())),
            view: ArcSwap::new(Arc::clone(shared)),
            of: ArcSwapOption::empty(),
            making: Mutex::default(),
            changed: Arc::default(),
            rebuilt: watch::Sender::new(0),
            changes: watch::Sender::new(Change::default()),
            index: Mutex::default(),
            since: Mutex::new(Instant::now()),
            last_used: AtomicU64::new(now),
            end: CancellationToken::new(),
        }
    }

    pub(super) fn rebuilds(&self) -> watch::Receiver<u64> {
        self.rebuilt.subscribe()
    }

    fn follows(&self, shared: &Arc<Lineup>) -> bool {
        self.of.load().as_ref().is_some_and(|of| Arc::ptr_eq(of, shared))
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Until when its answers may wait for its upstreams.
    pub(super) fn patience_ends(&self, list_wait: Duration) -> Instant {
        *self.since.lock() + list_wait
    }

    /// Whether there is something for this caller's groups at an upstream for which it has none of its own yet.
    fn lacks(&self, caller: &Caller) -> bool {
        let view = self.view.load();
        let access = &view.lineup.access;
        if access.is_open() || !view.upstreams().iter().any(|upstream| upstream.awaits_callers()) {
            return false;
        }
        let audience = audience_of(caller, access);
        view.upstreams().iter().enumerate().any(|(index, upstream)| upstream.awaits_callers() && access.reaches(&audience, index))
    }

    /// Makes the catalog anew if something of it is different, and tells its clients. `caller` is who has come now, if anybody.
    pub(super) fn rebuild(&self, gateway: &Arc<Gateway>, caller: Option<&Caller>) {
        let mut making = self.making.lock();
        if self.end.is_cancelled() {
            return;
        }
        let shared = Arc::clone(&gateway.view().lineup);
        let is_new = !self.follows(&shared) || caller.is_some_and(|caller| self.lacks(caller));
        if is_new {
            let latest = self.behalf.latest();
            self.take_part_in(gateway, &mut making, &shared, caller.unwrap_or(&latest));
        }
        let Some(lineup) = making.lineup.clone() else { return };
        let parts = parts_of(&lineup);
        if is_new || !same_parts(&making.parts, &parts) {
            let own = |parts: &[Part]| -> Vec<Part> {
                lineup
                    .upstreams
                    .iter()
                    .zip(parts)
                    .filter(|(up, _)| making.own.iter().any(|own| own.upstream.id() == up.id()))
                    .map(|(_, part)| part.clone())
                    .collect()
            };
            let is_own_change = is_new || !same_parts(&own(&making.parts), &own(&parts));
            let fresh = catalog::merge(&sources_of(&lineup, &parts), &lineup.config.rules(), |_, _| true);
            let parts: Arc<[Part]> = parts.into();
            let now = Arc::new(View::personal(lineup, Arc::new(fresh), Arc::clone(&parts)));
            let before = self.view.swap(Arc::clone(&now));
            // Last: whoever sees it sees its own upstreams too.
            self.of.store(Some(shared));
            making.parts = parts;
            self.tell(gateway, &before, &now, is_own_change);
        }
        drop(making);
        self.rebuilt.send_modify(|count| *count += 1);
    }

    fn tell(&self, gateway: &Gateway, before: &Arc<View>, now: &Arc<View>, is_own_change: bool) {
        // What all share has changed for all, who were told.
        let change = if is_own_change { Change::between(&before.catalog, &now.catalog) } else { Change::default() };
        let is_open = before.lineup.access.is_open() && now.lineup.access.is_open();
        if is_open && change == Change::default() {
            return;
        }
        // With rules, whoever follows the lists finds out what is different for its groups, for which this had to be made first.
        self.changes.send_modify(|counts| *counts = counts.plus(change));
        if !is_own_change {
            return;
        }
        let mut known = HashMap::new();
        for session in gateway.sessions.all().iter().filter(|session| session.record.principal == self.principal) {
            let change = if is_open { change } else { change_for(session, before, now, &mut known) };
            for method in change.methods() {
                session.tell(build::notification(method, None));
            }
        }
    }

    /// Puts its own upstreams in their places, as far as there is anything at them for the caller's groups: no other gets its
    /// token. Those that it has go on where the configuration does not replace them, also for the groups that it has come with
    /// before.
    fn take_part_in(&self, gateway: &Arc<Gateway>, making: &mut Making, shared: &Arc<Lineup>, caller: &Caller) {
        let before = std::mem::take(&mut making.own);
        let mut own = Vec::new();
        let (follows, audience) = (self.follows(shared), audience_of(caller, &shared.access));
        let place = |(index, of): (usize, &Arc<Upstream>)| {
            if !of.awaits_callers() {
                return Arc::clone(of);
            }
            let known = before.iter().find(|own| own.of == of.id()).map(|own| Arc::clone(&own.upstream));
            if !(shared.access.reaches(&audience, index) || follows && known.is_some()) {
                return Arc::clone(of);
            }
            let upstream = match known {
                Some(known) => {
                    let wanted = of.config();
                    match known.config().difference(&wanted) {
                        Difference::None => {}
                        Difference::Shown => known.configure_quietly((*wanted).clone()),
                        Difference::Rotation | Difference::Replacement => known.configure((*wanted).clone()),
                    }
                    known
                }
                None => self.bring(gateway, of),
            };
            own.push(Own { of: of.id(), upstream: Arc::clone(&upstream), asked: Instant::now() });
            upstream
        };
        let upstreams = shared.upstreams.iter().enumerate().map(place).collect();
        for gone in before.iter().filter(|was| !own.iter().any(|is| is.upstream.id() == was.upstream.id())) {
            gateway.dismiss(&gone.upstream);
        }
        making.lineup = Some(Arc::new(shared.with(upstreams)));
        making.own = own;
        making.parts = Arc::default();
    }

    fn bring(&self, gateway: &Arc<Gateway>, of: &Arc<Upstream>) -> Arc<Upstream> {
        let surroundings = Surroundings { bounds: of.bounds, changed: Arc::clone(&self.changed), ..gateway.surroundings.clone() };
        let upstream = Arc::new(Upstream::on_behalf(of, &self.behalf, surroundings));
        gateway.tasks.spawn(supervise(Arc::clone(&upstream), gateway.shutdown.clone()));
        upstream
    }

    /// Notes that the caller is here: with another token, or after a while, what was refused is tried again.
    fn greet(&self, caller: &Caller) {
        let has_another = self.behalf.saw(caller);
        // Nothing was refused as long as nothing is down, which a look at the view tells without a lock.
        let is_refused = |upstream: &Arc<Upstream>| {
            let status = upstream.status();
            let status = status.borrow();
            matches!(&status.state, State::Down(why) if matches!(why.reason, Reason::AuthRequired | Reason::AuthTokenEndpoint | Reason::NeedsCaller))
        };
        if !self.view.load().upstreams().iter().any(|upstream| upstream.is_personal() && is_refused(upstream)) {
            return;
        }
        let mut making = self.making.lock();
        for own in making.own.iter_mut().filter(|own| is_refused(&own.upstream)) {
            if has_another || own.asked.elapsed() >= REFUSED_FOR {
                own.asked = Instant::now();
                *self.since.lock() = Instant::now();
                own.upstream.try_again();
            }
        }
    }

    /// The index of what it sees now, made by whoever searches first. Takes a while: not for the runtime's own threads.
    pub(super) fn index(&self) -> Result<(Arc<View>, Arc<SearchIndex>), SearchError> {
        let view = self.view();
        let mut index = self.index.lock();
        if let Some((_, made)) = index.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &view.catalog)) {
            return Ok((view, Arc::clone(made)));
        }
        let made = Arc::new(SearchIndex::build(Arc::clone(&view.catalog))?);
        *index = Some((Arc::clone(&view.catalog), Arc::clone(&made)));
        Ok((view, made))
    }

    /// Ends what is its own; calls that have begun are answered.
    fn dismiss(&self, gateway: &Gateway) {
        self.end.cancel();
        let was_served = self.was_served();
        let own = std::mem::take(&mut self.making.lock().own);
        for own in own {
            // Where nobody was served no session knows of it, and there may be many sessions.
            if was_served {
                gateway.dismiss(&own.upstream);
            } else {
                own.upstream.dismiss();
            }
        }
    }

    /// A server has taken its token.
    fn was_served(&self) -> bool {
        self.view.load().upstreams().iter().any(|upstream| upstream.is_personal() && upstream.was_up())
    }

    /// Somebody follows its lists.
    fn is_followed(&self) -> bool {
        self.changes.receiver_count() > 0
    }
}

impl Gateway {
    /// The caller among those with upstreams of their own; `None` where there are none, or it has brought no token.
    pub(super) fn person(self: &Arc<Self>, caller: &Caller) -> Option<Arc<Person>> {
        let shared = self.view.load();
        if !shared.lineup.takes_callers_tokens || caller.bearer().is_none() {
            return None;
        }
        let (person, is_new) = self.persons.enter(caller, &shared);
        if is_new {
            person.rebuild(self, Some(caller));
            self.tasks.spawn(Arc::clone(self).keep_person(Arc::clone(&person)));
            for gone in self.persons.take_oldest(shared.lineup.config.downstream_cache.max_size, &person) {
                gone.dismiss(self);
            }
        } else {
            person.greet(caller);
            // Whoever is first may still be at it; and a reload may have come since.
            if !person.follows(&shared.lineup) || person.lacks(caller) {
                person.rebuild(self, Some(caller));
            }
        }
        Some(person)
    }

    /// The upstreams and the catalog of this moment, as this caller sees them: its own where it has some, and of all that what
    /// is there for its groups.
    pub(super) fn view_for(self: &Arc<Self>, caller: &Caller) -> Arc<View> {
        match self.person(caller) {
            Some(person) => person.view.load().seen_by(caller),
            None => self.view.load().seen_by(caller),
        }
    }

    /// Everything that is in the place of a principal that was here before, whatever its groups may see of that.
    pub(super) fn view_of(&self, principal: &PrincipalKey) -> Arc<View> {
        self.persons.find(principal).map_or_else(|| self.view(), |person| person.view())
    }

    /// Waits until every upstream of this caller's was tried, as long as lists may wait.
    pub(super) async fn settled_for(self: &Arc<Self>, caller: &Caller) -> Arc<View> {
        self.settled().await;
        let Some(person) = self.person(caller) else { return self.view.load().seen_by(caller) };
        let view = person.view();
        if !view.all_tried() {
            let tried = async {
                for upstream in view.upstreams() {
                    // Fails only when the upstream is gone, which it is not while we hold it.
                    let _ = upstream.status().wait_for(|status| status.tried).await;
                }
            };
            let _ = timeout_at(person.patience_ends(view.lineup.config.list_wait), tried).await;
        }
        // Costs next to nothing when nothing is different.
        person.rebuild(self, None);
        person.view.load().seen_by(caller)
    }

    async fn keep_person(self: Arc<Self>, person: Arc<Person>) {
        let mut rebuilds = self.rebuilds();
        loop {
            tokio::select! {
                () = person.changed.notified() => {}
                changed = rebuilds.changed() => if changed.is_err() { return },
                () = person.end.cancelled() => return,
                () = self.shutdown.cancelled() => return,
            }
            person.rebuild(&self, None);
        }
    }

    /// Ends what belongs to those who were not here for a while.
    pub(super) fn sweep_persons(&self) {
        let limit = self.config().downstream_cache.idle_timeout;
        let now = self.persons.now();
        for person in self.persons.all() {
            let unused = Duration::from_micros(now.saturating_sub(person.last_used.load(Ordering::Relaxed)));
            if unused >= limit && !person.is_followed() && self.persons.take(&person) {
                person.dismiss(self);
            }
        }
    }

    /// Tells those who follow lists of their own of what is different for all.
    pub(super) fn tell_persons(&self, change: Change) {
        for person in self.persons.all() {
            person.changes.send_modify(|counts| *counts = counts.plus(change));
        }
    }
}

fn audience_of(caller: &Caller, access: &Access) -> Audience {
    access.audience(caller.groups().iter().map(|group| &**group))
}
