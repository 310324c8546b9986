//! The real program as a process of its own.

#![allow(clippy::unwrap_used, reason = "a program that cannot be started has failed its test")]

use std::{net::SocketAddr, path::PathBuf, process::Stdio, sync::Arc};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{nexus::Written, soon, until};

/// A running `nexus`; killed with its owner.
pub(crate) struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts a command on this configuration. The environment is that of the test and `env`.
    pub(crate) fn start(written: &Written, command: &str, log: &str, env: &[(&str, &str)]) -> Self {
        let path: PathBuf = written.folder.path().join("nexus.toml");
        std::fs::write(&path, &written.toml).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_nexus"))
            .args(["--log", log, "--config"])
            .arg(&path)
            .arg(command)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        tokio::spawn(listen(child.stderr.take().unwrap(), Arc::clone(&said)));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Self { child, said, stdin, stdout }
    }

    /// Everything on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().clone()
    }

    pub(crate) async fn says(&self, words: &str) {
        until(words, || self.said.lock().contains(words)).await;
    }

    /// The address that it listens on.
    pub(crate) async fn address(&self) -> SocketAddr {
        let told = || {
            let said = self.said();
            let line = said.split_once("listening on ")?.1.split_once('\n')?.0;
            let address = line.split_once("://")?.1.split("/mcp").next()?;
            address.parse().ok()
        };
        until("the address", || told().is_some()).await;
        told().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Asks for a reload.
    pub(crate) fn hang_up_signal(&self) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// Waits for the end, and gives the exit code.
    pub(crate) async fn ends(&mut self) -> Option<i32> {
        soon("the program's end", self.child.wait()).await.unwrap().code()
    }

    /// Writes one line to its stdin.
    pub(crate) async fn write(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line of its stdout, which holds messages and nothing else; `None` at the end.
    pub(crate) async fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        soon("a line", self.stdout.as_mut().unwrap().read_line(&mut line)).await.unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}")))
    }

    /// The next answer; notifications come whenever they like.
    pub(crate) async fn answer(&mut self) -> Value {
        loop {
            let message = self.read().await.unwrap();
            if message["method"].is_null() {
                return message;
            }
        }
    }

    /// Closes its stdin.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }
}

async fn listen(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        said.lock().push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}
