//! The queue between the gateway and a client's own stream: bounded in messages and in bytes, and never waited for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages that wait on a client's GET stream; further ones are dropped.
const MESSAGES: usize = 64;
/// Bytes that wait there. A single larger message passes when nothing else waits.
const BYTES: usize = 1 << 20;

/// A queue and its two ends.
pub(super) fn outbox() -> (Inlet, Outbox) {
    let (tx, messages) = mpsc::channel(MESSAGES);
    let (closed, waiting) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let inlet = Inlet { tx, closed: closed.clone(), waiting: Arc::clone(&waiting) };
    (inlet, Outbox { messages, waiting, _closed: closed.drop_guard() })
}

/// The gateway's end of a client's stream. Used by one at a time.
#[derive(Debug)]
pub(super) struct Inlet {
    tx: mpsc::Sender<Bytes>,
    closed: CancellationToken,
    waiting: Arc<AtomicUsize>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The client does not read fast enough.
    Full,
    /// The client's stream is gone.
    Closed,
}

impl Inlet {
    pub(super) fn put(&mut self, message: Bytes) -> Result<(), Refused> {
        let (waiting, length) = (self.waiting.load(Ordering::Relaxed), message.len());
        if waiting > 0 && waiting.saturating_add(length) > BYTES {
            return Err(if self.tx.is_closed() { Refused::Closed } else { Refused::Full });
        }
        // Counted before it can be taken out.
        self.waiting.fetch_add(length, Ordering::Relaxed);
        self.tx.try_send(message).map_err(|error| {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => Refused::Full,
                mpsc::error::TrySendError::Closed(_) => Refused::Closed,
            }
        })
    }

    /// Cancelled when the client's end is gone.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}

/// The client's end of its stream; dropping it closes the stream.
#[derive(Debug)]
pub struct Outbox {
    messages: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    _closed: DropGuard,
}

impl Outbox {
    /// The next message; `None` when another stream has taken this one's place. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        let message = self.messages.recv().await?;
        self.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_messages_fill_the_queue_long_before_many_small_ones() {
        let (mut inlet, mut outbox) = outbox();
        let large = Bytes::from(vec![0; BYTES - 10]);
        inlet.put(large.clone()).expect("the first fits");
        inlet.put(Bytes::from_static(b"0123456789")).expect("up to the limit");
        assert_eq!(inlet.put(Bytes::from_static(b"x")), Err(Refused::Full));
        outbox.next().await;
        inlet.put(Bytes::from_static(b"x")).expect("there is room again");
        drop(outbox);
        assert_eq!(inlet.put(large), Err(Refused::Closed));
        assert!(inlet.closed().is_cancelled());
    }

    #[tokio::test]
    async fn a_message_larger_than_the_whole_queue_passes_alone() {
        let (mut inlet, mut outbox) = outbox();
        inlet.put(Bytes::from(vec![0; 3 * BYTES])).expect("nothing else waits");
        assert_eq!(inlet.put(Bytes::from_static(b"x")), Err(Refused::Full));
        assert_eq!(outbox.next().await.map(|message| message.len()), Some(3 * BYTES));
        for _ in 0..MESSAGES {
            inlet.put(Bytes::from_static(b"x")).expect("small ones are counted too");
        }
        assert_eq!(inlet.put(Bytes::from_static(b"x")), Err(Refused::Full));
    }
}
