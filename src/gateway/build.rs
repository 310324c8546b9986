//! The running gateway: its upstreams, its catalog, its sessions, and the tasks that keep them.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    McpConfig,
    ears::Ears,
    finder::Finder,
    headcount::Headcount,
    legacy::{LegacySession, Sessions},
    links::Links,
    listen::Change,
    parked::Parking,
    personal::Persons,
    rebuild::Making,
    replicas::Replicas,
    subscriptions::Hubs,
    tally::Tally,
    task_ids::TaskIds,
    view::{Lineup, View},
};
use crate::{
    audit::Trail,
    auth::{Caller, PrincipalKey},
    catalog::Catalog,
    clock::Clock,
    events::Events,
    limits::{self, Limiter},
    mcp::Era,
    sources::{Sources, Watcher},
    upstream::{Generation, Notice, RotationRules, Surroundings, Upstream, UpstreamId, supervise},
};

const EXPIRY_CHECK: Duration = Duration::from_secs(30);
const NOTICES: usize = 1024;

/// One gateway. Cheap to share; ends with [`Gateway::shut_down`].
#[derive(Debug)]
pub struct Gateway {
    pub(super) view: ArcSwap<View>,
    pub(super) sessions: Sessions,
    /// How many of them each has.
    pub(super) headcount: Headcount,
    /// Those who have upstreams of their own.
    pub(super) persons: Persons,
    /// Who listens.
    pub(super) ears: Arc<Ears>,
    /// Present where other replicas serve the same sessions.
    pub(super) replicas: Option<Arc<Replicas>>,
    /// Upstream sessions that modern clients listen to.
    pub(super) hubs: Hubs,
    pub(super) task_ids: Arc<TaskIds>,
    /// What every upstream is given.
    pub(super) surroundings: Surroundings,
    /// Counts the changes of each list; `subscriptions/listen` streams follow it.
    pub(super) changes: watch::Sender<Change>,
    /// One making of the catalog at a time, and none without a change.
    pub(super) making: Mutex<Making>,
    /// Counts the makings of the catalog.
    pub(super) rebuilt: watch::Sender<u64>,
    started: Instant,
    pub(super) tally: Arc<Tally>,
    pub(super) audit: Arc<Trail>,
    pub(super) limiter: Limiter,
    /// The index of `search`.
    pub(super) finder: Finder,
    /// Which upstream gave whom which URI.
    pub(super) links: Links,
    /// Calls that wait for what their server asked.
    pub(super) parking: Arc<Parking>,
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
            events: Events::new(Arc::clone(clock)),
            watcher: Watcher::default(),
            rules: Arc::new(RotationRules::new(config.upstream_drain, config.probe_before_swap)),
        };
        let upstreams: Arc<[_]> =
            config.upstreams.iter().map(|upstream| Arc::new(Upstream::new(upstream.clone(), surroundings.clone()))).collect();
        let parking = Arc::new(Parking::new(&config.state_secrets));
        let task_ids = Arc::new(TaskIds::new(&config.state_secrets));
        let Surroundings { clock, sources, watcher, .. } = surroundings.clone();
        let audit = Arc::new(Trail::new(Arc::clone(&clock)));
        let around = limits::Surroundings { clock, sources, watcher };
        let replicas = Replicas::start(&config, &around);
        let limiter = Limiter::new(config.limits.clone(), around);
        let lineup = Arc::new(Lineup::new(Arc::new(config), upstreams));
        let gateway = Arc::new(Self {
            sessions: Sessions::default(),
            headcount: Headcount::default(),
            persons: Persons::new(),
            ears: Arc::default(),
            replicas,
            hubs: Hubs::default(),
            task_ids,
            surroundings,
            view: ArcSwap::from_pointee(View::new(Arc::clone(&lineup), Arc::default(), Arc::default())),
            changes: watch::Sender::new(Change::default()),
            making: Mutex::new(Making::new(lineup)),
            rebuilt: watch::Sender::new(0),
            started: Instant::now(),
            tally: Arc::new(Tally::new()),
            audit,
            limiter,
            finder: Finder::new(),
            links: Links::default(),
            parking,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            shutdown: CancellationToken::new(),
        });
        // Lists are lists from the beginning.
        gateway.rebuild();
        for upstream in gateway.upstreams().iter() {
            gateway.tasks.spawn(supervise(Arc::clone(upstream), gateway.shutdown.clone()));
        }
        gateway.tasks.spawn(Arc::clone(&gateway).keep(changed, inbox));
        gateway.tasks.spawn(Arc::clone(&gateway).keep_index());
        gateway.keep_replicas();
        gateway
    }

    /// What the gateway runs with now; a reload replaces it.
    pub fn config(&self) -> Arc<McpConfig> {
        Arc::clone(&self.view.load().lineup.config)
    }

    /// The audit trail, off until somebody begins it.
    pub fn audit(&self) -> &Arc<Trail> {
        &self.audit
    }

    /// Those of now, in file order; a reload replaces the whole list.
    pub fn upstreams(&self) -> Arc<[Arc<Upstream>]> {
        Arc::clone(&self.view.load().lineup.upstreams)
    }

    /// The same as a principal reaches them: some may be its own.
    pub fn upstreams_of(&self, principal: &PrincipalKey) -> Arc<[Arc<Upstream>]> {
        Arc::clone(&self.view_of(principal).lineup.upstreams)
    }

    /// Whether some upstream takes its callers' own tokens, so that a bearer of one is somebody.
    pub fn takes_callers_tokens(&self) -> bool {
        self.view.load().lineup.takes_callers_tokens
    }

    /// Of a request's headers those that some upstream gets; `None` where none gets any. Of a header that is said twice, and so
    /// may mean two things, none.
    pub fn forwarded(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let view = self.view.load();
        if view.lineup.forwarded.is_empty() {
            return None;
        }
        let mut said = HeaderMap::new();
        for name in view.lineup.forwarded.iter() {
            let mut values = headers.get_all(name).iter();
            if let (Some(value), None) = (values.next(), values.next()) {
                said.insert(name.clone(), value.clone());
            }
        }
        Some(said)
    }

    /// The time that it goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.surroundings.clock
    }

    /// Where files are read.
    pub fn sources(&self) -> &Arc<dyn Sources> {
        &self.surroundings.sources
    }

    /// What happens in this gateway; whoever learns of something notes it here.
    pub fn events(&self) -> &Events {
        &self.surroundings.events
    }

    /// Watches files for everybody in this gateway.
    pub fn watcher(&self) -> &Watcher {
        &self.surroundings.watcher
    }

    /// The upstreams and the catalog of this moment: everything that there is.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// All requests so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How often who may ask.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.view.load().catalog)
    }

    /// Cancelled when the gateway begins to drain: streams without an end of their own end then.
    pub fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    /// A transparent gateway's client listens to its upstream itself, if that is a modern one with a stream for it.
    pub(super) fn relays_listen(self: &Arc<Self>, caller: &Caller) -> bool {
        let relays = |generation: Arc<Generation>| generation.era() == Era::Modern && !generation.is_stdio();
        let is_modern = |upstream: &Arc<Upstream>| upstream.generation().is_ok_and(relays);
        self.passes_task_ids(caller.principal()) && self.view_for(caller).upstreams().first().is_some_and(is_modern)
    }

    /// Whether every upstream was tried to the end once.
    pub fn all_tried(&self) -> bool {
        self.view.load().all_tried()
    }

    /// Follows the lists: changes to how often each of them has changed.
    pub fn list_changes(&self) -> watch::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Follows the catalog: changes each time it was made anew.
    pub fn rebuilds(&self) -> watch::Receiver<u64> {
        self.rebuilt.subscribe()
    }

    /// Until when, after the start, an answer may wait for upstreams that were not tried yet.
    pub(super) fn patience_ends(&self) -> Instant {
        self.started + self.view.load().lineup.config.list_wait
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
        for upstream in self.upstreams().iter() {
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
        self.limiter.shut_down().await;
        if let Some(replicas) = &self.replicas {
            replicas.store.shut_down().await;
        }
    }

    async fn keep(self: Arc<Self>, changed: Arc<Notify>, mut inbox: mpsc::Receiver<(UpstreamId, Notice)>) {
        let mut expiry = interval(EXPIRY_CHECK);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = changed.notified() => self.rebuild(),
                Some((upstream, notice)) = inbox.recv() => self.pass_on(upstream, &notice),
                _ = expiry.tick() => {
                    let (shared, own) = self.sessions.expire(self.config().session_idle_timeout).into_iter().partition(|old| old.is_shared());
                    let (shared, own): (Vec<_>, Vec<Arc<LegacySession>>) = (shared, own);
                    for session in own {
                        self.end_session(&session);
                    }
                    self.leave(shared);
                    self.sweep_persons();
                }
                () = self.shutdown.cancelled() => break,
            }
        }
        for session in self.sessions.all() {
            session.end.cancel();
        }
    }

    pub(super) fn end_session(&self, session: &LegacySession) {
        self.sessions.remove(session.id());
        self.headcount.leave(session);
        session.end.cancel();
        for upstream in self.view_of(&session.record.principal).upstreams() {
            upstream.close_owned(session.id());
        }
    }
}
