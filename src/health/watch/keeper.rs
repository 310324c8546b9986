//! What the watch holds between two looks: when what is due, what was seen last, and what is to be told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use super::{OwnTls, WatchParts, notes};
use crate::{
    events::EventKind,
    health::{
        CertificatesConfig,
        alert::Alert,
        board::{Checkup, Role, WatchedCertificate, WatchedList},
        definitions::Definitions,
        deliver::Desk,
        jitter::{jittered, part_of},
        judge::Judge,
        look::{self, Seen},
        store::{Kept, Store},
        streak::Standing,
    },
    mcp::offer::Offer,
    outbound::{Way, probe::ProbeTarget, system_cas},
    tls::{Position, Report, TlsSettings},
    upstream::Upstream,
};

/// Most upstreams that are looked at together.
const AT_ONCE: usize = 16;

/// The first looks are spread over so long.
const FIRST: Duration = Duration::from_secs(2);

/// An upstream that was not tried to the end yet is looked at a little later.
const NOT_YET: Duration = Duration::from_secs(1);

const PUBLIC: &str = "public";

pub(super) struct Keeper {
    parts: WatchParts,
    settings: CertificatesConfig,
    judge: Judge,
    desk: Desk,
    store: Option<Store>,
    /// Something is to be written.
    changed: Arc<AtomicBool>,
    /// What is looked at next, and when: upstreams by name, and what is ours.
    due: BTreeMap<String, Instant>,
    looks: JoinSet<Look>,
    looking: BTreeSet<String>,
    at_once: Arc<Semaphore>,
    /// What each upstream's server showed last, and what we have for it.
    server: BTreeMap<String, Vec<WatchedCertificate>>,
    own: BTreeMap<String, Vec<WatchedCertificate>>,
    lists: BTreeMap<String, Vec<WatchedList>>,
    /// The offers whose tools were looked at.
    offers: BTreeMap<String, Arc<Offer>>,
    own_due: Instant,
    heard: u64,
    /// Said once, until it works again.
    cannot_save: bool,
}

enum Look {
    Upstream(Arc<Upstream>, Box<Seen>),
    Tools(String, Definitions),
    Public(Arc<Report>),
}

impl Keeper {
    pub(super) fn new(
        parts: WatchParts,
        settings: CertificatesConfig,
        judge: Judge,
        desk: Desk,
        store: Option<Store>,
        changed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            parts,
            settings,
            judge,
            desk,
            store,
            changed,
            due: BTreeMap::new(),
            looks: JoinSet::new(),
            looking: BTreeSet::new(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            server: BTreeMap::new(),
            own: BTreeMap::new(),
            lists: BTreeMap::new(),
            offers: BTreeMap::new(),
            own_due: Instant::now(),
            heard: 0,
            cannot_save: false,
        }
    }

    /// Before the first look.
    pub(super) fn begin(&mut self) {
        let over = self.judge.started(self.parts.clock.now());
        self.tell(over);
        // What was told before the restart may be about what is not in the file any more.
        let upstreams: Vec<_> = self.parts.gateway.upstreams().iter().map(Arc::clone).collect();
        self.forget(&upstreams);
    }

    pub(super) fn events(&self) -> watch::Receiver<u64> {
        let mut events = self.parts.events.follow();
        // What happened before the start is heard too.
        events.mark_changed();
        events
    }

    /// Tells of the settings to come.
    pub(super) fn settings(&self) -> watch::Receiver<CertificatesConfig> {
        self.parts.certificates.clone()
    }

    /// Goes on with other settings, if there are any: what was told and what is still to be sent stays. Everything is looked
    /// at soon.
    pub(super) fn take_settings(&mut self) {
        if !self.parts.certificates.has_changed().unwrap_or_default() {
            return;
        }
        let settings = self.parts.certificates.borrow_and_update().clone();
        self.judge.set_up(settings.warn_before.clone(), settings.failures_before_down);
        self.desk.set_up(&settings.alerts, BTreeMap::new());
        self.parts.board.now_telling(self.desk.counts());
        let now = Instant::now();
        self.own_due = now;
        for due in self.due.values_mut() {
            *due = (*due).min(now + part_of(FIRST.min(settings.probe_interval)));
        }
        self.settings = settings;
    }

    /// Begins what is due.
    pub(super) async fn look_around(&mut self) {
        let upstreams: Vec<Arc<Upstream>> = self.parts.gateway.upstreams().iter().map(Arc::clone).collect();
        self.forget_all_but(&upstreams);
        let now = Instant::now();
        for upstream in &upstreams {
            let name = upstream.name().as_str();
            self.look_at_tools(upstream);
            let due = *self.due.entry(name.to_owned()).or_insert_with(|| now + part_of(FIRST.min(self.settings.probe_interval)));
            if due > now || self.looking.contains(name) {
                continue;
            }
            if !look::is_ready(upstream) {
                self.due.insert(name.to_owned(), now + NOT_YET.min(self.settings.probe_interval));
                continue;
            }
            self.due.insert(name.to_owned(), now + jittered(self.settings.probe_interval));
            self.looking.insert(name.to_owned());
            self.look_at(upstream);
        }
        if self.own_due <= now {
            self.own_due = now + jittered(self.settings.probe_interval);
            self.look_at_own();
        }
        // Both are asked: neither is to be written twice.
        let (judged, sent) = (self.judge.take_dirty(), self.changed.swap(false, Ordering::Relaxed));
        if judged || sent {
            self.save().await;
        }
    }

