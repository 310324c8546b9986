//! `/readyz`: whether clients should be sent here.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{gateway::Gateway, names::UpstreamName};

/// Becomes ready once, when every required upstream was up; then only the drain takes it back.
///
/// An upstream that goes down does not: every replica would leave the service at once, with the upstreams that are well.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    was_ready: AtomicBool,
}

/// What is said, and whether it means ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Yes,
    Draining,
    /// These required upstreams were not up yet.
    Waiting(Vec<String>),
}

impl Readiness {
    pub(super) fn of(&self, gateway: &Gateway) -> Ready {
        if gateway.drain_token().is_cancelled() {
            return Ready::Draining;
        }
        if self.was_ready.load(Ordering::Relaxed) {
            return Ready::Yes;
        }
        let (config, upstreams) = (gateway.config(), gateway.upstreams());
        let was_up = |name: &UpstreamName| {
            upstreams.iter().any(|upstream| upstream.name() == name && (upstream.was_up() || upstream.awaits_callers()))
        };
        let required = config.upstreams.iter().filter(|upstream| upstream.required);
        let awaited: Vec<_> = required.filter(|upstream| !was_up(&upstream.name)).map(|upstream| upstream.name.to_string()).collect();
        if !awaited.is_empty() {
            return Ready::Waiting(awaited);
        }
        self.was_ready.store(true, Ordering::Relaxed);
        Ready::Yes
    }
}
