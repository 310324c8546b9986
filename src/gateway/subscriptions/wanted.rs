//! What a legacy client subscribed to, remembered for as long as its session lives.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::{MAX_URI, MAX_URIS, covers};
use crate::names::UpstreamName;

/// The resources that one session follows, by the upstream that was asked.
///
/// By the upstream's name: another server may take its place in a reload, and is asked for the same.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Wanted(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    uris: BTreeMap<UpstreamName, BTreeSet<Box<str>>>,
    /// The upstreams whose sessions somebody watches over.
    attended: BTreeSet<UpstreamName>,
}

impl Wanted {
    pub(super) fn add(&self, upstream: &UpstreamName, uri: &str) {
        self.0.lock().uris.entry(upstream.clone()).or_default().insert(uri.into());
    }

    pub(in crate::gateway) fn remove(&self, upstream: &UpstreamName, uri: &str) {
        let mut kept = self.0.lock();
        if let Some(uris) = kept.uris.get_mut(upstream) {
            uris.remove(uri);
            if uris.is_empty() {
                kept.uris.remove(upstream);
            }
        }
    }

    /// Takes all of these in, each with the upstream that was asked.
    pub(in crate::gateway) fn take(&self, kept: &[(String, String)]) {
        for (upstream, uri) in kept {
            match UpstreamName::parse(upstream) {
                Ok(upstream) if self.count() < MAX_URIS && uri.len() <= MAX_URI => self.add(&upstream, uri),
                _ => {}
            }
        }
    }

    /// All that is followed, each with the upstream that was asked.
    pub(in crate::gateway) fn all(&self) -> Vec<(String, String)> {
        let kept = self.0.lock();
        let each = kept.uris.iter().flat_map(|(upstream, uris)| uris.iter().map(move |uri| (upstream.to_string(), uri.to_string())));
        each.collect()
    }

    /// Nothing is followed there any more.
    pub(in crate::gateway) fn remove_all(&self, upstream: &UpstreamName) {
        self.0.lock().uris.remove(upstream);
    }

    /// All that is followed at one upstream.
    pub(super) fn of(&self, upstream: &UpstreamName) -> BTreeSet<Box<str>> {
        self.0.lock().uris.get(upstream).cloned().unwrap_or_default()
    }

    /// The upstream at which this very URI is followed.
    pub(super) fn owner(&self, uri: &str) -> Option<UpstreamName> {
        self.0.lock().uris.iter().find(|(_, uris)| uris.contains(uri)).map(|(upstream, _)| upstream.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().uris.values().map(BTreeSet::len).sum()
    }

    /// Whether an update of this URI is for this client.
    pub(in crate::gateway) fn wants(&self, upstream: &UpstreamName, updated: &str) -> bool {
        self.0.lock().uris.get(upstream).is_some_and(|uris| uris.iter().any(|uri| covers(uri, updated)))
    }

    /// `false` when somebody watches over it already.
    pub(super) fn attend(&self, upstream: &UpstreamName) -> bool {
        self.0.lock().attended.insert(upstream.clone())
    }

    /// Ends the watch if nothing is followed there any more; `false` when it goes on.
    pub(super) fn unattend_idle(&self, upstream: &UpstreamName) -> bool {
        let mut kept = self.0.lock();
        let idle = !kept.uris.contains_key(upstream);
        if idle {
            kept.attended.remove(upstream);
        }
        idle
    }
}
