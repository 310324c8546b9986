//! The running gateway: its upstreams, its catalog, its sessions, and the tasks that keep them.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use globset::{Glob, GlobSet, GlobSetBuilder};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    McpConfig, WhenDown,
    legacy::{LegacySession, Sessions},
    listen::Change,
    tally::Tally,
};
use crate::{
    catalog::{self, Catalog},
    clock::Clock,
    mcp::{Era, build, list::ListKind, offer::Offer},
    reason::{Explanation, Reason},
    sources::Sources,
    upstream::{Concern, Notice, Surroundings, Upstream, supervise},
};

const EXPIRY_CHECK: Duration = Duration::from_secs(30);
const NOTICES: usize = 1024;

/// One gateway. Cheap to share; ends with [`Gateway::shut_down`].
#[derive(Debug)]
pub struct Gateway {
    pub(super) config: McpConfig,
    pub(super) upstreams: Box<[Arc<Upstream>]>,
    pub(super) globs: Box<[(GlobSet, GlobSet)]>,
    catalog: ArcSwap<Catalog>,
    pub(super) sessions: Sessions,
    /// Counts the changes of each list; `subscriptions/listen` streams follow it.
    pub(super) changes: watch::Sender<Change>,
    /// What the catalog was made of: one making at a time, and none without a change.
    made_of: Mutex<Option<Vec<Part>>>,
    /// Counts the makings of the catalog.
    rebuilt: watch::Sender<u64>,
    started: Instant,
    pub(super) tally: Arc<Tally>,
    pub(super) tasks: TaskTracker,
    /// Streams without an end of their own end now.
    pub(super) drain: CancellationToken,
    pub(super) shutdown: CancellationToken,
}

