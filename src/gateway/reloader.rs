//! Reads the configuration again: when somebody says so, and when a file of its templates changes.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Changes, Gateway, McpConfig};
use crate::{
    clock::Clock,
    events::{EventKind, News},
    finding::Severity,
    meter::Reloads,
    problem::{self, Problem},
    reason::Reason,
    sources::{Files, Fingerprint, Sources},
};

/// What was rejected because of a template's file is tried again after this.
const RETRY: Duration = Duration::from_secs(60);

/// What is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// The configuration file and everything it names.
    File,
    /// The files of its templates, with the text that was accepted last: an edit that nobody asked for is not taken.
    Templates,
}

/// Where the configuration comes from.
pub trait Configuration: Send + Sync + fmt::Debug {
    /// Reads and checks it. What is given is accepted, and is what the next [`Reread::Templates`] begins with.
    ///
    /// # Errors
    /// Every problem; nothing is accepted then, and nothing has changed.
    fn read(&self, what: Reread) -> Result<Accepted, Vec<Problem>>;

    /// The files that its templates name, as they were at the last reading.
    fn template_files(&self) -> Fingerprint;
}

/// A configuration without a problem.
#[derive(Debug)]
pub struct Accepted {
    /// What the gateway is to take.
    pub mcp: McpConfig,
    /// What was taken beside it, one sentence each.
    pub beside: Vec<String>,
}

/// A reload was rejected, and nothing has changed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the new configuration was rejected: {}", in_words(.problems))]
pub struct Rejected {
    pub problems: Vec<Problem>,
}

fn in_words(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect::<Vec<_>>().join("; ")
}

/// Reloads one gateway; one reload at a time.
#[derive(Debug)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Gateway>,
    configuration: Arc<dyn Configuration>,
    clock: Arc<dyn Clock>,
    files: Files,
    turn: Mutex<()>,
    reloads: Arc<Reloads>,
}

impl Reloader {
    pub fn new(gateway: Arc<Gateway>, configuration: Arc<dyn Configuration>, clock: Arc<dyn Clock>, sources: Arc<dyn Sources>) -> Self {
        let files = Files::new(sources, gateway.watcher());
        files.all_were(configuration.template_files());
        Self(Arc::new(Inner { gateway, configuration, clock, files, turn: Mutex::default(), reloads: Arc::default() }))
    }

    /// Reads the file again and takes what is different.
    ///
    /// # Errors
    /// [`Rejected`]: nothing has changed. It was logged and noted already.
    pub async fn reload(&self) -> Result<Changes, Rejected> {
        self.take(Reread::File).await
    }

    /// The gateway that it reloads.
    pub fn gateway(&self) -> &Gateway {
        &self.0.gateway
    }

    /// How often the configuration was reloaded.
    pub fn reloads(&self) -> &Arc<Reloads> {
        &self.0.reloads
    }

    /// Follows the files of templates, such as tokens. Never ends.
    pub async fn watch(&self) {
        loop {
            self.0.files.changed().await;
            while self.take(Reread::Templates).await.is_err() {
                tokio::select! {
                    () = sleep(RETRY) => {}
                    () = self.0.files.changed() => {}
                }
            }
        }
    }

    /// In one piece, beside the runtime: it reads files, and whoever asked for it may be gone before it is over.
    async fn take(&self, what: Reread) -> Result<Changes, Rejected> {
        let inner = Arc::clone(&self.0);
        let taken = tokio::task::spawn_blocking(move || inner.take(what)).await;
        taken.unwrap_or_else(|_| Err(self.0.reject(vec![broken_off()])))
    }
}

impl Inner {
    fn take(self: &Arc<Self>, what: Reread) -> Result<Changes, Rejected> {
        let _turn = self.turn.lock();
        let read = self.configuration.read(what);
        self.files.all_were(self.configuration.template_files());
        match read {
            Ok(Accepted { mcp, beside }) => {
                let changes = Changes { beside, ..self.gateway.reload(mcp) };
                self.reloads.succeeded(self.clock.now());
                let detail = changes.summary();
                tracing::info!(added = ?changes.added, changed = ?changes.changed, removed = ?changes.removed, unchanged = changes.unchanged, beside = ?changes.beside, "the configuration was reloaded");
                self.note(EventKind::Reloaded, Severity::Info, None, detail);
                Ok(changes)
            }
            Err(problems) => Err(self.reject(problems)),
        }
    }

    fn reject(&self, problems: Vec<Problem>) -> Rejected {
        self.reloads.rejected();
        let rejected = Rejected { problems };
        tracing::warn!(problems = in_words(&rejected.problems), "the new configuration was rejected; nothing has changed");
        self.note(EventKind::ReloadRejected, Severity::Error, Some(Reason::ReloadRejected), rejected.to_string());
        rejected
    }

    fn note(&self, kind: EventKind, severity: Severity, reason: Option<Reason>, detail: String) {
        self.gateway.events().note(News { kind, severity, upstream: None, listener: None, reason, detail });
    }
}

/// A bug of ours, not of the file.
fn broken_off() -> Problem {
    Problem {
        severity: problem::Severity::Error,
        key: "nexus.toml".to_owned(),
        at: None,
        typed: None,
        what: "the reading of the configuration broke off".to_owned(),
        why: "nothing was taken over".to_owned(),
        remedy: "report this as a bug, with the log around it".to_owned(),
    }
}
