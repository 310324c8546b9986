//! Makes the catalog from what the upstreams offer, and tells clients what is different.

use std::{collections::HashMap, sync::Arc};

use super::{
    Gateway, LegacySession, WhenDown,
    listen::Change,
    own_tools,
    reload::Successor,
    view::{Lineup, Shown, View},
};
use crate::{
    auth::{Audience, Wanted},
    catalog::{self, Catalog},
    mcp::{build, offer::Offer},
    reason::{Explanation, Reason},
    upstream::{Concern, Upstream},
};

/// What the next catalog is made for, and what the last one was made of.
#[derive(Debug)]
pub(super) struct Making {
    /// Served with the next making.
    pub(super) lineup: Arc<Lineup>,
    /// Not served yet.
    pub(super) successors: Vec<Successor>,
    of: Option<Arc<[Part]>>,
}

impl Making {
    pub(super) fn new(lineup: Arc<Lineup>) -> Self {
        Self { lineup, successors: Vec::new(), of: None }
    }
}

impl Gateway {
    /// Makes the catalog anew, and tells clients about each list that is different now.
    pub(super) fn rebuild(&self) {
        let mut making = self.making.lock();
        let lineup = Arc::clone(&making.lineup);
        let parts = parts_of(&lineup);
        let view = self.view.load_full();
        let is_same_lineup = Arc::ptr_eq(&view.lineup, &lineup);
        if is_same_lineup && making.of.as_deref().is_some_and(|before| same_parts(before, &parts)) {
            return;
        }
        let fresh = catalog::merge(&sources_of(&lineup, &parts), &lineup.config.rules(), |_, _| true);
        let before = Arc::clone(&view.catalog);
        let change = Change::between(&before, &fresh);
        for (upstream, name) in fresh.collisions().iter().filter(|collision| !before.collisions().contains(collision)) {
            let upstream = lineup.upstreams.get(*upstream).map(|upstream| upstream.name().as_str()).unwrap_or_default();
            tracing::warn!(upstream, name, reason = "name_collision", "this name is taken already; the first in the file keeps it");
        }
        own_tools::tell_renamed(&lineup, &fresh, &before);
        for (index, upstream) in lineup.upstreams.iter().enumerate() {
            upstream.concern(Concern::Collision, collision_of(index, &fresh).as_ref());
        }
        tell_unruled(&lineup, &parts, making.of.as_deref());
        let parts: Arc<[Part]> = parts.into();
        let next = Arc::new(View::new(lineup, Arc::new(fresh), Arc::clone(&parts)));
        self.view.store(Arc::clone(&next));
        making.of = Some(parts);
        drop(making);
        self.rebuilt.send_modify(|count| *count += 1);
        let rules_differ = view.lineup.access != next.lineup.access;
        if change == Change::default() && !rules_differ {
            return;
        }
        self.changes.send_modify(|counts| *counts = counts.plus(change));
        self.tell_persons(change);
        let is_open = view.lineup.access.is_open() && next.lineup.access.is_open();
        let mut known = HashMap::new();
        for session in self.sessions.all() {
            let change = if is_open { change } else { change_for(&session, &view, &next, &mut known) };
            for method in change.methods() {
                session.tell(build::notification(method, None));
            }
        }
    }
}

/// Ends what a client has at upstreams whose things its groups may not use, as far as it is no call. As long as calls are under
/// way it keeps its sessions there.
pub(super) fn end_denied(session: &LegacySession, view: &View) {
    let is_calling = !session.flights.is_empty();
    for (index, upstream) in view.upstreams().iter().enumerate() {
        if !view.sees(index, Wanted::Other) {
            session.unsubscribe_all(upstream.name());
        }
        match session.upstream_session(upstream.id()) {
            Some(_) if view.reaches(index) => {}
            Some(_) if is_calling => session.may_hold_denied(),
            Some(_) => {
                session.keep_upstream_session(upstream.id(), None);
                upstream.close_for_now(session.id());
            }
            None => {}
        }
    }
}

/// What of the lists is different for a client's groups. What it may not use any more ends, as far as it is no call.
///
/// `known` are the differences for those who came before.
pub(super) fn change_for(
    session: &LegacySession,
    before: &Arc<View>,
    now: &Arc<View>,
    known: &mut HashMap<(Option<Audience>, Option<Audience>), Change>,
) -> Change {
    let caller = session.caller();
    let (before, now) = (before.seen_by(&caller), now.seen_by(&caller));
    end_denied(session, &now);
    *known.entry((before.audience, now.audience)).or_insert_with(|| Change::between(&before.catalog, &now.catalog))
}

/// What a lineup's upstreams offer now.
pub(super) fn parts_of(lineup: &Lineup) -> Vec<Part> {
    let is_listed = |upstream: &Upstream| lineup.config.when_down == WhenDown::Keep || upstream.status().borrow().state.serves();
    lineup.upstreams.iter().map(|upstream| (upstream.offer(), is_listed(upstream))).collect()
}

/// The same as a catalog is made of it.
pub(super) fn sources_of<'a>(lineup: &'a Lineup, parts: &[Part]) -> Vec<catalog::Source<'a>> {
    let sources = lineup.shown().zip(parts).map(|(Shown { upstream, config, expose, hide }, (offer, listed))| catalog::Source {
        name: upstream.name(),
        prefix: &config.prefix,
        expose,
        hide,
        offer: offer.clone(),
        listed: *listed,
    });
    sources.collect()
}

/// Says which rules are for tools that there are not, once for each list of an upstream's: a mistyped name protects nothing.
fn tell_unruled(lineup: &Lineup, parts: &[Part], before: Option<&[Part]>) {
    if lineup.access.is_open() {
        return;
    }
    for (index, (upstream, (offer, _))) in lineup.upstreams.iter().zip(parts).enumerate() {
        let Some(offer) = offer else { continue };
        let is_known = |before: &[Part]| before.iter().any(|(known, _)| known.as_ref().is_some_and(|known| Arc::ptr_eq(known, offer)));
        if before.is_some_and(is_known) {
            continue;
        }
        let unruled = lineup.access.ruled_tools(index).filter(|name| !offer.tools.iter().any(|tool| *tool.name() == **name));
        for tool in unruled {
            tracing::warn!(upstream = %upstream.name(), tool, "the file has allow or deny for a tool that this upstream does not offer");
        }
    }
}

/// One upstream's offer, and whether it is listed.
pub(super) type Part = (Option<Arc<Offer>>, bool);

pub(super) fn same_parts(before: &[Part], now: &[Part]) -> bool {
    let same = |(a, b): (&Part, &Part)| {
        a.1 == b.1
            && match (&a.0, &b.0) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

fn collision_of(upstream: usize, catalog: &Catalog) -> Option<Explanation> {
    let names: Vec<_> = catalog.collisions().iter().filter(|(index, _)| *index == upstream).map(|(_, name)| name.as_str()).collect();
    let first = names.first()?;
    let detail = format!("{} of its names are another upstream's already, the first is {first:?}", names.len());
    Some(Explanation::new(Reason::NameCollision, detail, "give one of the two another `prefix`, or hide the item in one of them"))
}
