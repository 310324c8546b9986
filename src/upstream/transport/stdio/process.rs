//! The process itself: what it inherits, how it is spawned, waited for and killed.
//!
//! Every child has a thread of its own, which spawns it, waits for its end and reaps it. That thread is why
//! - `PR_SET_PDEATHSIG` is safe to use: the signal fires when the *thread* that spawned the child ends (prctl(2)),
//!   and this one ends only after the child did, or with our whole process;
//! - an `exec` that hangs (a program on a dead network file system) holds up nobody else;
//! - the process group's id cannot be reused while we may still signal it: the ended child is kept as a zombie
//!   until its owner has let go of it.

use std::{
    convert::Infallible,
    fs::OpenOptions,
    io,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::{oneshot, watch},
};

use super::{ChildSpec, exit::Exit};
use crate::{
    reason::{Explanation, Reason},
    upstream::StderrConfig,
};

/// What a child sees of our environment; everything else is for us, or for another upstream.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR"];

/// The `LC_*` variables of POSIX and glibc (locale(7)).
const LOCALE: &[&str] = &[
    "LC_ALL",
    "LC_ADDRESS",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// Stack of the thread beside each child; it only makes system calls. Touched pages count, not this.
const STACK: usize = 256 * 1024;

/// A running or ended child; dropping it kills the process group and lets the thread reap.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    state: Watch,
    /// While it is held, the ended child stays a zombie, and its group's id ours.
    hold: Option<mpsc::Sender<Infallible>>,
}

/// Sees how a process fares without owning it.
#[derive(Clone, Debug)]
pub(super) struct Watch(watch::Receiver<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Running,
    Exited(Exit),
    Reaped(Exit),
}

/// A child with its pipes.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: Option<ChildStderr>,
}

impl Process {
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    pub(super) fn watch(&self) -> Watch {
        self.state.clone()
    }

    pub(super) fn signal_group(&self, signal: Signal) {
        if self.hold.is_some() {
            // Fails only when the group is empty, which is what we want.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    pub(super) async fn exited(&mut self) -> Exit {
        self.state.exited().await
    }

    /// Kills what is left of the group and waits until the child is reaped.
    pub(super) async fn reap(&mut self) -> Exit {
        self.signal_group(Signal::KILL);
        self.hold = None;
        self.state.until(|state| matches!(state, State::Reaped(_))).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
    }
}

impl Watch {
    /// Waits for the end of the process, which may not be reaped yet. Cancel-safe.
    pub(super) async fn exited(&mut self) -> Exit {
        self.until(|state| !matches!(state, State::Running)).await
    }

    async fn until(&mut self, reached: impl Fn(&State) -> bool) -> Exit {
        let state = self.0.wait_for(|state| reached(state)).await.map(|state| *state);
        match state.unwrap_or_else(|_| *self.0.borrow()) {
            State::Exited(exit) | State::Reaped(exit) => exit,
            State::Running => Exit::Unknown,
        }
    }
}

/// Starts the program of `spec`.
///
/// # Errors
/// `spawn_failed`, with what to do.
pub(super) async fn spawn(spec: &ChildSpec<'_>) -> Result<Started, Explanation> {
    let command = command(spec)?;
    let (answer, answered) = oneshot::channel();
    let counted = spec.alive.token();
    let started = thread::Builder::new()
        .name(format!("child {}", spec.name))
        .stack_size(STACK)
        .spawn(move || {
            run(command, answer);
            drop(counted);
        })
        .map(drop)
        .map_err(|error| {
            failed(format!("no thread could be started for its process: {error}"), "look at the limits on processes and threads")
        });
    started?;
    let spawned = match answered.await {
        Ok(Ok(spawned)) => spawned,
        Ok(Err(error)) => return Err(explain(spec, &error)),
        Err(_) => return Err(failed("the thread that starts its process ended early".to_owned(), "look at the log above")),
    };
    let Spawned { process, stdin, stdout, stderr } = spawned;
    let piped = || -> io::Result<_> {
        let missing = || io::Error::other("a pipe is missing");
        let stdin = ChildStdin::from_std(stdin.ok_or_else(missing)?)?;
        let stdout = ChildStdout::from_std(stdout.ok_or_else(missing)?)?;
        Ok((stdin, stdout, stderr.map(ChildStderr::from_std).transpose()?))
    };
    let (stdin, stdout, stderr) =
        piped().map_err(|error| failed(format!("its pipes could not be used: {error}"), "look at the limit on open files"))?;
    Ok(Started { process, stdin, stdout, stderr })
}

fn command(spec: &ChildSpec<'_>) -> Result<Command, Explanation> {
    let config = spec.config;
    let Some((program, arguments)) = config.cmd.split_first() else {
        return Err(failed("`cmd` is empty".to_owned(), "name the program and its arguments in `cmd`"));
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    for name in INHERITED.iter().chain(LOCALE).copied().chain(config.inherit_env.iter().map(String::as_str)) {
        if let Some(value) = spec.sources.env(name) {
            command.env(name, value);
        }
    }
    command.envs(config.env.iter().map(|(name, value)| (name, value.expose())));
    if let Some(folder) = &config.cwd {
        command.current_dir(folder);
    }
    command.stderr(match &config.stderr {
        StderrConfig::Log => Stdio::piped(),
        StderrConfig::Discard => Stdio::null(),
        StderrConfig::Inherit => Stdio::inherit(),
        StderrConfig::File(path) => {
            OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(Stdio::from).map_err(|error| {
                failed(
                    format!("the file for its stderr, \"{}\", cannot be opened: {error}", path.display()),
                    "correct `stderr` or the folder's permissions",
                )
            })?
        }
    });
    #[cfg(target_os = "linux")]
    isolate(&mut command);
    Ok(command)
}

/// Ties the child's life to ours, and gives it no descriptor but 0, 1 and 2.
///
/// Our own descriptors are all close-on-exec; what we inherited from whoever started us may not be.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn isolate(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // We died before the line above took effect.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // SAFETY: close_range(2) reads its three integer arguments and no memory; with CLOEXEC it closes nothing yet,
        // so the pipe over which the standard library reports a failed exec keeps working.
        let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if marked == 0 { Ok(()) } else { mark_one_by_one() }
    };
    // SAFETY: `prepare` runs between fork and exec, where only async-signal-safe calls are allowed because other threads may
    // have held locks at the fork. It makes plain system calls, allocates nothing (`from_raw_os_error` does not), takes no
    // lock and cannot panic.
    unsafe { command.pre_exec(prepare) };
}

