//! One child process that speaks newline-delimited JSON-RPC on its stdin and stdout
//! (MCP 2026-07-28 and 2025-11-25, basic/transports: stdio).
//!
//! This is lines only: which caller a line belongs to is decided above.
//!
//! - `process`: what the child inherits, how it is spawned, waited for and killed.
//! - `stdin`, `stdout`, `stderr`: the three pipes, each with its bounds.
//! - `exit`: how a process ended, in words.

mod exit;
mod framer;
mod process;
mod stderr;
mod stdin;
mod stdout;

use std::time::Duration;

use rustix::process::Signal;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::task::TaskTracker;

pub use self::{
    exit::{Exit, ExitReport, Persuasion},
    stdin::{Outbound, SendError},
    stdout::{Inbound, Line},
};
use self::{process::Process, stderr::Tail};
use crate::{names::UpstreamName, reason::Explanation, sources::Sources, upstream::StdioConfig};

/// How long a killed process may take to vanish before we stop watching it; only a process stuck in the kernel takes longer.
const REAP_WAIT: Duration = Duration::from_secs(2);

/// What is needed to start one child.
#[derive(Clone, Copy, Debug)]
pub struct ChildSpec<'a> {
    pub name: &'a UpstreamName,
    pub config: &'a StdioConfig,
    /// Longest line accepted from the child's stdout, in bytes without the newline.
    pub max_line: usize,
    /// Where the inherited part of the child's environment comes from.
    pub sources: &'a dyn Sources,
    /// Counts the child from before its start until it is reaped, also when nobody waits for its start any more.
    pub alive: &'a TaskTracker,
}

/// The owner of a child process. Dropping it kills the child's whole process group at once.
#[derive(Debug)]
pub struct Child {
    process: Process,
    outbound: Outbound,
    stdin: stdin::Writer,
    stderr: Option<AbortHandle>,
}

impl Child {
    /// Starts the process; does not wait for any message of it.
    ///
    /// The child gets a process group of its own, a cleared environment and no descriptor but 0, 1 and 2; no shell is involved.
    /// Cancel-safe: a process that was started for a dropped call is killed.
    ///
    /// # Errors
    /// `spawn_failed` when the program is not found or not executable, the folder is missing, or the system has no room.
    pub async fn spawn(spec: ChildSpec<'_>) -> Result<(Self, Inbound), Explanation> {
        let started = process::spawn(&spec).await?;
        let tail = Tail::default();
        let stderr = started.stderr.map(|pipe| stderr::follow(pipe, spec.name.clone(), tail.clone()));
        let (outbound, stdin) = stdin::open(started.stdin, spec.name.clone());
        let (drained, stderr) = stderr.map_or((None, None), |(drained, task)| (Some(drained), Some(task)));
        let inbound = Inbound::new(started.stdout, spec.max_line, started.process.watch(), tail, drained);
        Ok((Self { process: started.process, outbound, stdin, stderr }, inbound))
    }

    /// A handle to write messages with; clones share one bounded queue.
    pub fn sender(&self) -> Outbound {
        self.outbound.clone()
    }

    /// The process id, which is also the id of its process group.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Ends the process as MCP asks (basic/lifecycle, "Shutdown", stdio): closes stdin, waits up to `grace`, sends SIGTERM to the
    /// process group, waits up to `grace` again, and kills the group. What the child leaves behind in its group is killed in any case.
    ///
    /// Takes at most twice `grace` and a little. Cancel-safe: dropped half-way, the group is killed at once.
    pub async fn shutdown(mut self, grace: Duration) -> ExitReport {
        self.stdin.close();
        let mut after = Persuasion::StdinClosed;
        let mut exit = timeout(grace, self.process.exited()).await.ok();
        if exit.is_none() {
            after = Persuasion::Terminated;
            self.process.signal_group(Signal::TERM);
            exit = timeout(grace, self.process.exited()).await.ok();
        }
        if exit.is_none() {
            after = Persuasion::Killed;
        }
        let reaped = self.process.reap();
        let killed = timeout(REAP_WAIT, reaped).await.ok();
        ExitReport { exit: exit.or(killed), after }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(stderr) = &self.stderr {
            stderr.abort();
        }
    }
}
