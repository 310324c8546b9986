//! The files of a listener's TLS: followed while it serves, and served with anew when they are others and all are good.
//!
//! ```text
//! a file changes ─▶ Renewal::follow ─▶ prepare (read, check) ─▶ Prepared::serve (swap)
//! nexus.toml is read again ────────▶ prepare, of every listener ─▶ serve, once all is good
//! ```

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use super::{ListenerTls, Swapped};
use crate::{
    clock::Clock,
    events::{EventKind, Events, News},
    finding::Severity,
    meter::Reloads,
    problem::{self, Problem},
    reason::Reason,
    sources::{Files, Fingerprint, Noted, Sources, Watcher},
    tls::{ServerTls, ServerTlsSettings},
};

/// What was rejected is tried again after this, also without a change: a certificate may not have been valid yet.
const RETRY: Duration = Duration::from_secs(60);
/// Certificate, key and password do not arrive at one instant; only after this is it said that they do not fit.
const TORN: Duration = Duration::from_secs(5);

/// What a [`Renewal`] needs.
#[derive(Clone, Debug)]
pub struct RenewalParts {
    pub sources: Arc<dyn Sources>,
    pub watcher: Watcher,
    pub clock: Arc<dyn Clock>,
    pub events: Events,
}

/// Renews what one listener serves with.
#[derive(Debug)]
pub struct Renewal {
    /// The table that the listener's TLS has in the file, such as `server.tls`.
    table: &'static str,
    tls: Arc<ListenerTls>,
    parts: RenewalParts,
    files: Files,
    /// The files of what is served; absent until they were read here. Held from the reading of files to the swap, so that
    /// an older reading never takes the place of a newer one.
    served: Mutex<Option<Fingerprint>>,
    /// What was said of the files last; absent when they were good.
    rejected: Mutex<Option<String>>,
    reloads: Arc<Reloads>,
}

/// Files that were read and found good, and are not served with yet. Until this is dropped, no other reading begins.
#[derive(Debug)]
pub struct Prepared<'a> {
    renewal: &'a Renewal,
    served: MutexGuard<'a, Option<Fingerprint>>,
    settings: ServerTlsSettings,
    /// Absent: nothing is other than what is served.
    tls: Option<ServerTls>,
    read: Fingerprint,
}

/// Files that are not good, as they were.
struct Bad {
    problem: Box<Problem>,
    read: Fingerprint,
}

impl Renewal {
    pub fn new(table: &'static str, tls: Arc<ListenerTls>, parts: RenewalParts) -> Self {
        let files = Files::new(Arc::clone(&parts.sources), &parts.watcher);
        Self { table, tls, parts, files, served: Mutex::default(), rejected: Mutex::default(), reloads: Arc::default() }
    }

