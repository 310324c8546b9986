//! Messages to a child: a queue bounded in messages and bytes, written in batches.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt as _,
    process::ChildStdin,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};
use tracing::debug;

use crate::names::UpstreamName;

/// Messages that may wait for the child to read.
const QUEUE: usize = 256;

/// Bytes that may wait. A single larger message takes all of it.
const QUEUE_BYTES: u32 = 16 * 1024 * 1024;

/// How long a message may wait for room: a child that reads nothing for this long is stuck.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// Small messages are gathered up to this size into one write.
const BATCH: usize = 64 * 1024;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The child ended or closed its stdin; the message was not delivered.
    #[error("the child no longer reads its stdin")]
    Closed,
    /// The child has not read its stdin for too long; the message was not queued.
    #[error("the child does not read its stdin, and the queue for it is full")]
    Full,
}

/// Writes messages to a child; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Queued {
    message: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Outbound {
    /// Queues one JSON message, without a newline at its end.
    ///
    /// Newlines between tokens become spaces, because a newline ends a message on this transport (inside strings JSON has none).
    /// Cancel-safe: a dropped call queued nothing.
    ///
    /// # Errors
    /// [`SendError`]; the message was then not sent at all.
    pub async fn send(&self, message: Bytes) -> Result<(), SendError> {
        let message = on_one_line(message);
        timeout(ROOM_WAIT, self.enqueue(message)).await.unwrap_or(Err(SendError::Full))
    }

    async fn enqueue(&self, message: Bytes) -> Result<(), SendError> {
        let size = u32::try_from(message.len()).unwrap_or(u32::MAX).clamp(1, QUEUE_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.map_err(|_| SendError::Closed)?;
        self.queue.send(Queued { message, _room: room }).await.map_err(|_| SendError::Closed)
    }
}

/// Keeps the task that writes; dropping it closes the child's stdin at once.
#[derive(Debug)]
pub(super) struct Writer {
    room: Arc<Semaphore>,
    closing: Option<oneshot::Sender<()>>,
    task: AbortHandle,
}

impl Writer {
    /// Takes no more messages; lets what is queued be written, then closes stdin.
    pub(super) fn close(&mut self) {
        self.room.close();
        if let Some(closing) = self.closing.take() {
            // An error means that the writer has already ended.
            let _ = closing.send(());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.room.close();
        self.task.abort();
    }
}

/// Starts the writer of one child's stdin.
pub(super) fn open(stdin: ChildStdin, name: UpstreamName) -> (Outbound, Writer) {
    let (queue, queued) = mpsc::channel(QUEUE);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
    let (closing, close) = oneshot::channel();
    let ends = EndsWaiting(Arc::clone(&room));
    let task = tokio::spawn(async move {
        if let Err(error) = write(stdin, queued, close).await {
            debug!(upstream = %name, %error, "the child's stdin is closed");
        }
        drop(ends);
    });
    let writer = Writer { room: Arc::clone(&room), closing: Some(closing), task: task.abort_handle() };
    (Outbound { queue, room }, writer)
}

/// Wakes senders that wait for room when the writer ends, however it ends.
struct EndsWaiting(Arc<Semaphore>);

impl Drop for EndsWaiting {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn write(mut stdin: ChildStdin, mut queued: mpsc::Receiver<Queued>, mut close: oneshot::Receiver<()>) -> std::io::Result<()> {
    let mut batch = BytesMut::new();
    let mut closing = false;
    loop {
        let first = tokio::select! {
            biased;
            _ = &mut close, if !closing => {
                closing = true;
                queued.close();
                continue;
            }
            next = queued.recv() => next,
        };
        let Some(first) = first else { return stdin.shutdown().await };
        let mut rooms = Vec::new();
        let mut next = Some(first);
        while let Some(Queued { message, _room: room }) = next {
            batch.extend_from_slice(&message);
            batch.extend_from_slice(b"\n");
            rooms.push(room);
            next = if batch.len() < BATCH { queued.try_recv().ok() } else { None };
        }
        stdin.write_all(&batch).await?;
        stdin.flush().await?;
        batch.clear();
        if batch.capacity() > 4 * BATCH {
            batch = BytesMut::new();
        }
    }
}

fn on_one_line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    message.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretty_printed_message_becomes_one_line() {
        let pretty = Bytes::from_static(b"{\n  \"id\": 1,\r\n  \"s\": \"a\\nb\"\n}");
        assert_eq!(on_one_line(pretty), Bytes::from_static(b"{   \"id\": 1,    \"s\": \"a\\nb\" }"));
    }
}