/// For kernels before 5.11, which have no `CLOSE_RANGE_CLOEXEC`.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn mark_one_by_one() -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    for descriptor in 3..i32::try_from(limit).unwrap_or(i32::MAX) {
        // SAFETY: F_SETFD takes an integer and no memory; a number that is not open is answered with EBADF.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// What the thread hands over.
struct Spawned {
    process: Process,
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
}

/// The life of a child's thread.
fn run(mut command: Command, answer: oneshot::Sender<io::Result<Spawned>>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // Nobody waits any more: then nobody wants to know.
            let _ = answer.send(Err(error));
            return;
        }
    };
    drop(command);
    let pid = Pid::from_child(&child);
    let (state, watched) = watch::channel(State::Running);
    let (hold, let_go) = mpsc::channel();
    let process = Process { pid, state: Watch(watched), hold: Some(hold) };
    let spawned = Spawned { process, stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
    // If nobody waits any more, dropping `spawned` kills the group.
    drop(answer.send(Ok(spawned)));

    let exit = wait_without_reaping(pid);
    state.send_replace(State::Exited(exit));
    // Nothing is ever sent: this ends when the owner lets go.
    let _ = let_go.recv();
    // The child's status is known already; what matters here is that the zombie goes.
    let _ = child.wait();
    state.send_replace(State::Reaped(exit));
}

fn wait_without_reaping(pid: Pid) -> Exit {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => {
                return status
                    .exit_status()
                    .map(Exit::Status)
                    .or_else(|| status.terminating_signal().map(Exit::Signal))
                    .unwrap_or(Exit::Unknown);
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return Exit::Unknown,
        }
    }
}

fn failed(detail: String, remedy: &str) -> Explanation {
    Explanation::new(Reason::SpawnFailed, detail, remedy)
}

/// Says why `exec` failed. Arguments and values of `env` may be secrets and are not shown.
fn explain(spec: &ChildSpec<'_>, error: &io::Error) -> Explanation {
    let program = spec.config.cmd.first().map_or("", String::as_str);
    if let Some(folder) = &spec.config.cwd
        && !folder.is_dir()
    {
        return failed(format!("the folder \"{}\" to start \"{program}\" in does not exist", folder.display()), "correct `cwd`");
    }
    match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            let path = if spec.config.env.contains_key("PATH") {
                "the PATH given in `env`".to_owned()
            } else {
                spec.sources
                    .env("PATH")
                    .map_or_else(|| "the system's default PATH, because PATH is not set".to_owned(), |path| format!("PATH ({path})"))
            };
            failed(
                format!("the program \"{program}\" was not found in {path}"),
                "install it, write its absolute path in `cmd`, or set PATH in `env`; a desktop application or a service often has a shorter PATH than your shell",
            )
        }
        io::ErrorKind::NotFound if Path::new(program).exists() => failed(
            format!("\"{program}\" exists, but the interpreter it names (its `#!` line or its ELF loader) does not"),
            "install the interpreter, or put it first in `cmd`",
        ),
        io::ErrorKind::NotFound => failed(format!("the program \"{program}\" does not exist"), "correct the path in `cmd`"),
        io::ErrorKind::PermissionDenied => failed(
            format!("\"{program}\" may not be executed: {error}"),
            "make it executable (`chmod +x`), and check the permissions of the folders above it",
        ),
        io::ErrorKind::InvalidInput => {
            failed(format!("\"{program}\" cannot be started: {error}"), "`cmd` and `env` must not hold NUL characters")
        }
        _ => failed(format!("\"{program}\" cannot be started: {error}"), "look at the limits on processes, memory and open files"),
    }
}