    /// The table that the listener's TLS has in the file.
    pub fn table(&self) -> &'static str {
        self.table
    }

    /// Whether the settings in use differ from these in nothing but their place in the file.
    pub fn is_set_up_like(&self, settings: &ServerTlsSettings) -> bool {
        self.tls.settings().demands_the_same_as(settings)
    }

    /// What clients call the listener from now on. That its certificate is for other names is told.
    pub fn now_called(&self, host: Option<&str>) {
        if let Some(problem) = self.tls.now_called(host) {
            tell(&problem);
        }
    }

    /// How often something else was served with than before.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// Reads and checks the files of `settings`, which may be others than those in use. Blocks on files, and while another
    /// reading is under way.
    ///
    /// # Errors
    /// The first file that cannot be used. Nothing has changed, and nothing was told.
    pub fn prepare(&self, settings: &ServerTlsSettings) -> Result<Prepared<'_>, Box<Problem>> {
        self.read(self.served.lock(), settings.clone()).map_err(|bad| bad.problem)
    }

    /// Follows the files of the settings in use. What is wrong with them is told, and what was served goes on. Never ends;
    /// cancel-safe: a reading that has begun ends by itself.
    pub async fn follow(self: Arc<Self>) {
        // Also where nothing has changed: what was read at the start is not known here.
        let mut patience = Some(Instant::now() + TORN);
        loop {
            let again = match self.renew().await {
                Ok(()) => {
                    patience = None;
                    None
                }
                Err(problem) => match patience {
                    Some(until) if Instant::now() < until => {
                        tracing::debug!(listener = self.table, key = problem.key, "its files are not good yet: {}", problem.what);
                        Some(until)
                    }
                    _ => {
                        patience = None;
                        self.reject(&problem);
                        Some(Instant::now() + RETRY)
                    }
                },
            };
            tokio::select! {
                () = self.files.changed() => {
                    patience.get_or_insert_with(|| Instant::now() + TORN);
                }
                () = at(again) => {}
            }
        }
    }

    /// Reads the files of the settings in use beside the runtime, and serves with them.
    async fn renew(self: &Arc<Self>) -> Result<(), Box<Problem>> {
        let this = Arc::clone(self);
        let renewed = tokio::task::spawn_blocking(move || {
            let served = this.served.lock();
            match this.read(served, this.tls.settings()) {
                Ok(prepared) => {
                    prepared.serve();
                    Ok(())
                }
                Err(Bad { problem, read }) => {
                    this.files.some_were(read);
                    Err(problem)
                }
            }
        });
        renewed.await.unwrap_or_else(|_| Err(Box::new(broken_off(self.table))))
    }

    fn read<'a>(&'a self, served: MutexGuard<'a, Option<Fingerprint>>, settings: ServerTlsSettings) -> Result<Prepared<'a>, Bad> {
        let sources = &*self.parts.sources;
        if self.is_set_up_like(&settings)
            && let Some(known) = &*served
            && Fingerprint::of(known.paths(), sources) == *known
        {
            // Not even looked at: an end that has come since is for the watch to tell, and no reason to refuse the rest.
            let read = known.clone();
            return Ok(Prepared { renewal: self, served, settings, tls: None, read });
        }
        let noted = Noted::new(sources);
        match self.tls.prepare(&settings, &noted, self.parts.clock.now()) {
            Ok(tls) => Ok(Prepared { renewal: self, served, settings, tls: Some(tls), read: noted.fingerprint() }),
            Err(problem) => Err(Bad { problem, read: noted.fingerprint() }),
        }
    }

    /// Every failed attempt counts; what is wrong is told once.
    fn reject(&self, problem: &Problem) {
        self.reloads.rejected();
        let words = format!("{}: {}", problem.key, problem.what);
        if self.rejected.lock().replace(words.clone()).as_ref() == Some(&words) {
            return;
        }
        tracing::warn!(
            listener = self.table,
            key = problem.key,
            fix = problem.remedy,
            "new files were rejected, and what was served before goes on: {}",
            problem.what
        );
        let detail = format!("the files of [{}] are not good, and what was served before goes on: {words}", self.table);
        self.note(EventKind::ReloadRejected, Severity::Error, Some(Reason::ReloadRejected), detail);
    }

    fn note(&self, kind: EventKind, severity: Severity, reason: Option<Reason>, detail: String) {
        self.parts.events.note(News { kind, severity, upstream: None, listener: Some(self.table), reason, detail });
    }
}

impl Prepared<'_> {
    /// Serves with it, and says in words what is different now; `None`: nothing.
    pub fn serve(self) -> Option<String> {
        let Self { renewal, mut served, settings, tls, read } = self;
        let swapped = match tls {
            Some(tls) => renewal.tls.swap(&settings, tls),
            None => {
                renewal.tls.found_elsewhere(&settings);
                Swapped::Unchanged
            }
        };
        renewal.files.all_were(read.clone());
        *served = Some(read);
        let was_bad = renewal.rejected.lock().take().is_some();
        match swapped {
            Swapped::Changed(warnings) => {
                renewal.reloads.succeeded(renewal.parts.clock.now());
                Some(renewal.tell_change(&warnings))
            }
            Swapped::Unchanged => {
                if was_bad {
                    let detail = format!("the files of [{}] are again those that are served", renewal.table);
                    tracing::info!("{detail}");
                    renewal.note(EventKind::Reloaded, Severity::Info, None, detail);
                }
                None
            }
        }
    }
}

impl Renewal {
    fn tell_change(&self, warnings: &[Problem]) -> String {
        warnings.iter().for_each(tell);
        let current = self.tls.current();
        let leaf = current.chain().first();
        let (subject, serial) = (leaf.map(|leaf| leaf.subject.as_str()), leaf.map(|leaf| leaf.serial.as_str()));
        tracing::info!(listener = self.table, subject, serial, "its files changed; new connections are served with the new ones");
        let detail = format!("[{}] serves with new files: {}", self.table, current.words());
        self.note(EventKind::Reloaded, Severity::Info, None, detail.clone());
        detail
    }
}

fn tell(problem: &Problem) {
    tracing::warn!(key = problem.key, why = problem.why, fix = problem.remedy, "{}", problem.what);
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A bug of ours, not of the files.
fn broken_off(table: &str) -> Problem {
    Problem {
        severity: problem::Severity::Error,
        key: table.to_owned(),
        at: None,
        typed: None,
        what: "the reading of its files broke off".to_owned(),
        why: "nothing was taken over".to_owned(),
        remedy: "report this as a bug, with the log around it".to_owned(),
    }
}
