//! How an upstream's generations follow one another, and how it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Generation, Session, Upstream, UpstreamConfig};
use crate::meter::Reloads;

/// Replaced generations that go on at a time; with the running one they are three.
const MAX_DRAINING: usize = 2;
/// An upstream that does not answer the end of a session is left alone after this.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for a process to be gone; asking, SIGTERM and SIGKILL take about half of it.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How generations are replaced; a reload may change it.
#[derive(Debug)]
pub struct RotationRules {
    /// Milliseconds.
    drain: AtomicU64,
    tries: AtomicBool,
}

impl RotationRules {
    pub fn new(drain: Duration, tries: bool) -> Self {
        let rules = Self { drain: AtomicU64::new(0), tries: AtomicBool::new(tries) };
        rules.set(drain, tries);
        rules
    }

    /// `drain`: longest time that calls go on in a generation that was replaced. `tries`: a new identity or CA set is tried
    /// before it takes over.
    pub fn set(&self, drain: Duration, tries: bool) {
        self.drain.store(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.tries.store(tries, Ordering::Relaxed);
    }

    fn drain(&self) -> Duration {
        Duration::from_millis(self.drain.load(Ordering::Relaxed))
    }
}

impl Upstream {
    /// Another configuration for the same server; it is followed as changed files are.
    pub(crate) fn configure(&self, config: UpstreamConfig) {
        self.config.store(Arc::new(config));
        self.reconfigured.notify_one();
    }

    /// Another configuration that concerns only how it is shown.
    pub(crate) fn configure_quietly(&self, config: UpstreamConfig) {
        self.config.store(Arc::new(config));
    }

    /// It is not in the configuration any more: calls in it end, and then everything else of it.
    pub(crate) fn dismiss(&self) {
        self.dismissed.cancel();
    }

    pub(crate) async fn dismissed(&self) {
        self.dismissed.cancelled().await;
    }

    /// Whether it is not in the configuration any more: what has not begun in it belongs elsewhere.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.is_cancelled()
    }

    /// Waits until its calls are answered, at most `mcp.upstream_drain`, and cuts off what is left. Those in generations that
    /// were replaced before have what is left of their own time.
    pub(crate) async fn run_out(&self) {
        let latest = self.latest.lock().clone();
        latest.drain(self.rules.drain()).await;
        while !self.draining.lock().is_empty() {
            self.drained.notified().await;
        }
    }

    /// How often its files were taken anew.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Whether a new identity or CA set is tried before it takes over.
    pub(crate) fn tries_before_swap(&self) -> bool {
        self.rules.tries.load(Ordering::Relaxed)
    }

    /// Ends all sessions, at shutdown: all at once. Processes are waited for until they are gone, which the grace of their
    /// shutdown bounds.
    pub(crate) async fn close_all(&self) {
        self.ended.cancel();
        let generation = self.running.swap(None);
        let mut sessions = self.sessions.take_all();
        // Other replicas go on with these.
        sessions.retain(|session| !session.is_shared());
        sessions.extend(generation.as_ref().and_then(|generation| generation.own_session.clone()));
        let close = |session: Arc<Session>| {
            let generation = generation.clone();
            async move {
                match generation {
                    Some(generation) => drop(timeout(CLOSE_LIMIT, generation.close(&session)).await),
                    None => session.stop(),
                }
                session.stop();
            }
        };
        join_all(sessions.into_iter().map(close)).await;
        self.tasks.close();
        self.tasks.wait().await;
        // Those that were only starting have no session yet; they end because nobody waits for them any more.
        self.alive.close();
        let _ = timeout(END_LIMIT, self.alive.wait()).await;
    }

    /// Lets the calls in a generation that was replaced end, and cuts off what is left after `mcp.upstream_drain`. The
    /// session that it has for itself ends too, unless `current` has the same.
    pub(crate) fn retire(self: &Arc<Self>, old: Arc<Generation>, current: &Generation) {
        let life = old.life.clone();
        {
            let mut draining = self.draining.lock();
            draining.push_back(life.clone());
            if draining.len() > MAX_DRAINING
                && let Some(oldest) = draining.pop_front()
            {
                oldest.end();
            }
        }
        let own = old.own_session.clone().filter(|own| !current.is_own(own));
        let upstream = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(session) = own.as_ref().filter(|session| !session.is_process()) {
                drop(timeout(CLOSE_LIMIT, old.close(session)).await);
            }
            drop(old);
            let limit = upstream.rules.drain();
            tokio::select! {
                () = life.drain(limit) => {}
                () = upstream.ended.cancelled() => life.end(),
            }
            if let Some(session) = own {
                session.stop();
            }
            upstream.draining.lock().retain(|other| !other.is(&life));
            upstream.drained.notify_one();
        });
    }

    /// Waits until one more generation may be replaced without cutting off another's calls.
    pub(crate) async fn room_to_drain(&self) {
        while self.draining.lock().len() >= MAX_DRAINING {
            self.drained.notified().await;
        }
    }
}
