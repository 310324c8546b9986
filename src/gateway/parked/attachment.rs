//! The two ends between a call that may wait and a client's request for its result.

use std::time::Duration;

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    gateway::GatewayError,
    mcp::{Field, Id, LogLevel, Message},
};

/// Messages on their way to a client that reads slowly.
const QUEUE: usize = 16;
/// A client that takes nothing for so long is let go of.
const PATIENCE: Duration = Duration::from_secs(30);

/// The call's end.
#[derive(Debug)]
pub(in crate::gateway) struct Attachment {
    /// Of the client's request.
    pub(in crate::gateway) id: Id,
    /// The client's progress token, raw.
    pub(in crate::gateway) token: Option<Bytes>,
    pub(in crate::gateway) log: Option<LogLevel>,
    tx: mpsc::Sender<Piece>,
}

/// The client's end; dropping it is hanging up.
#[derive(Debug)]
pub(in crate::gateway) struct Attached(mpsc::Receiver<Piece>);

/// A message, and whether it is the last one.
type Piece = Result<(Bytes, bool), GatewayError>;

pub(in crate::gateway) fn attach(id: Id, token: Option<Bytes>, log: Option<LogLevel>) -> (Attachment, Attached) {
    let (tx, rx) = mpsc::channel(QUEUE);
    (Attachment { id, token, log, tx }, Attached(rx))
}

impl Attachment {
    /// For a client's request as it came.
    pub(super) fn of(request: &Message, id: &Id) -> (Self, Attached) {
        let log = request.raw(Field::MetaLogLevel).and_then(|level| LogLevel::from_json(&level));
        attach(id.clone(), request.raw(Field::MetaProgressToken), log)
    }

    /// `false` when the client is gone, or as good as gone.
    pub(super) async fn send(&self, message: Bytes) -> bool {
        self.put(Ok((message, false))).await
    }

    pub(super) async fn finish(self, last: Result<Bytes, GatewayError>) {
        self.put(last.map(|message| (message, true))).await;
    }

    async fn put(&self, piece: Piece) -> bool {
        matches!(timeout(PATIENCE, self.tx.send(piece)).await, Ok(Ok(())))
    }

    /// Waits until the client has hung up.
    pub(super) async fn gone(&self) {
        self.tx.closed().await;
    }
}

impl Attached {
    /// The next message, and whether it is the last one. `None`: the call was given up. Cancel-safe.
    pub(in crate::gateway) async fn next(&mut self) -> Option<Piece> {
        self.0.recv().await
    }
}
