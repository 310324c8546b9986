//! The watch: looks at everything in turn, and says what came of it.

mod keeper;
mod notes;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::keeper::Keeper;
use super::{
    address::OwnAddress,
    board::{Board, WatchedList},
    claim::Claims,
    config::CertificatesConfig,
    deliver::{Desk, Office},
    judge::Judge,
    store::{Kept, Store},
};
use crate::{clock::Clock, events::Events, gateway::Gateway, outbound::probe::Prober, sources::Sources, tls::CertificateFacts};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(1);

/// What the watch needs of the rest.
pub struct WatchParts {
    pub gateway: Arc<Gateway>,
    /// `[certificates]`; another one takes effect at once.
    pub certificates: watch::Receiver<CertificatesConfig>,
    /// `[state] directory`.
    pub directory: Option<PathBuf>,
    /// Takes what happens, and tells of reloads.
    pub events: Events,
    /// Takes what is known.
    pub board: Board,
    pub prober: Prober,
    pub clock: Arc<dyn Clock>,
    pub sources: Arc<dyn Sources>,
    /// Its public URL is probed too when it is `https://`.
    pub address: OwnAddress,
    pub listeners: Vec<OwnListener>,
}

/// A listener of ours that speaks TLS.
#[derive(Clone)]
pub struct OwnListener {
    /// `server` or `admin`.
    pub name: &'static str,
    /// What it shows at the moment: asked again at every look, because files are swapped.
    pub tls: Arc<dyn Fn() -> OwnTls + Send + Sync>,
}

/// What a listener of ours shows, and whom it believes.
#[derive(Clone, Debug, Default)]
pub struct OwnTls {
    /// Leaf first.
    pub chain: Vec<CertificateFacts>,
    pub client_cas: Vec<CertificateFacts>,
    pub lists: Vec<WatchedList>,
    /// Where the chain was read from.
    pub file: Option<PathBuf>,
}

/// The running watch; ends with [`Watch::end`].
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Watch {
    /// Starts it in the background. Needs a tokio runtime. Reads what was kept in `[state] directory` before it returns.
    pub fn start(parts: WatchParts) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let store = parts.directory.clone().map(Store::new);
        let kept = store.as_ref().map(Store::load).unwrap_or_default();
        let changed = Arc::default();
        let Kept { memory, waiting, .. } = kept;
        let settings = parts.certificates.borrow().clone();
        let judge = Judge::new(settings.warn_before.clone(), settings.failures_before_down, memory);
        let office = Office {
            clock: Arc::clone(&parts.clock),
            sources: Arc::clone(&parts.sources),
            address: parts.address.clone(),
            claims: parts.gateway.store().map(|store| Claims::new(store.redis().clone(), store.replica())),
        };
        let mut desk = Desk::new(office, &changed, &tasks, &stop);
        desk.set_up(&settings.alerts, waiting);
        parts.board.now_telling(desk.counts());
        parts.board.now_told(judge.open());
        let tick = TICK.min(settings.probe_interval);
        let keeper = Keeper::new(parts, settings, judge, desk, store, changed);
        tasks.spawn(run(keeper, tick, stop.clone()));
        tasks.close();
        Self { stop, tasks }
    }

    /// Ends it; what was told, and what is still to be sent, is written first.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(mut keeper: Keeper, tick: Duration, stop: CancellationToken) {
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut events, mut settings) = (keeper.events(), keeper.settings());
    keeper.begin();
    loop {
        tokio::select! {
            _ = ticks.tick() => keeper.look_around().await,
            () = keeper.next_look() => {}
            Ok(()) = events.changed() => keeper.hear(),
            Ok(()) = settings.changed() => keeper.take_settings(),
            () = stop.cancelled() => break,
        }
    }
    keeper.save().await;
}
