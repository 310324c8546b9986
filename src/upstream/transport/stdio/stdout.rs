//! Messages from a child: bounded lines, and the explanation when there are no more.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt as _,
    process::ChildStdout,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    exit::Exit,
    framer::{Cut, Framer},
    process::Watch,
    stderr::{Tail, printable},
};
use crate::reason::{Explanation, Reason};

/// How long stdout is still read after the process ended: what it wrote is in the pipe already,
/// and a grandchild that keeps the pipe open must not keep us waiting.
const LINGER: Duration = Duration::from_millis(500);

/// How long the exit status and the last stderr lines are waited for once stdout is closed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How much of a line that is not taken is shown or searched for its id, in bytes.
const START: usize = 1024;

/// One line of a child's stdout.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// What looks like a JSON object or array; not checked further.
    Message(Bytes),
    /// A line over the limit was skipped; its first bytes, which often hold the id.
    TooLong { start: Bytes },
    /// Noise: the start of it, made printable. The protocol forbids it, and real programs do it.
    NotJson { start: String },
}

/// Reads a child's stdout.
#[derive(Debug)]
pub struct Inbound {
    stdout: ChildStdout,
    framer: Framer,
    process: Watch,
    tail: Tail,
    /// Ends when stderr was read to its end; absent when stderr is not ours to read.
    stderr_drained: Option<watch::Receiver<()>>,
    /// When the process was first seen to be gone.
    gone_since: Option<Instant>,
    closed: bool,
}

impl Inbound {
    pub(super) fn new(
        stdout: ChildStdout,
        max_line: usize,
        process: Watch,
        tail: Tail,
        stderr_drained: Option<watch::Receiver<()>>,
    ) -> Self {
        Self { stdout, framer: Framer::new(max_line, START), process, tail, stderr_drained, gone_since: None, closed: false }
    }

    /// The next line; `None` once stdout is closed or the process ended, and then for ever. Cancel-safe.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            let cut = match self.framer.next() {
                None if self.closed => self.framer.rest(),
                cut => cut,
            };
            match cut.map(classify) {
                Some(Some(line)) => return Some(line),
                Some(None) => {}
                None if self.closed => return None,
                None => self.read().await,
            }
        }
    }

    /// How the child ended and what it said last, for the operator's log; call it after [`Self::next`] gave `None`.
    pub async fn explain(&self) -> Explanation {
        let exit = timeout(LAST_WORDS, self.process.clone().exited()).await.ok();
        if let Some(mut drained) = self.stderr_drained.clone() {
            // Ends with an error when the reader of stderr ends; a grandchild may keep stderr open for ever.
            let _ = timeout(LAST_WORDS, async { while drained.changed().await.is_ok() {} }).await;
        }
        let mut detail = match exit {
            Some(exit) => format!("its process ended: {exit}"),
            None => "its process closed its stdout but still runs".to_owned(),
        };
        let words = self.tail.last_words();
        if !words.is_empty() {
            detail.push_str("; it last wrote to stderr: ");
            detail.push_str(&words);
        }
        let remedy = match exit {
            Some(Exit::Status(127)) => "status 127 usually means a command inside a script was not found; check `cmd` and PATH in `env`",
            Some(Exit::Status(_)) => "run the command of `cmd` by hand with the same `env`; an MCP server waits for messages on stdin",
            Some(Exit::Signal(libc::SIGKILL)) => "it was killed from outside; look for the out-of-memory killer in the system's log",
            Some(Exit::Signal(_) | Exit::Unknown) => "it crashed or was ended from outside; look at its own log",
            None => "nothing but MCP messages may use its stdout, and it must stay open",
        };
        Explanation::new(Reason::Exited, detail, remedy)
    }

    async fn read(&mut self) {
        let linger = self.gone_since.map(|since| since + LINGER);
        if linger.is_some_and(|end| Instant::now() >= end) {
            self.closed = true;
            return;
        }
        tokio::select! {
            biased;
            read = self.stdout.read_buf(self.framer.space()) => {
                if !matches!(read, Ok(1..)) {
                    self.closed = true;
                }
            }
            _ = self.process.exited(), if linger.is_none() => self.gone_since = Some(Instant::now()),
            () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => self.closed = true,
        }
    }
}

/// `None` for an empty line.
fn classify(cut: Cut) -> Option<Line> {
    let line = match cut {
        Cut::TooLong(start) => return Some(Line::TooLong { start }),
        Cut::Whole(line) => line,
    };
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
    match text.first() {
        None => None,
        Some(b'{' | b'[') => Some(Line::Message(line.slice_ref(text))),
        Some(_) => Some(Line::NotJson { start: printable(text.get(..START).unwrap_or(text)) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_empty_lines_are_told_from_messages() {
        let of = |text: &'static [u8]| classify(Cut::Whole(Bytes::from_static(text)));
        assert_eq!(of(b"  \r"), None);
        assert_eq!(of(b"{\"id\":1}\r"), Some(Line::Message(Bytes::from_static(b"{\"id\":1}"))));
        assert_eq!(of(b"\xef\xbb\xbf{}"), Some(Line::Message(Bytes::from_static(b"{}"))));
        assert_eq!(of(b"Server \x1b[32mready\x1b[0m\x07"), Some(Line::NotJson { start: "Server ready".to_owned() }));
    }
}
