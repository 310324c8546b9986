//! Starts the child processes of one stdio upstream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    StdioConfig,
    generation::Notices,
    transport::{process::Process, stdio::ChildSpec},
};
use crate::{
    auth::PrincipalKey,
    names::UpstreamName,
    reason::{Explanation, Reason},
    sources::Sources,
};

/// What every process of this upstream has in common.
#[derive(Debug)]
pub(crate) struct StdioHost {
    name: UpstreamName,
    config: StdioConfig,
    max_line: usize,
    sources: Arc<dyn Sources>,
    notices: Notices,
    started: AtomicUsize,
}

impl StdioHost {
    pub(crate) fn new(name: UpstreamName, config: StdioConfig, max_line: usize, sources: Arc<dyn Sources>, notices: Notices) -> Self {
        Self { name, config, max_line, sources, notices, started: AtomicUsize::new(0) }
    }

    pub(crate) fn startup_timeout(&self) -> Duration {
        self.config.startup_timeout
    }

    pub(crate) fn config(&self) -> &StdioConfig {
        &self.config
    }

    /// # Errors
    /// `spawn_failed`
    pub(crate) async fn start(&self, principal: PrincipalKey) -> Result<Arc<Process>, Explanation> {
        let spec = ChildSpec { name: &self.name, config: &self.config, max_line: self.max_line, sources: &*self.sources };
        let process = Process::start(spec, principal, self.notices.clone()).await?;
        let count = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(upstream = %self.name, count, "process started");
        Ok(process)
    }

    /// The refusal when more processes are wanted than allowed.
    pub(crate) fn too_many(&self) -> Explanation {
        Explanation::new(
            Reason::SpawnFailed,
            format!("{} processes are running, which is max_processes", self.config.max_processes),
            "raise max_processes, lower idle_timeout, or share processes with isolation = \"shared\"",
        )
    }
}
