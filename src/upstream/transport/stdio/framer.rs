//! Cuts a byte stream into lines, in bounded memory whatever the stream holds.

use bytes::{Buf as _, Bytes, BytesMut};

/// Room for one read of a pipe.
const CHUNK: usize = 16 * 1024;

/// One line without its newline, or what is left of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Whole(Bytes),
    /// The line is longer than the limit; its start. The rest of it is skipped.
    TooLong(Bytes),
}

#[derive(Debug)]
pub(super) struct Framer {
    buffer: BytesMut,
    /// Bytes at the start of `buffer` that are known to hold no newline.
    scanned: usize,
    limit: usize,
    /// How much of a line over the limit is handed out.
    keep: usize,
    skipping: bool,
}

impl Framer {
    /// Lines of up to `limit` bytes are whole; of a longer one the first `keep` bytes are given.
    pub(super) fn new(limit: usize, keep: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit, keep: keep.min(limit), skipping: false }
    }

    /// Where to read into.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        self.buffer.reserve(CHUNK);
        &mut self.buffer
    }

    /// The next line among the bytes read so far.
    pub(super) fn next(&mut self) -> Option<Cut> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(newline) = memchr::memchr(b'\n', unseen).map(|at| at + self.scanned) else {
                return self.no_newline();
            };
            let line = self.buffer.split_to(newline).freeze();
            self.buffer.advance(1);
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            return Some(self.cut(line));
        }
    }

    /// The last line, which no newline ended; called when the stream is over and [`Self::next`] gave everything.
    pub(super) fn rest(&mut self) -> Option<Cut> {
        let line = self.buffer.split().freeze();
        self.scanned = 0;
        if std::mem::take(&mut self.skipping) || line.is_empty() { None } else { Some(self.cut(line)) }
    }

    fn no_newline(&mut self) -> Option<Cut> {
        if self.skipping {
            self.buffer.clear();
            self.scanned = 0;
            return None;
        }
        self.scanned = self.buffer.len();
        if self.buffer.len() <= self.limit {
            return None;
        }
        let start = Bytes::copy_from_slice(self.buffer.get(..self.keep).unwrap_or_default());
        self.skipping = true;
        // A new buffer: the old one has grown to the limit.
        self.buffer = BytesMut::new();
        self.scanned = 0;
        Some(Cut::TooLong(start))
    }

    fn cut(&self, line: Bytes) -> Cut {
        if line.len() > self.limit {
            Cut::TooLong(Bytes::copy_from_slice(line.get(..self.keep).unwrap_or_default()))
        } else {
            Cut::Whole(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]], limit: usize) -> Vec<String> {
        let mut framer = Framer::new(limit, 2);
        let mut found = Vec::new();
        let mut note = |cut| {
            found.push(match cut {
                Cut::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
                Cut::TooLong(start) => format!("{}…", String::from_utf8_lossy(&start)),
            });
        };
        for chunk in chunks {
            framer.space().extend_from_slice(chunk);
            while let Some(cut) = framer.next() {
                note(cut);
            }
        }
        framer.rest().into_iter().for_each(&mut note);
        found
    }

    #[test]
    fn lines_are_found_however_the_bytes_arrive() {
        let whole = b"one\ntwo\n\nfour";
        let expected = ["one", "two", "", "four"];
        assert_eq!(lines(&[whole], 10), expected);
        let single: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(lines(&single, 10), expected);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_over_it_is_cut() {
        for chunks in [vec![b"12345\n123456\nok\n".as_slice()], b"12345\n123456\nok\n".chunks(1).collect()] {
            assert_eq!(lines(&chunks, 5), ["12345", "12…", "ok"]);
        }
    }

    #[test]
    fn a_line_without_end_is_reported_once_and_takes_no_memory() {
        let mut framer = Framer::new(1000, 2);
        let mut cuts = 0;
        for _ in 0..1000 {
            framer.space().extend_from_slice(&[b'x'; 900]);
            while framer.next().is_some() {
                cuts += 1;
            }
            assert!(framer.buffer.capacity() <= 4 * CHUNK);
        }
        assert_eq!(cuts, 1);
        assert_eq!(framer.rest(), None);
    }
}
