//! Keeps the index of `search` beside the catalog: made on a thread of its own, never waited for by a call.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

use super::Gateway;
use crate::catalog::search::SearchIndex;

/// Longest wait for the very first index: many tools take seconds.
const FIRST_INDEX: Duration = Duration::from_secs(20);

/// The index of now, and who waits for it.
#[derive(Debug)]
pub(super) struct Finder {
    index: ArcSwapOption<SearchIndex>,
    /// Which making of the catalog the index is of.
    made: watch::Sender<u64>,
    /// Somebody has searched where the tools are all listed; until then no index is made there.
    wanted: OnceLock<()>,
    asked: Notify,
    /// A search takes a processor for itself.
    places: Semaphore,
}

impl Finder {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            index: ArcSwapOption::empty(),
            made: watch::Sender::new(0),
            wanted: OnceLock::new(),
            asked: Notify::new(),
            places: Semaphore::new(processors),
        }
    }

    /// The index, even an older one; there is none without a catalog. Right after the start, until `settles`, one is waited
    /// for that knows at least the making `wanted`.
    pub(super) async fn index(&self, settles: Instant, wanted: u64) -> Option<Arc<SearchIndex>> {
        self.wanted.get_or_init(|| self.asked.notify_one());
        let until = if self.index.load().is_none() { settles.max(Instant::now() + FIRST_INDEX) } else { settles };
        let mut made = self.made.subscribe();
        // Whatever is there by then answers.
        let _ = timeout_at(until, made.wait_for(|made| *made >= wanted)).await;
        self.index.load_full()
    }

    /// Runs a search where it is in nobody's way. `None`: it panicked, which was logged.
    pub(super) async fn run<T: Send + 'static>(&self, search: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _place = self.places.acquire().await.ok()?;
        spawn_blocking(search).await.inspect_err(|error| tracing::error!(%error, "a search ended unexpectedly")).ok()
    }
}

impl Gateway {
    /// Makes an index of each new catalog. Of several that come during one making, only the last is read; and as much time
    /// as a making took goes by before the next.
    pub(super) async fn keep_index(self: Arc<Self>) {
        let mut rebuilds = self.rebuilds();
        loop {
            tokio::select! {
                changed = rebuilds.changed() => if changed.is_err() { return },
                () = self.finder.asked.notified() => {}
                () = self.shutdown.cancelled() => return,
            }
            if !self.config().tools.lists_own() && self.finder.wanted.get().is_none() {
                continue;
            }
            let making = *rebuilds.borrow_and_update();
            let catalog = self.catalog();
            let began = Instant::now();
            let built = tokio::select! {
                built = spawn_blocking(|| SearchIndex::build(catalog)) => built,
                () = self.shutdown.cancelled() => return,
            };
            match built {
                Ok(Ok(index)) => self.finder.index.store(Some(Arc::new(index))),
                Ok(Err(error)) => tracing::error!(%error, "the tools cannot be searched as they are now; the index before goes on"),
                Err(error) => tracing::error!(%error, "the making of the search index ended unexpectedly; the one before goes on"),
            }
            self.finder.made.send_replace(making);
            tokio::select! {
                () = sleep(began.elapsed()) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }
}
