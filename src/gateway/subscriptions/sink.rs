//! Where a modern client's notifications are put until its stream takes them.

use bytes::Bytes;
use parking_lot::Mutex;

use super::{covers, maybe_updated, retagged};
use crate::{
    gateway::outbox::{Inlet, Outbox, outbox},
    mcp::{Field, Id, Message, Splices},
};

/// The inlet of one `subscriptions/listen` stream, shared by everybody who feeds it.
#[derive(Debug)]
pub(in crate::gateway) struct ListenSink {
    /// Of the listen request, which is the tag of every message.
    id: Id,
    inlet: Mutex<Inlet>,
}

impl ListenSink {
    pub(in crate::gateway) fn new(id: Id) -> (Self, Outbox) {
        let (inlet, outbox) = outbox();
        (Self { id, inlet: Mutex::new(inlet) }, outbox)
    }

    /// Puts a notification there under the client's own subscription; `splices` may hold other changes to it.
    pub(super) fn put(&self, message: &Message, mut splices: Splices) {
        retagged(message, Some(self.id.as_json()), &mut splices);
        self.send(splices.apply(message.bytes()));
    }

    /// An upstream's update, if one of `uris` covers it.
    pub(super) fn put_update<'a>(&self, message: &Message, uris: impl IntoIterator<Item = &'a Box<str>>) {
        let Some(updated) = message.text(Field::Uri) else { return };
        if uris.into_iter().any(|uri| covers(uri, &updated)) {
            self.put(message, Splices::new());
        }
    }

    /// Says that a resource may have changed.
    pub(super) fn put_maybe_updated(&self, uri: &str) {
        if let Ok(message) = Message::parse(maybe_updated(uri)) {
            self.put(&message, Splices::new());
        }
    }

    fn send(&self, message: Bytes) {
        if self.inlet.lock().put(message).is_err() {
            tracing::debug!("a client does not read its subscription; a message was dropped");
        }
    }
}
