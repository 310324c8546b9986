//! Notes what happens to upstreams and lists, for those who ask later.

use std::{collections::HashMap, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    events::{EventKind, Events, News},
    finding::Severity,
    gateway::{Change, Gateway},
    names::UpstreamName,
    upstream::{State, Status, Upstream},
};

/// Follows the gateway until it is gone. Cancel-safe.
pub async fn record(gateway: Arc<Gateway>, events: Events) {
    let lists = gateway.list_changes();
    let mut rebuilds = gateway.rebuilds();
    let mut before = *lists.borrow();
    let mut tools: HashMap<UpstreamName, usize> = HashMap::new();
    let mut states: FuturesUnordered<BoxFuture<'static, Option<Followed>>> = FuturesUnordered::new();
    let mut known: Vec<Arc<Upstream>> = Vec::new();
    loop {
        // A reload may have brought others.
        let upstreams = gateway.upstreams();
        for upstream in upstreams.iter() {
            if !known.iter().any(|other| Arc::ptr_eq(other, upstream)) {
                known.push(Arc::clone(upstream));
                let followed = Followed { name: upstream.name().clone(), changes: upstream.status(), said: None };
                states.push(followed.next().boxed());
            }
        }
        known.retain(|upstream| upstreams.iter().any(|other| Arc::ptr_eq(other, upstream)));
        tokio::select! {
            Some(changed) = states.next(), if !states.is_empty() => {
                let Some(followed) = changed else { continue };
                if let Some(status) = &followed.said {
                    events.note(state_changed(&followed.name, status));
                }
                states.push(followed.next().boxed());
            }
            changed = rebuilds.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *lists.borrow();
                if let Some(words) = which(before, now) {
                    events.note(News {
                        kind: EventKind::ListChanged,
                        severity: Severity::Info,
                        upstream: None, listener: None,
                        reason: None,
                        detail: format!("the list of {words} changed{}", counted(&gateway, &mut tools)),
                    });
                }
                before = now;
            }
        }
    }
}

/// One upstream's states, of which the last one that was noted is remembered.
struct Followed {
    name: UpstreamName,
    changes: watch::Receiver<Status>,
    said: Option<Status>,
}

impl Followed {
    /// The next state that says something else than the one before; `None` when the upstream is gone.
    async fn next(mut self) -> Option<Self> {
        loop {
            let status = self.changes.borrow_and_update().clone();
            let is_news = self.said.as_ref().map_or(status.state != State::Starting, |said| said.state != status.state);
            if is_news {
                self.said = Some(status);
                return Some(self);
            }
            self.changes.changed().await.ok()?;
        }
    }
}

fn state_changed(name: &UpstreamName, status: &Status) -> News {
    let explanation = status.state.explanation();
    let severity = match &status.state {
        State::Starting | State::Waiting(_) | State::Up => Severity::Info,
        State::Degraded(_) | State::Suspect(_) => Severity::Warning,
        State::Down(_) => Severity::Error,
    };
    let detail = match explanation {
        Some(why) => format!("{}: {}", status.state.word(), why.detail),
        None => status.state.word().to_owned(),
    };
    News {
        kind: EventKind::StateChanged,
        severity,
        upstream: Some(name.to_string()),
        listener: None,
        reason: explanation.map(|why| why.reason),
        detail,
    }
}

/// `tools`, `tools and prompts`, `tools, prompts and resources`; `None` without a change.
fn which(before: Change, now: Change) -> Option<String> {
    let kinds = [
        (before.tools != now.tools, "tools"),
        (before.prompts != now.prompts, "prompts"),
        (before.resources != now.resources, "resources"),
    ];
    let changed: Vec<_> = kinds.into_iter().filter_map(|(changed, word)| changed.then_some(word)).collect();
    match &changed[..] {
        [] => None,
        [first @ .., last] if !first.is_empty() => Some(format!("{} and {last}", first.join(", "))),
        all => Some(all.concat()),
    }
}

/// How many tools each upstream has now, where that is different: `: crm 12 → 3`.
fn counted(gateway: &Gateway, before: &mut HashMap<UpstreamName, usize>) -> String {
    let mut words = Vec::new();
    let upstreams = gateway.upstreams();
    for upstream in upstreams.iter() {
        let Some(now) = upstream.offer().map(|offer| offer.tools.len()) else { continue };
        let was = before.insert(upstream.name().clone(), now).unwrap_or_default();
        if was != now {
            words.push(format!("{} {was} → {now} tools", upstream.name()));
        }
    }
    before.retain(|name, _| upstreams.iter().any(|upstream| upstream.name() == name));
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_the_lists_that_it_concerns() {
        let change = |tools, prompts, resources| Change { tools, prompts, resources };
        assert_eq!(which(change(1, 1, 1), change(2, 1, 2)).as_deref(), Some("tools and resources"));
        assert_eq!(which(change(1, 1, 1), change(2, 2, 2)).as_deref(), Some("tools, prompts and resources"));
        assert_eq!(which(change(1, 1, 1), change(1, 2, 1)).as_deref(), Some("prompts"));
        assert_eq!(which(change(1, 1, 1), change(1, 1, 1)), None);
    }
}
