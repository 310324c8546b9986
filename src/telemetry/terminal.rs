//! Stderr with a live line at its end: whatever is printed takes the line's place.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Back to the line's start, and erase it.
const CLEAR: &[u8] = b"\r\x1b[K";
/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;

/// Whether a live line is on the screen. Read and changed only under stderr's lock.
static LIVE: AtomicBool = AtomicBool::new(false);

/// Stderr for logs and announcements.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Stderr {
    pub fn is_terminal(self) -> bool {
        io::stderr().is_terminal()
    }

    /// Draws the live line anew, cut to the width of the terminal, because a wrapped line could not be erased.
    pub fn draw(self, text: &str) {
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(COLUMNS, |size| usize::from(size.ws_col));
        let shown = fitted(text, columns);
        let mut err = io::stderr().lock();
        LIVE.store(true, Ordering::Relaxed);
        // Nobody is told when nobody looks.
        let _ = err.write_all(CLEAR).and_then(|()| err.write_all(shown.as_bytes())).and_then(|()| err.flush());
    }

    /// Takes the live line away, if there is one.
    pub fn clear(self) {
        let mut err = io::stderr().lock();
        let _ = make_room(&mut err).and_then(|()| err.flush());
    }
}

/// Cut short of the last column, where some terminals wrap already.
fn fitted(text: &str, columns: usize) -> String {
    let columns = if columns == 0 { COLUMNS } else { columns };
    if text.chars().count() < columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(2)).chain(['…']).collect()
}

fn make_room(err: &mut impl Write) -> io::Result<()> {
    if LIVE.swap(false, Ordering::Relaxed) { err.write_all(CLEAR) } else { Ok(()) }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        make_room(&mut err)?;
        err.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_never_wraps() {
        assert_eq!(fitted("waiting", 8), "waiting");
        assert_eq!(fitted("waiting", 7), "waiti…");
        assert_eq!(fitted(&"ü".repeat(200), 0).chars().count(), 79);
        assert_eq!(fitted("waiting", 1), "…");
    }
}
