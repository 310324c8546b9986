//! The files that something was made from, and when they are others.

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Fingerprint, Following, Sources, Watcher};

/// Looked at this often also where nothing is told: a network file system tells nothing.
const POLL: Duration = Duration::from_secs(30);
/// Whoever replaces a certificate and its key does not do it at one instant.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Files that differ after this are still being written.
const REREAD: Duration = Duration::from_millis(200);

/// What one part of the gateway has read.
#[derive(Debug)]
pub struct Files {
    sources: Arc<dyn Sources>,
    following: Arc<Following>,
    known: Mutex<Fingerprint>,
}

impl Files {
    pub fn new(sources: Arc<dyn Sources>, watcher: &Watcher) -> Self {
        Self { sources, following: Arc::new(watcher.follow()), known: Mutex::default() }
    }

    /// Everything was read, and this is what it was.
    pub fn all_were(&self, read: Fingerprint) {
        *self.known.lock() = read;
    }

    /// The reading ended early: the others are as they were last.
    pub fn some_were(&self, read: Fingerprint) {
        self.known.lock().extend(read);
    }

    /// Waits until the files differ from what was read, and do not change any more for the moment. Cancel-safe.
    pub async fn changed(&self) {
        loop {
            let known = self.known.lock().clone();
            let now = self.look(&known).await;
            if now != known && self.at_rest(now).await != known {
                return;
            }
            tokio::select! {
                () = self.following.touched() => sleep(DEBOUNCE).await,
                () = sleep(POLL) => {}
            }
        }
    }

    /// Reads until two readings agree.
    async fn at_rest(&self, mut before: Fingerprint) -> Fingerprint {
        loop {
            sleep(REREAD).await;
            let now = self.look(&before).await;
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Reads the same files again, beside the runtime: a network file system can take its time. A link may lead elsewhere
    /// by now, so they are followed anew.
    async fn look(&self, like: &Fingerprint) -> Fingerprint {
        let paths: Vec<PathBuf> = like.paths().map(ToOwned::to_owned).collect();
        if paths.is_empty() {
            return Fingerprint::default();
        }
        let (sources, following) = (Arc::clone(&self.sources), Arc::clone(&self.following));
        let look = move || {
            let paths = || paths.iter().map(PathBuf::as_path);
            following.set(paths());
            Fingerprint::of(paths(), &*sources)
        };
        // A reading that broke off says nothing.
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| like.clone())
    }
}