impl Gateway {
    /// Starts the upstreams in the background and returns at once. Needs a tokio runtime.
    pub fn start(config: McpConfig, clock: &Arc<dyn Clock>, sources: &Arc<dyn Sources>) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let (notices, inbox) = mpsc::channel(NOTICES);
        let surroundings = Surroundings {
            bounds: config.bounds,
            clock: Arc::clone(clock),
            sources: Arc::clone(sources),
            changed: Arc::clone(&changed),
            notices,
        };
        let upstreams: Box<[_]> = config
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, upstream)| Arc::new(Upstream::new(index, upstream.clone(), surroundings.clone())))
            .collect();
        let globs = config.upstreams.iter().map(|upstream| (glob_set(&upstream.expose), glob_set(&upstream.hide))).collect();
        let gateway = Arc::new(Self {
            sessions: Sessions::new(config.max_sessions),
            config,
            upstreams,
            globs,
            catalog: ArcSwap::from_pointee(Catalog::default()),
            changes: watch::Sender::new(Change::default()),
            made_of: Mutex::default(),
            rebuilt: watch::Sender::new(0),
            started: Instant::now(),
            tally: Arc::new(Tally::new()),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            shutdown: CancellationToken::new(),
        });
        for upstream in &gateway.upstreams {
            gateway.tasks.spawn(supervise(Arc::clone(upstream), gateway.shutdown.clone()));
        }
        gateway.tasks.spawn(Arc::clone(&gateway).keep(changed, inbox));
        gateway
    }

    pub fn config(&self) -> &McpConfig {
        &self.config
    }

    pub fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// All requests so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Cancelled when the gateway begins to drain: streams without an end of their own end then.
    pub fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    /// With a single upstream that passes its names through, everything it says is relayed as it is.
    pub(super) fn is_transparent(&self) -> bool {
        matches!(&self.config.upstreams[..], [only] if only.prefix.is_empty())
    }

    /// A transparent gateway's client listens to its upstream itself, if that is a modern one.
    pub(super) fn relays_listen(&self) -> bool {
        let is_modern = |upstream: &Arc<Upstream>| upstream.generation().is_ok_and(|generation| generation.era() == Era::Modern);
        self.is_transparent() && self.upstreams.first().is_some_and(is_modern)
    }

    /// Whether every upstream was tried to the end once.
    pub fn all_tried(&self) -> bool {
        self.upstreams.iter().all(|upstream| upstream.status().borrow().tried)
    }

    /// Follows the lists: changes to how often each of them has changed.
    pub fn list_changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Follows the catalog: changes each time it was made anew.
    pub(super) fn rebuilds(&self) -> watch::Receiver<u64> {
        self.rebuilt.subscribe()
    }

    /// Until when, after the start, an answer may wait for upstreams that were not tried yet.
    pub(super) fn patience_ends(&self) -> Instant {
        self.started + self.config.list_wait
    }

    /// Waits until every upstream was tried, at most until `list_wait` after the start.
    pub async fn settled(&self) {
        if self.all_tried() {
            return;
        }
        let _ = timeout_at(self.patience_ends(), self.tried()).await;
    }

    /// Waits until every upstream was tried to the end once.
    pub async fn tried(&self) {
        for upstream in &self.upstreams {
            // Fails only when the upstream is gone, which it is not while we hold it.
            let _ = upstream.status().wait_for(|status| status.tried).await;
        }
        // The catalog follows in a task of its own.
        self.rebuild();
    }

    /// Ends the streams that have no end of their own; calls go on.
    pub fn begin_drain(&self) {
        self.drain.cancel();
    }

    /// Ends streams, sessions, upstream sessions and child processes, and waits for that.
    pub async fn shut_down(&self) {
        self.drain.cancel();
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn keep(self: Arc<Self>, changed: Arc<Notify>, mut inbox: mpsc::Receiver<(usize, Notice)>) {
        let mut expiry = interval(EXPIRY_CHECK);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = changed.notified() => self.rebuild(),
                Some((upstream, notice)) = inbox.recv() => self.pass_on(upstream, &notice),
                _ = expiry.tick() => {
                    for session in self.sessions.expire(self.config.session_idle_timeout) {
                        self.end_session(&session);
                    }
                }
                () = self.shutdown.cancelled() => break,
            }
        }
        for session in self.sessions.all() {
            session.end.cancel();
        }
    }

    /// A child's unasked message goes to the sessions of the principal that use this very process.
    fn pass_on(&self, upstream: usize, notice: &Notice) {
        for session in self.sessions.all() {
            let uses_it = || session.upstream_session(upstream).is_some_and(|up| up.is_of_process(notice.process));
            if session.record.principal == notice.principal && uses_it() {
                session.tell(notice.message.clone());
            }
        }
    }

    pub(super) fn end_session(&self, session: &LegacySession) {
        self.sessions.remove(session.id());
        session.end.cancel();
        for upstream in &self.upstreams {
            upstream.close_owned(session.id());
        }
    }

    /// Makes the catalog anew, and tells clients about each list that is different now.
    pub(super) fn rebuild(&self) {
        let mut made_of = self.made_of.lock();
        let sources: Vec<_> = self
            .upstreams
            .iter()
            .zip(&self.globs)
            .map(|(upstream, (expose, hide))| catalog::Source {
                name: upstream.name(),
                prefix: &upstream.config().prefix,
                expose,
                hide,
                offer: upstream.offer(),
                listed: self.config.when_down == WhenDown::Keep || upstream.status().borrow().state.serves(),
            })
            .collect();
        let parts: Vec<_> = sources.iter().map(|source| (source.offer.clone(), source.listed)).collect();
        if made_of.as_ref().is_some_and(|before| same_parts(before, &parts)) {
            return;
        }
        let fresh = catalog::merge(&sources, self.config.max_tool_name);
        let before = self.catalog.load_full();
        let differs = |kind| before.list(kind) != fresh.list(kind);
        let change = Change {
            tools: u64::from(differs(ListKind::Tools)),
            prompts: u64::from(differs(ListKind::Prompts)),
            resources: u64::from(differs(ListKind::Resources) || differs(ListKind::ResourceTemplates)),
        };
        for (upstream, name) in fresh.collisions().iter().filter(|collision| !before.collisions().contains(collision)) {
            let upstream = self.upstreams.get(*upstream).map(|upstream| upstream.name().as_str()).unwrap_or_default();
            tracing::warn!(
                upstream,
                name,
                reason = "name_collision",
                "another upstream has this name already; the first in the file keeps it"
            );
        }
        for upstream in &self.upstreams {
            upstream.concern(Concern::Collision, collision_of(upstream.index(), &fresh).as_ref());
        }
        self.catalog.store(Arc::new(fresh));
        *made_of = Some(parts);
        drop(made_of);
        self.rebuilt.send_modify(|count| *count += 1);
        if change == Change::default() {
            return;
        }
        self.changes.send_modify(|counts| *counts = counts.plus(change));
        let methods = change.methods();
        for session in self.sessions.all() {
            for method in &methods {
                session.tell(build::notification(*method, None));
            }
        }
    }
}

/// One upstream's offer, and whether it is listed.
type Part = (Option<Arc<Offer>>, bool);

fn same_parts(before: &[Part], now: &[Part]) -> bool {
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

fn glob_set(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // The configuration was checked; a pattern that fails all the same matches nothing.
        if let Ok(glob) = Glob::new(pattern) {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}
