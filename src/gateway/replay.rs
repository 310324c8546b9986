//! What was said on a call's stream to a legacy client, kept for a while: a client whose connection broke comes back for the
//! rest with `Last-Event-ID` (MCP 2025-11-25, basic/transports, resumability and redelivery).
//!
//! Event ids are the gateway's own, whatever upstream the call went to, and mean something only in the session they were
//! given out in.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{GatewayError, LegacySession};
use crate::{
    mcp::{Id, Version},
    session::SessionId,
};

/// Streams of one session that are kept.
const STREAMS: usize = 16;
/// Events of one stream that are kept; older ones go first.
const EVENTS: usize = 256;
/// Bytes of them. A single larger message, such as the answer, is kept alone.
const BYTES: usize = 1 << 20;
/// Bytes of all streams of this process together; what does not fit is not kept.
const ALL_BYTES: usize = 256 << 20;

static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Whether clients of this revision come back with `Last-Event-ID`.
fn resumes(version: Version) -> bool {
    matches!(version, Version::V2025_03_26 | Version::V2025_06_18 | Version::V2025_11_25)
}

/// Where a client is in a stream; opaque to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    stream: SessionId,
    /// 0 is the event that opens the stream.
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stream, self.number)
    }
}

impl EventId {
    /// `None` for anything this type did not print.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (stream, number) = std::str::from_utf8(text).ok()?.split_once('.')?;
        Some(Self { stream: SessionId::parse(stream.as_bytes())?, number: number.parse().ok()? })
    }
}

/// One thing that was said.
#[derive(Clone, Debug)]
pub enum Said {
    Message(Bytes),
    /// The call of this id failed; nothing follows.
    Failed {
        error: Arc<GatewayError>,
        id: Id,
    },
}

/// The streams of one session.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<Arc<Stream>>>);

#[derive(Debug)]
struct Stream {
    id: SessionId,
    state: Mutex<State>,
    /// Raised with every change.
    told: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// With their numbers, oldest first.
    said: VecDeque<(u64, Said)>,
    bytes: usize,
    /// Number of the last one.
    last: u64,
    ended: bool,
    /// Who reads: 0 is the connection of the call itself, each that comes back has the next number.
    reader: u64,
}

impl Drop for State {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl State {
    fn forget_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.said.pop_front() else { return false };
        let length = oldest.length();
        self.bytes -= length;
        KEPT.fetch_sub(length, Ordering::Relaxed);
        true
    }

    fn keep(&mut self, said: Said) {
        self.last += 1;
        let length = said.length();
        while (self.said.len() >= EVENTS || self.bytes + length > BYTES) && self.forget_oldest() {}
        if KEPT.fetch_add(length, Ordering::Relaxed) + length > ALL_BYTES {
            KEPT.fetch_sub(length, Ordering::Relaxed);
            return tracing::debug!("too much is kept for clients that may come back; one message is not");
        }
        self.bytes += length;
        self.said.push_back((self.last, said));
    }
}

impl Said {
    fn length(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Failed { .. } => 0,
        }
    }
}

/// Writes one stream down as it is said. When it is dropped, nothing follows.
#[derive(Debug)]
pub(super) struct Recorder {
    session: Arc<LegacySession>,
    stream: Arc<Stream>,
    /// Of the call.
    id: Id,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stream.state.lock().ended = true;
        self.stream.tell();
    }
}

impl Stream {
    fn tell(&self) {
        self.told.send_modify(|told| *told = told.wrapping_add(1));
    }
}

impl Recorder {
    /// Begins to write a stream down; `None` when the client could not come back for it, or too many are kept for it already.
    pub(super) fn begin(session: &Arc<LegacySession>, id: Id) -> Option<Self> {
        if !resumes(session.record.version) {
            return None;
        }
        let stream = Arc::new(Stream { id: SessionId::random(), state: Mutex::default(), told: watch::Sender::new(0) });
        let mut kept = session.kept.0.lock();
        if kept.len() >= STREAMS {
            // The oldest that nobody came back for.
            let at = kept.iter().position(|stream| stream.state.lock().ended)?;
            kept.remove(at);
        }
        kept.push(Arc::clone(&stream));
        drop(kept);
        Some(Self { session: Arc::clone(session), stream, id })
    }

