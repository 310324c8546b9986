//! Makes the catalog from what the upstreams offer, and tells clients what is different.

use std::sync::Arc;

use super::{
    Gateway, WhenDown,
    listen::Change,
    own_tools,
    reload::Successor,
    view::{Lineup, Shown, View},
};
use crate::{
    catalog::{self, Catalog},
    mcp::{build, offer::Offer},
    reason::{Explanation, Reason},
    upstream::Concern,
};

/// What the next catalog is made for, and what the last one was made of.
#[derive(Debug)]
pub(super) struct Making {
    /// Served with the next making.
    pub(super) lineup: Arc<Lineup>,
    /// Not served yet.
    pub(super) successors: Vec<Successor>,
    of: Option<Vec<Part>>,
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
        let sources = sources_of(&lineup);
        let parts = parts_of(&sources);
        let view = self.view.load_full();
        let is_same_lineup = Arc::ptr_eq(&view.lineup, &lineup);
        if is_same_lineup && making.of.as_ref().is_some_and(|before| same_parts(before, &parts)) {
            return;
        }
        let fresh = catalog::merge(&sources, &lineup.config.rules());
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
        drop(sources);
        self.view.store(Arc::new(View { lineup, catalog: Arc::new(fresh) }));
        making.of = Some(parts);
        drop(making);
        self.rebuilt.send_modify(|count| *count += 1);
        if change == Change::default() {
            return;
        }
        self.changes.send_modify(|counts| *counts = counts.plus(change));
        self.tell_persons(change);
        let methods = change.methods();
        for session in self.sessions.all() {
            for method in &methods {
                session.tell(build::notification(*method, None));
            }
        }
    }
}

/// What a lineup's upstreams offer now.
pub(super) fn sources_of(lineup: &Lineup) -> Vec<catalog::Source<'_>> {
    let sources = lineup.shown().map(|Shown { upstream, config, expose, hide }| catalog::Source {
        name: upstream.name(),
        prefix: &config.prefix,
        expose,
        hide,
        offer: upstream.offer(),
        listed: lineup.config.when_down == WhenDown::Keep || upstream.status().borrow().state.serves(),
    });
    sources.collect()
}

pub(super) fn parts_of(sources: &[catalog::Source<'_>]) -> Vec<Part> {
    sources.iter().map(|source| (source.offer.clone(), source.listed)).collect()
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
