//! A bounded queue of messages for a client that reads them from one event stream.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Messages that wait for the client.
const MESSAGES: usize = 256;
/// Bytes that wait. A single larger message takes all of it.
const BYTES: u32 = 16 << 20;
/// A client that has read nothing for so long, with a full queue, is disconnected.
const PATIENCE: Duration = Duration::from_secs(10);

/// The gateway's end.
#[derive(Debug)]
pub(super) struct EventQueue {
    messages: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    gone: CancellationToken,
}

/// The client's end.
#[derive(Debug)]
pub(super) struct EventSource {
    messages: mpsc::Receiver<(Bytes, OwnedSemaphorePermit)>,
    gone: CancellationToken,
}

/// A queue that is of no use any more once `gone` is cancelled, be it because the client does not read.
pub(super) fn event_queue(gone: &CancellationToken) -> (EventQueue, EventSource) {
    let (tx, messages) = mpsc::channel(MESSAGES);
    let queue = EventQueue { messages: tx, room: Arc::new(Semaphore::new(BYTES as usize)), gone: gone.clone() };
    (queue, EventSource { messages, gone: gone.clone() })
}

impl EventQueue {
    /// Queues a message, and waits a while for room. Cancel-safe: a dropped call queued nothing.
    pub(super) async fn put(&self, message: Bytes) {
        let enqueue = async {
            let size = u32::try_from(message.len()).unwrap_or(u32::MAX).clamp(1, BYTES);
            let room = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
            self.messages.send((message, room)).await.ok()
        };
        tokio::select! {
            queued = timeout(PATIENCE, enqueue) => match queued {
                Ok(Some(())) => {}
                Ok(None) => self.gone.cancel(),
                Err(_) => {
                    tracing::debug!("a client does not read its event stream; it is disconnected");
                    self.gone.cancel();
                }
            },
            () = self.gone.cancelled() => {}
        }
    }
}

impl EventSource {
    /// The next message; `None` once the client is disconnected. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => None,
            message = self.messages.recv() => message.map(|(message, _)| message),
        }
    }

    /// The next message, if one waits.
    pub(super) fn try_next(&mut self) -> Option<Bytes> {
        self.messages.try_recv().ok().map(|(message, _)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_disconnected_after_a_while() {
        let gone = CancellationToken::new();
        let (queue, mut source) = event_queue(&gone);
        let half = Bytes::from(vec![0; 9 << 20]);
        queue.put(half.clone()).await;
        let began = tokio::time::Instant::now();
        queue.put(half.clone()).await;
        assert!(gone.is_cancelled() && began.elapsed() >= PATIENCE);
        assert_eq!(source.next().await, None);
    }

    #[tokio::test]
    async fn a_full_queue_waits_for_a_client_that_reads() {
        let gone = CancellationToken::new();
        let (queue, mut source) = event_queue(&gone);
        let large = Bytes::from(vec![0; 20 << 20]);
        let (_, read) = tokio::join!(
            async {
                queue.put(large.clone()).await;
                queue.put(large.clone()).await;
            },
            async { (source.next().await, source.next().await) }
        );
        assert!(read.0.is_some() && read.1.is_some() && !gone.is_cancelled());
    }
}