    pub(super) fn keep(&self, said: Said) {
        self.stream.state.lock().keep(said);
        self.stream.tell();
    }

    /// How the call ended, if not with an answer.
    pub(super) fn failed(&self, error: GatewayError) -> Said {
        Said::Failed { error: Arc::new(error), id: self.id.clone() }
    }

    /// Of the last thing that was said.
    pub(super) fn last_id(&self) -> EventId {
        EventId { stream: self.stream.id, number: self.stream.state.lock().last }
    }

    /// The client has it all.
    pub(super) fn forget(&self) {
        self.session.kept.0.lock().retain(|stream| !Arc::ptr_eq(stream, &self.stream));
    }

    /// Waits until the client reads the stream over another connection. Cancel-safe.
    pub(super) fn taken_over(&self) -> impl Future<Output = ()> + Send + use<> {
        let (stream, mut told) = (Arc::clone(&self.stream), self.stream.told.subscribe());
        async move {
            while stream.state.lock().reader == 0 {
                if told.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// The client knows the event that opens a stream and carries nothing, and comes back when a server hangs up.
    pub(super) fn is_primed(&self) -> bool {
        self.session.record.version >= Version::V2025_11_25
    }
}

/// The rest of a stream, for a client that came back.
#[derive(Debug)]
pub struct Replay {
    stream: Arc<Stream>,
    told: watch::Receiver<u64>,
    reader: u64,
    /// Has been read.
    last: u64,
}

impl Replay {
    /// What follows the last thing that was read; `None` at the end, and when the client reads over another connection.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(EventId, Said)> {
        loop {
            {
                self.told.borrow_and_update();
                let state = self.stream.state.lock();
                if state.reader != self.reader {
                    return None;
                }
                if let Some((number, said)) = state.said.iter().find(|(number, _)| *number > self.last) {
                    self.last = *number;
                    return Some((EventId { stream: self.stream.id, number: *number }, said.clone()));
                }
                // It stays: this connection may break as well, before the client has read what it was sent.
                if state.ended {
                    return None;
                }
            }
            self.told.changed().await.ok()?;
        }
    }
}

impl LegacySession {
    /// The rest of the stream that `id` is of, if it is one of this session and still kept. Whoever read it before reads no more.
    pub fn replay(&self, id: EventId) -> Option<Replay> {
        let stream = self.kept.0.lock().iter().find(|stream| stream.id == id.stream).map(Arc::clone)?;
        let reader = {
            let mut state = stream.state.lock();
            state.reader += 1;
            state.reader
        };
        let told = stream.told.subscribe();
        stream.tell();
        Some(Replay { stream, told, reader, last: id.number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(length: usize) -> Said {
        Said::Message(vec![0; length].into())
    }

    #[test]
    fn an_id_survives_its_text_form_and_no_other_text_is_one() {
        let id = EventId { stream: SessionId::random(), number: 7 };
        assert_eq!(EventId::parse(id.to_string().as_bytes()), Some(id));
        for text in ["", ".", "7", "x.7", &format!("{}.", id.stream), &format!("{}.-1", id.stream)] {
            assert_eq!(EventId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_oldest_goes_first_and_the_newest_stays_whatever_its_size() {
        let mut state = State::default();
        for _ in 0..EVENTS + 10 {
            state.keep(said(1));
        }
        assert_eq!((state.said.len(), state.said.front().map(|(number, _)| *number)), (EVENTS, Some(11)));
        state.keep(said(3 * BYTES));
        assert_eq!((state.said.len(), state.bytes), (1, 3 * BYTES));
        state.keep(said(1));
        assert_eq!((state.said.len(), state.bytes), (1, 1));
    }
}