    fn look_at(&mut self, upstream: &Arc<Upstream>) {
        let (upstream, at_once) = (Arc::clone(upstream), Arc::clone(&self.at_once));
        let prober = self.parts.prober.clone();
        self.looks.spawn(async move {
            let _permit = at_once.acquire_owned().await.expect("the semaphore is never closed");
            let seen = look::look_at(&upstream, &prober).await;
            Look::Upstream(upstream, Box::new(seen))
        });
    }

    fn look_at_tools(&mut self, upstream: &Upstream) {
        let Some(offer) = upstream.offer() else { return };
        let name = upstream.name().as_str();
        if self.offers.get(name).is_some_and(|known| Arc::ptr_eq(known, &offer)) {
            return;
        }
        self.offers.insert(name.to_owned(), Arc::clone(&offer));
        let name = name.to_owned();
        // Hashing some megabytes takes a while.
        self.looks.spawn_blocking(move || Look::Tools(name, Definitions::of(&offer.tools)));
    }

    /// Waits for a look to end and takes what it showed. Cancel-safe.
    pub(super) async fn next_look(&mut self) {
        match self.looks.join_next().await {
            Some(Ok(Look::Upstream(upstream, seen))) => self.take(&upstream, *seen),
            Some(Ok(Look::Tools(name, definitions))) => {
                let told = self.judge.offered(&name, &definitions, self.parts.clock.now());
                self.tell(told);
            }
            Some(Ok(Look::Public(report))) => self.take_public(&report),
            Some(Err(error)) => tracing::error!(%error, "a look at something that is watched broke off"),
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, upstream: &Arc<Upstream>, seen: Seen) {
        let now = self.parts.clock.now();
        let name = upstream.name().as_str();
        self.looking.remove(name);
        let (standing, mut told) = self.judge.checked(name, seen.report.as_deref(), &seen.server, seen.failure.as_ref(), now);
        let scope = format!("server:{name}");
        if !seen.server.is_empty() {
            told.extend(self.judge.shown(&scope, &seen.server, now));
            self.parts.board.now_showing(&scope, seen.server.clone());
            self.server.insert(name.to_owned(), seen.server);
        }
        let scope = format!("own:{name}");
        if let Some(own) = seen.own {
            self.parts.board.now_showing(&scope, own.clone());
            self.own.insert(name.to_owned(), own);
            self.parts.board.now_revoking(&scope, seen.lists.clone());
            self.lists.insert(name.to_owned(), seen.lists);
        }
        // Time goes on for what is in use, even while its files cannot be read. What they hold is not known before they could
        // be read once, so that nothing that was told before a restart is over.
        if let Some(lists) = self.lists.get(name) {
            told.extend(self.judge.lists(&format!("crl:{name}"), lists, now));
        }
        if let Some(own) = self.own.get(name) {
            told.extend(self.judge.held(&scope, own, now));
        }
        let own = self.own.get(name).map(Vec::as_slice).unwrap_or_default();
        let server = self.server.get(name).map(Vec::as_slice).unwrap_or_default();
        let all: Vec<_> = server.iter().chain(own).cloned().collect();
        upstream.now_expiring(self.judge.concern(&all, now).as_ref());
        upstream.now_suspect(seen.failure.as_ref());
        if standing == Standing::Down && self.judge.failures(name).is_multiple_of(self.settings.failures_before_down.get()) {
            upstream.given_up();
        }
        if standing == Standing::Well || seen.reachable {
            upstream.found_well();
        }
        self.note_checkup(name, standing, seen.failure, seen.report);
        self.tell(told);
    }

    fn note_checkup(&self, name: &str, standing: Standing, failure: Option<crate::reason::Explanation>, report: Option<Arc<Report>>) {
        let before = self.parts.board.checkup(name);
        let (mut passed, mut failed) = before.map(|before| (before.passed, before.failed.clone())).unwrap_or_default();
        match &failure {
            None => passed += 1,
            Some(why) => *failed.entry(why.reason.code()).or_default() += 1,
        }
        let checkup = Checkup { at: self.parts.clock.now(), standing, failure, passed, failed, report };
        self.parts.board.now_checked(name, checkup);
    }

    /// The listeners' certificates, and what is served at `public_url`.
    fn look_at_own(&mut self) {
        let now = self.parts.clock.now();
        let mut told = Vec::new();
        for listener in &self.parts.listeners {
            let OwnTls { chain, client_cas, lists, file } = (listener.tls)();
            let scope = format!("listener:{}", listener.name);
            let mut watched = look::chain(Role::Listener, None, chain, file.as_deref());
            let cas = client_cas.into_iter().map(|facts| WatchedCertificate {
                role: Role::Anchor,
                upstream: None,
                position: Position::Root,
                facts,
                decides: true,
                file: None,
            });
            told.extend(self.judge.shown(&scope, &watched, now));
            watched.extend(cas);
            told.extend(self.judge.held(&scope, &watched, now));
            told.extend(self.judge.lists(&format!("lists:{}", listener.name), &lists, now));
            self.parts.board.now_showing(&scope, watched);
            self.parts.board.now_revoking(&scope, lists);
        }
        self.tell(told);
        let Some(url) = self.parts.address.public_url().filter(|url| url.scheme() == "https") else { return };
        if self.looking.contains(PUBLIC) {
            return;
        }
        let host = url.host_str().unwrap_or_default();
        // Whom its clients trust is not known here; the dates and names count.
        let loaded = TlsSettings::default().load(host, &*self.parts.sources, &system_cas, now);
        match loaded.and_then(|policy| Ok((policy, ProbeTarget::new(&url, Way::default())?))) {
            Ok((policy, target)) => {
                self.looking.insert(PUBLIC.to_owned());
                let prober = self.parts.prober.clone();
                self.looks.spawn(async move { Look::Public(prober.try_out(&target, &policy).await) });
            }
            Err(why) => tracing::debug!(%why, "public_url cannot be probed"),
        }
    }

    fn take_public(&mut self, report: &Report) {
        self.looking.remove(PUBLIC);
        let now = self.parts.clock.now();
        let shown = look::shown_by(report, Role::Public, None);
        let told = self.judge.public(report, &shown, now);
        if !shown.is_empty() {
            self.parts.board.now_showing(PUBLIC, shown);
        }
        self.tell(told);
    }

    /// Takes the reloads that were noted meanwhile.
    pub(super) fn hear(&mut self) {
        // What happened after a reload is told to its channels.
        self.take_settings();
        let news = self.parts.events.since(self.heard);
        self.heard = news.last().map_or(self.heard, |event| event.id);
        for event in news {
            let upstream = event.news.upstream.as_deref();
            let rejection = match event.news.kind {
                EventKind::ReloadRejected => Some(event.news.detail.as_str()),
                EventKind::Reloaded => None,
                _ => continue,
            };
            let part = event.news.listener.map(|table| format!("[{table}]")).unwrap_or_default();
            let told = self.judge.reloaded(upstream, &part, rejection, self.parts.clock.now());
            self.tell(told);
        }
    }

    fn tell(&mut self, told: impl IntoIterator<Item = Alert>) {
        let mut any = false;
        for alert in told {
            any = true;
            notes::log(&alert);
            self.parts.events.note(notes::news(&alert));
            self.desk.tell(&alert);
        }
        if any {
            self.parts.board.now_told(self.judge.open());
        }
    }

    fn forget_all_but(&mut self, upstreams: &[Arc<Upstream>]) {
        let names: BTreeSet<&str> = upstreams.iter().map(|upstream| upstream.name().as_str()).collect();
        if self.due.len() != names.len() || self.due.keys().any(|name| !names.contains(name.as_str())) {
            self.forget(upstreams);
        }
    }

    fn forget(&mut self, upstreams: &[Arc<Upstream>]) {
        let names: BTreeSet<&str> = upstreams.iter().map(|upstream| upstream.name().as_str()).collect();
        let upstream = |name: &str| names.contains(name);
        // `server:NAME` and the like; what is ours stays.
        let scope = |scope: &str| match scope.split_once(':') {
            Some(("listener" | "lists", listener)) => self.parts.listeners.iter().any(|own| own.name == listener),
            // No upstream's name begins like this.
            Some(("rejected", part)) if part.is_empty() || part.starts_with('[') => true,
            Some((_, name)) => names.contains(name),
            // What is served at `public_url`.
            None => self.parts.address.public_url().is_some(),
        };
        let told = self.judge.keep(upstream, scope, self.parts.clock.now());
        self.parts.board.keep(upstream, scope);
        for name in self.due.keys().filter(|name| !upstream(name)) {
            if let Ok(name) = crate::names::UpstreamName::parse(name) {
                self.parts.prober.forget(&name);
            }
        }
        self.due.retain(|name, _| upstream(name));
        self.server.retain(|name, _| upstream(name));
        self.own.retain(|name, _| upstream(name));
        self.lists.retain(|name, _| upstream(name));
        self.offers.retain(|name, _| upstream(name));
        self.tell(told);
    }

    /// Writes what must survive a restart, if there is a place for it.
    pub(super) async fn save(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let kept = Kept::new(self.judge.memory().clone(), self.desk.waiting());
        let saved = tokio::task::spawn_blocking(move || store.save(&kept)).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match saved {
            Ok(()) => self.cannot_save = false,
            Err(error) => {
                if !std::mem::replace(&mut self.cannot_save, true) {
                    let directory = self.store.as_ref().map(|store| store.directory().display().to_string()).unwrap_or_default();
                    tracing::warn!(directory, %error, "what was told cannot be written to state.directory; after a restart it is told again");
                }
                self.changed.store(true, Ordering::Relaxed);
            }
        }
    }
}
