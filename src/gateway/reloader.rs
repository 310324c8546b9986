//! Reads the configuration again: when somebody says so, and when a file of its templates changes.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::sleep};

use super::{Changes, Gateway, McpConfig};
use crate::{
    clock::Clock,
    events::{EventKind, News},
    finding::Severity,
    problem::{self, Problem},
    reason::Reason,
    sources::{Fingerprint, Sources},
    upstream::{Files, Reloads},
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
    /// Every problem; nothing is accepted then.
    fn read(&self, what: Reread) -> Result<McpConfig, Vec<Problem>>;

    /// The files that its templates name, as they were at the last reading.
    fn template_files(&self) -> Fingerprint;
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
pub struct Reloader {
    gateway: Arc<Gateway>,
    configuration: Arc<dyn Configuration>,
    clock: Arc<dyn Clock>,
    files: Files,
    turn: Mutex<()>,
    reloads: Reloads,
}

impl Reloader {
    pub fn new(gateway: Arc<Gateway>, configuration: Arc<dyn Configuration>, clock: Arc<dyn Clock>, sources: Arc<dyn Sources>) -> Self {
        let files = Files::new(sources, gateway.watcher());
        files.all_were(configuration.template_files());
        Self { gateway, configuration, clock, files, turn: Mutex::default(), reloads: Reloads::default() }
    }

    /// Reads the file again and takes what is different.
    ///
    /// Cancel-safe: a reload that nobody waits for any more is done to its end.
    ///
    /// # Errors
    /// [`Rejected`]: nothing has changed. It was logged and noted already.
    pub async fn reload(self: &Arc<Self>) -> Result<Changes, Rejected> {
        let reloader = Arc::clone(self);
        let work = async move {
            tokio::select! {
                taken = reloader.take(Reread::File) => taken,
                () = reloader.gateway.shutdown.cancelled() => Err(Rejected { problems: vec![broken_off()] }),
            }
        };
        self.gateway.tasks.spawn(work).await.unwrap_or_else(|_| Err(Rejected { problems: vec![broken_off()] }))
    }

    /// How often the configuration was reloaded.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Follows the files of templates, such as tokens. Never ends.
    pub async fn watch(&self) {
        loop {
            self.files.changed().await;
            while self.take(Reread::Templates).await.is_err() {
                tokio::select! {
                    () = sleep(RETRY) => {}
                    () = self.files.changed() => {}
                }
            }
        }
    }

    async fn take(&self, what: Reread) -> Result<Changes, Rejected> {
        let _turn = self.turn.lock().await;
        let configuration = Arc::clone(&self.configuration);
        // Beside the runtime: it reads files.
        let read = tokio::task::spawn_blocking(move || configuration.read(what)).await;
        let read = read.unwrap_or_else(|_| Err(vec![broken_off()]));
        self.files.all_were(self.configuration.template_files());
        match read {
            Ok(config) => {
                let changes = self.gateway.reload(config);
                self.reloads.succeeded(self.clock.now());
                let detail = words(&changes);
                tracing::info!(added = ?changes.added, changed = ?changes.changed, removed = ?changes.removed, unchanged = changes.unchanged, "the configuration was reloaded");
                self.note(EventKind::Reloaded, Severity::Info, None, detail);
                Ok(changes)
            }
            Err(problems) => {
                self.reloads.rejected();
                let rejected = Rejected { problems };
                tracing::warn!(problems = in_words(&rejected.problems), "the new configuration was rejected; nothing has changed");
                self.note(EventKind::ReloadRejected, Severity::Error, Some(Reason::ReloadRejected), rejected.to_string());
                Err(rejected)
            }
        }
    }

    fn note(&self, kind: EventKind, severity: Severity, reason: Option<Reason>, detail: String) {
        self.gateway.events().note(News { kind, severity, upstream: None, reason, detail });
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

fn words(changes: &Changes) -> String {
    let parts = changes.words();
    match parts.is_empty() {
        true => "the configuration was reloaded; no upstream is different".to_owned(),
        false => format!("the configuration was reloaded: {}", parts.join("; ")),
    }
}
