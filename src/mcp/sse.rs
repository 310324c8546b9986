//! Server-sent events (HTML Living Standard, section 9.2), as MCP streams use them.

use bytes::{Bytes, BytesMut};

/// A comment that keeps a quiet stream from being closed on the way; receivers skip it.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// What ends an event that [`Event::head`] began.
pub const TAIL: &[u8] = b"\n\n";

/// One event, with the fields its sender wrote.
///
/// `data` is present but empty in the event that opens a resumable stream (MCP 2025-11-25, transports), which must not be
/// read as JSON; it is absent in an event that only sets `id` or `retry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<Bytes>,
    pub event: Option<Bytes>,
    /// Milliseconds before reconnecting.
    pub retry: Option<u64>,
    pub data: Option<Bytes>,
}

/// Why a stream of events cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event larger than {max_event} bytes")]
    TooLarge { max_event: usize },
}

/// Reads events from a byte stream, in whatever pieces it arrives.
#[derive(Debug)]
pub struct EventReader {
    max_event: usize,
    /// The line that has begun in an earlier chunk.
    partial: BytesMut,
    /// The last byte was a carriage return, so a line feed that follows ends no other line.
    after_cr: bool,
    first_line: bool,
    failed: bool,
    event: Event,
    /// `data` lines, joined, once there is more than one.
    lines: Option<BytesMut>,
    size: usize,
}

impl EventReader {
    /// `max_event`: the most bytes the lines of one event may have together.
    pub fn new(max_event: usize) -> Self {
        Self {
            max_event,
            partial: BytesMut::new(),
            after_cr: false,
            first_line: true,
            failed: false,
            event: Event::default(),
            lines: None,
            size: 0,
        }
    }

    /// Takes the next bytes and gives every event they complete. Data of one line within the chunk is not copied.
    ///
    /// # Errors
    /// [`SseError::TooLarge`], and again at each later call: the place in the stream is lost.
    pub fn push(&mut self, mut chunk: Bytes, out: &mut impl FnMut(Event)) -> Result<(), SseError> {
        loop {
            if self.failed {
                return Err(SseError::TooLarge { max_event: self.max_event });
            }
            if self.after_cr && !chunk.is_empty() {
                self.after_cr = false;
                if chunk.first() == Some(&b'\n') {
                    let _line_feed = chunk.split_to(1);
                }
            }
            let end = memchr::memchr2(b'\n', b'\r', &chunk);
            let length = end.unwrap_or(chunk.len());
            if self.size + self.partial.len() + length > self.max_event {
                self.failed = true;
                self.partial = BytesMut::new();
                self.lines = None;
                self.event = Event::default();
                continue;
            }
            let Some(end) = end else {
                self.partial.extend_from_slice(&chunk);
                return Ok(());
            };
            let rest = chunk.split_off(end);
            self.after_cr = rest.first() == Some(&b'\r');
            let line = if self.partial.is_empty() {
                chunk
            } else {
                self.partial.extend_from_slice(&chunk);
                self.partial.split().freeze()
            };
            chunk = rest.slice(1..);
            if let Some(event) = self.line(line) {
                out(event);
            }
        }
    }

    /// Ends the stream. True when it broke off within an event, which is then lost, as the standard has it.
    pub fn finish(self) -> bool {
        self.failed || !self.partial.is_empty() || self.event != Event::default() || self.lines.is_some()
    }

    fn line(&mut self, mut line: Bytes) -> Option<Event> {
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        if line.is_empty() {
            self.size = 0;
            if let Some(lines) = self.lines.take() {
                self.event.data = Some(lines.freeze());
            }
            let event = std::mem::take(&mut self.event);
            return (event != Event::default()).then_some(event);
        }
        let colon = memchr::memchr(b':', &line);
        let name = line.slice(..colon.unwrap_or(line.len()));
        let value = match colon {
            Some(colon) if line.get(colon + 1) == Some(&b' ') => line.slice(colon + 2..),
            Some(colon) => line.slice(colon + 1..),
            None => Bytes::new(),
        };
        match &*name {
            b"data" => self.data(value, line.len()),
            b"event" => self.keep(line.len(), |event| event.event = Some(value)),
            b"id" if memchr::memchr(0, &value).is_none() => self.keep(line.len(), |event| event.id = Some(value)),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let millis = std::str::from_utf8(&value).ok().and_then(|digits| digits.parse().ok());
                self.keep(line.len(), |event| event.retry = Some(millis.unwrap_or(u64::MAX)));
            }
            _ => {}
        }
        None
    }

    fn keep(&mut self, size: usize, set: impl FnOnce(&mut Event)) {
        self.size += size;
        set(&mut self.event);
    }

    fn data(&mut self, value: Bytes, size: usize) {
        // A line costs at least the line feed that joins it, so that empty lines are bounded too.
        self.size += size;
        if let Some(lines) = &mut self.lines {
            lines.extend_from_slice(b"\n");
            lines.extend_from_slice(&value);
        } else if let Some(first) = self.event.data.take() {
            let mut lines = BytesMut::with_capacity(first.len() + value.len() + 1);
            lines.extend_from_slice(&first);
            lines.extend_from_slice(b"\n");
            lines.extend_from_slice(&value);
            self.lines = Some(lines);
        } else {
            self.event.data = Some(value);
        }
    }
}

impl Event {
    /// An event that carries one JSON-RPC message.
    ///
    /// It is named `message`: some clients drop an event that has only `data`.
    pub fn message(data: Bytes) -> Self {
        Self { event: Some(Bytes::from_static(b"message")), data: Some(data), ..Self::default() }
    }

    #[must_use]
    pub fn with_id(mut self, id: impl Into<Bytes>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The whole event as it goes over the wire.
    pub fn encode(&self) -> Bytes {
        let mut out = self.fields();
        if let Some(data) = &self.data {
            let mut rest: &[u8] = data;
            while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
                push_field(&mut out, b"data", rest.get(..end).unwrap_or_default());
                let crlf = rest.get(end..end + 2) == Some(b"\r\n");
                rest = rest.get(end + 1 + usize::from(crlf)..).unwrap_or_default();
            }
            push_field(&mut out, b"data", rest);
        }
        out.push(b'\n');
        Bytes::from(out)
    }

    /// The beginning of an event up to its data. The data, free of line ends, and [`TAIL`] follow.
    ///
    /// For data that streams through in pieces and is not to be copied.
    pub fn head(&self) -> Bytes {
        let mut out = self.fields();
        out.extend_from_slice(b"data: ");
        Bytes::from(out)
    }

    fn fields(&self) -> Vec<u8> {
        let data = self.data.as_ref().map_or(0, Bytes::len);
        let mut out = Vec::with_capacity(data + self.id.as_ref().map_or(0, Bytes::len) + 64);
        let one_line = |value: &&Bytes| memchr::memchr3(b'\n', b'\r', 0, value).is_none();
        // A value that would end its line could forge fields; the standard has no way to write it, so it is left out.
        if let Some(event) = self.event.as_ref().filter(one_line) {
            push_field(&mut out, b"event", event);
        }
        if let Some(id) = self.id.as_ref().filter(one_line) {
            push_field(&mut out, b"id", id);
        }
        if let Some(retry) = self.retry {
            push_field(&mut out, b"retry", retry.to_string().as_bytes());
        }
        out
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
