//! A child's stderr: each line into our log, bounded in length and rate, and the last lines kept for explanations.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{io::AsyncReadExt as _, process::ChildStderr, sync::watch, task::AbortHandle, time::Instant};
use tracing::{info, warn};

use super::framer::{Cut, Framer};
use crate::names::UpstreamName;

/// Longest part of a line that is logged, in bytes.
const MAX_LINE: usize = 4 * 1024;

/// Lines logged per second; the others are counted.
const LINES_PER_SECOND: u32 = 100;

/// Lines kept for the explanation of an exit, and how much of each.
const TAIL_LINES: usize = 5;
const TAIL_CHARS: usize = 300;

/// The last lines a child wrote to its stderr.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.chars().take(TAIL_CHARS).collect());
    }

    /// The lines in one, empty if there are none.
    pub(super) fn last_words(&self) -> String {
        self.0.lock().iter().map(|line| format!("{line:?}")).collect::<Vec<_>>().join(", ")
    }
}

/// Reads stderr to its end. The receiver's `changed` fails once that happened.
pub(super) fn follow(stderr: ChildStderr, name: UpstreamName, tail: Tail) -> (watch::Receiver<()>, AbortHandle) {
    let (drained, receiver) = watch::channel(());
    let task = tokio::spawn(async move {
        read(stderr, &name, &tail).await;
        drop(drained);
    });
    (receiver, task.abort_handle())
}

async fn read(mut stderr: ChildStderr, name: &UpstreamName, tail: &Tail) {
    let mut framer = Framer::new(MAX_LINE, MAX_LINE);
    let mut rate = Rate { second: Instant::now(), logged: 0, suppressed: 0 };
    loop {
        let open = matches!(stderr.read_buf(framer.space()).await, Ok(1..));
        while let Some(cut) = framer.next() {
            note(cut, name, tail, &mut rate);
        }
        if !open {
            break;
        }
    }
    if let Some(cut) = framer.rest() {
        note(cut, name, tail, &mut rate);
    }
    rate.report(name);
}

fn note(cut: Cut, name: &UpstreamName, tail: &Tail, rate: &mut Rate) {
    let (Cut::Whole(line) | Cut::TooLong(line)) = cut;
    let line = printable(&line);
    if line.is_empty() {
        return;
    }
    tail.push(&line);
    if rate.admits(name) {
        info!(upstream = %name, line, "child stderr");
    }
}

/// Lines in the current second.
struct Rate {
    second: Instant,
    logged: u32,
    suppressed: u64,
}

impl Rate {
    fn admits(&mut self, name: &UpstreamName) -> bool {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.report(name);
            *self = Self { second: Instant::now(), logged: 0, suppressed: 0 };
        }
        if self.logged < LINES_PER_SECOND {
            self.logged += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    fn report(&self, name: &UpstreamName) {
        if self.suppressed > 0 {
            warn!(upstream = %name, lines = self.suppressed, "stderr lines of the child were not logged: too many per second");
        }
    }
}

/// Text without escape sequences and control characters, so that a child cannot forge log lines or colour a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // ECMA-48 control sequence: parameters, then one final byte from `@` to `~`.
            chars.by_ref().find(|c| ('@'..='~').contains(c));
        } else if c == '\t' {
            clean.push(' ');
        } else if !c.is_control() {
            clean.push(c);
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_control_characters_do_not_reach_the_log() {
        assert_eq!(printable(b"\x1b[1;31mboom\x1b[0m\ta\rb\x00c\xff \n"), "boom abc\u{fffd}");
        assert_eq!(printable(b"cut \x1b[31"), "cut");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_instead_of_logged() {
        let name = UpstreamName::parse("noisy").expect("a valid name");
        let mut rate = Rate { second: Instant::now(), logged: 0, suppressed: 0 };
        let admitted = (0..1000).filter(|_| rate.admits(&name)).count();
        assert_eq!((admitted, rate.suppressed), (100, 900));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(rate.admits(&name));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let tail = Tail::default();
        (0..100).for_each(|n| tail.push(&format!("line {n} {}", "x".repeat(1000))));
        let words = tail.last_words();
        assert!(words.starts_with("\"line 95 x") && words.len() < TAIL_LINES * (TAIL_CHARS + 8), "{words}");
    }
}
