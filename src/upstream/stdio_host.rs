//! Starts the child processes of one stdio upstream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    StdioConfig, Upstream,
    generation::Notices,
    transport::{channel::Channel, process, stdio::ChildSpec},
};
use crate::{
    auth::PrincipalKey,
    names::UpstreamName,
    reason::{Explanation, Reason},
    sources::Sources,
};

/// A process that is ending needs about this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every process of this upstream has in common.
#[derive(Debug)]
pub(crate) struct StdioHost {
    name: UpstreamName,
    config: StdioConfig,
    max_line: usize,
    sources: Arc<dyn Sources>,
    notices: Notices,
    permits: Arc<Semaphore>,
    alive: TaskTracker,
    started: AtomicUsize,
}

impl StdioHost {
    pub(crate) fn new(upstream: &Upstream, config: StdioConfig, notices: Notices) -> Self {
        Self {
            name: upstream.name().clone(),
            config,
            max_line: upstream.bounds.max_line,
            sources: Arc::clone(&upstream.sources),
            notices,
            permits: Arc::clone(&upstream.processes),
            alive: upstream.alive.clone(),
            started: AtomicUsize::new(0),
        }
    }

    pub(crate) fn startup_timeout(&self) -> Duration {
        self.config.startup_timeout
    }

    pub(crate) fn config(&self) -> &StdioConfig {
        &self.config
    }

    /// Starts the gateway's own process. There is one at a time, and for a moment two when it is replaced.
    ///
    /// # Errors
    /// `spawn_failed`
    pub(crate) async fn start_own(&self) -> Result<Arc<Channel>, Explanation> {
        self.start_with(PrincipalKey::Local, None).await
    }

    /// Starts a process for a client's session, as soon as one of those that are ending is gone if there are too many.
    ///
    /// # Errors
    /// `spawn_failed`, also when there are too many.
    pub(crate) async fn start(&self, principal: PrincipalKey) -> Result<Arc<Channel>, Explanation> {
        let permit = timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(|| self.too_many())?;
        self.start_with(principal, Some(permit)).await
    }

    async fn start_with(&self, principal: PrincipalKey, permit: Option<OwnedSemaphorePermit>) -> Result<Arc<Channel>, Explanation> {
        let spec =
            ChildSpec { name: &self.name, config: &self.config, max_line: self.max_line, sources: &*self.sources, alive: &self.alive };
        let process = process::start(spec, principal, self.notices.clone(), permit).await?;
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
