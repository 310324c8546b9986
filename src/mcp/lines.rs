//! Newline-delimited framing: one JSON-RPC message a line (MCP, transports, stdio).

use bytes::{Bytes, BytesMut};

/// Cuts a byte stream into lines, in whatever pieces it arrives.
#[derive(Debug)]
pub struct LineReader {
    max_line: usize,
    partial: BytesMut,
    /// Bytes of an over-long line seen so far, which are thrown away up to its end.
    discarded: Option<u64>,
}

/// What the stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that is not blank, without its line end and without white space around it.
    Text(Bytes),
    /// A line longer than the bound, reported once, at its end. What follows it is read as usual.
    TooLong { bytes: u64 },
}

impl LineReader {
    /// `max_line`: the longest line, in bytes without its end, that is kept.
    pub fn new(max_line: usize) -> Self {
        Self { max_line, partial: BytesMut::new(), discarded: None }
    }

    /// Takes the next bytes and gives every line they complete, without copying those that lie within the chunk.
    pub fn push(&mut self, mut chunk: Bytes, out: &mut impl FnMut(Line)) {
        while let Some(end) = memchr::memchr(b'\n', &chunk) {
            let rest = chunk.split_off(end + 1);
            chunk.truncate(end);
            if let Some(line) = self.complete(chunk) {
                out(line);
            }
            chunk = rest;
        }
        self.keep(&chunk);
    }

    /// What came after the last line end: a line that its writer did not finish, if it is not blank.
    pub fn finish(mut self) -> Option<Line> {
        self.complete(Bytes::new())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(discarded) = &mut self.discarded {
            *discarded += bytes.len() as u64;
        } else if self.partial.len() + bytes.len() > self.limit() {
            self.discarded = Some(self.partial.len() as u64 + bytes.len() as u64);
            self.partial = BytesMut::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn complete(&mut self, tail: Bytes) -> Option<Line> {
        let line = if self.partial.is_empty() && self.discarded.is_none() && tail.len() <= self.limit() {
            tail
        } else {
            self.keep(&tail);
            if let Some(bytes) = self.discarded.take() {
                return Some(Line::TooLong { bytes });
            }
            self.partial.split().freeze()
        };
        let text = line.trim_ascii();
        if text.len() > self.max_line {
            return Some(Line::TooLong { bytes: line.len() as u64 });
        }
        (!text.is_empty()).then(|| Line::Text(line.slice_ref(text)))
    }

    /// A carriage return may stand before the line feed.
    fn limit(&self) -> usize {
        self.max_line.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]], max_line: usize) -> Vec<Line> {
        let mut reader = LineReader::new(max_line);
        let mut lines = Vec::new();
        for chunk in chunks {
            reader.push(Bytes::copy_from_slice(chunk), &mut |line| lines.push(line));
        }
        lines.extend(reader.finish());
        lines
    }

    fn text(line: &'static str) -> Line {
        Line::Text(Bytes::from(line))
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_blank_ones_are_skipped() {
        assert_eq!(read(&[b"{}\r\n\n  \r\n{1}\n{2"], 100), [text("{}"), text("{1}"), text("{2")]);
    }

    #[test]
    fn an_over_long_line_is_reported_once_and_the_next_still_comes() {
        assert_eq!(read(&[b"123", b"45", b"67", b"8\nok\n"], 4), [Line::TooLong { bytes: 8 }, text("ok")]);
        assert_eq!(read(&[b"12345678\nok"], 4), [Line::TooLong { bytes: 8 }, text("ok")]);
        assert_eq!(read(&[b"1234\r\n"], 4), [text("1234")]);
        assert_eq!(read(&[b"12345\n"], 4), [Line::TooLong { bytes: 5 }]);
    }

    #[test]
    fn an_over_long_line_is_not_kept() {
        let mut reader = LineReader::new(16);
        for _ in 0..1000 {
            reader.push(Bytes::from(vec![b'x'; 1024]), &mut |_| panic!("no line has ended"));
            assert!(reader.partial.len() <= 17);
        }
    }

    #[test]
    fn a_line_within_a_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"{\"a\":1}\n");
        let at = chunk.as_ptr();
        let mut reader = LineReader::new(16);
        reader.push(chunk, &mut |line| assert!(matches!(line, Line::Text(text) if text.as_ptr() == at)));
    }

    proptest! {
        #[test]
        fn the_lines_do_not_depend_on_the_chunks(
            stream in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'x'), Just(b' ')], 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..8),
            max_line in 1usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks, max_line), read(&[&stream], max_line));
        }
    }
}
