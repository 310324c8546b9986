//! Another configuration for a running gateway: what is the same goes on untouched.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Gateway, McpConfig, view::Lineup};
use crate::upstream::{Difference, Surroundings, Upstream, UpstreamConfig, supervise};

/// Longest wait for an upstream's successor to be tried; then it takes over as it is.
const HAND_OVER: Duration = Duration::from_secs(60);

/// What a reload did, by the upstreams' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// They keep everything: connections, sessions, catalog.
    pub unchanged: usize,
    /// What else was taken, one sentence each.
    pub beside: Vec<String>,
}

impl Changes {
    /// `added a, b`, `changed c`, `removed d` and what else was taken: those that there are.
    pub fn words(&self) -> Vec<String> {
        let named = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
        let all = [named("added", &self.added), named("changed", &self.changed), named("removed", &self.removed)];
        all.into_iter().flatten().chain(self.beside.iter().cloned()).collect()
    }

    /// The same as one sentence.
    pub fn summary(&self) -> String {
        let parts = self.words();
        match parts.is_empty() {
            true => "the configuration was reloaded; nothing is different".to_owned(),
            false => format!("the configuration was reloaded: {}", parts.join("; ")),
        }
    }
}

/// An upstream that is being tried and will take another's place.
#[derive(Debug)]
pub(super) struct Successor {
    of: Arc<Upstream>,
    next: Arc<Upstream>,
}

impl Gateway {
    /// Takes another configuration. Calls in flight, clients' sessions and unchanged upstreams go on; the catalog follows at
    /// once, and clients hear of what is different.
    ///
    /// An upstream that is reached in another way is brought up beside the old one, which serves until the new one was
    /// tried; another certificate, credential or time-out for the same server is followed as changed files are.
    pub fn reload(self: &Arc<Self>, config: McpConfig) -> Changes {
        let mut changes = Changes::default();
        let mut retired = Vec::new();
        {
            let mut making = self.making.lock();
            let before = Arc::clone(&making.lineup);
            let successors = std::mem::take(&mut making.successors);
            self.surroundings.rules.set(config.upstream_drain, config.probe_before_swap);
            let surroundings = Surroundings { bounds: config.bounds, ..self.surroundings.clone() };
            let mut place = |wanted: &UpstreamConfig| {
                let name = wanted.name.to_string();
                let Some(running) = before.upstreams.iter().find(|running| *running.name() == wanted.name) else {
                    changes.added.push(name);
                    return (self.bring(wanted.clone(), &surroundings), None);
                };
                let awaited = successors.iter().find(|successor| successor.of.id() == running.id());
                let latest = awaited.map_or(running, |successor| &successor.next);
                let difference = if latest.bounds == config.bounds { latest.config().difference(wanted) } else { Difference::Replacement };
                match difference {
                    Difference::None => changes.unchanged += 1,
                    Difference::Shown | Difference::Rotation | Difference::Replacement => changes.changed.push(name),
                }
                let next = match difference {
                    Difference::None | Difference::Shown => {
                        latest.configure_quietly(wanted.clone());
                        awaited.map(|successor| Arc::clone(&successor.next))
                    }
                    Difference::Rotation => {
                        latest.configure(wanted.clone());
                        awaited.map(|successor| Arc::clone(&successor.next))
                    }
                    Difference::Replacement => Some(self.bring(wanted.clone(), &surroundings)),
                };
                (Arc::clone(running), next)
            };
            let placed: Vec<_> = config.upstreams.iter().map(&mut place).collect();
            for (of, next) in &placed {
                if let Some(next) = next {
                    making.successors.push(Successor { of: Arc::clone(of), next: Arc::clone(next) });
                }
            }
            let is_kept = |upstream: &Arc<Upstream>| {
                placed.iter().any(|(of, next)| of.id() == upstream.id() || next.as_ref().is_some_and(|next| next.id() == upstream.id()))
            };
            retired.extend(before.upstreams.iter().filter(|upstream| !is_kept(upstream)).map(Arc::clone));
            changes.removed.extend(retired.iter().map(|upstream| upstream.name().to_string()));
            // A successor that never took over, and has itself been replaced.
            retired.extend(successors.into_iter().map(|successor| successor.next).filter(|next| !is_kept(next)));
            let limits = config.upstreams.iter().filter_map(|upstream| upstream.rate_limits.as_deref());
            self.limiter.reload(config.limits.clone(), limits);
            let upstreams = placed.into_iter().map(|(of, _)| of).collect();
            making.lineup = Arc::new(Lineup::new(Arc::new(config), upstreams));
            for Successor { of, next } in &making.successors {
                self.tasks.spawn(Arc::clone(self).hand_over(Arc::clone(of), Arc::clone(next)));
            }
        }
        self.rebuild();
        for upstream in retired {
            self.dismiss(&upstream);
        }
        changes
    }

    pub(super) fn bring(self: &Arc<Self>, config: UpstreamConfig, surroundings: &Surroundings) -> Arc<Upstream> {
        let upstream = Arc::new(Upstream::new(config, surroundings.clone()));
        self.tasks.spawn(supervise(Arc::clone(&upstream), self.shutdown.clone()));
        upstream
    }

    /// Puts `next` in the place of `of` once it was tried, unless another reload has decided otherwise.
    async fn hand_over(self: Arc<Self>, of: Arc<Upstream>, next: Arc<Upstream>) {
        let mut status = next.status();
        tokio::select! {
            tried = timeout(HAND_OVER, status.wait_for(|status| status.tried)) => drop(tried),
            () = self.shutdown.cancelled() => return,
        }
        {
            let mut making = self.making.lock();
            let is_this = |successor: &Successor| successor.of.id() == of.id() && successor.next.id() == next.id();
            let Some(at) = making.successors.iter().position(is_this) else { return };
            making.successors.swap_remove(at);
            let put = |upstream: &Arc<Upstream>| Arc::clone(if upstream.id() == of.id() { &next } else { upstream });
            let upstreams = making.lineup.upstreams.iter().map(put).collect();
            making.lineup = Arc::new(Lineup::new(Arc::clone(&making.lineup.config), upstreams));
        }
        self.rebuild();
        self.dismiss(&of);
    }

    /// Calls that have begun in it end; nothing new begins.
    pub(super) fn dismiss(&self, upstream: &Upstream) {
        for session in self.sessions.all() {
            session.keep_upstream_session(upstream.id(), None);
        }
        upstream.dismiss();
    }
}
