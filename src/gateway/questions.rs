//! What a legacy client is asked by the gateway on behalf of modern servers, which cannot ask it themselves.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::LegacySession;
use crate::{
    bridge::InputRequest,
    mcp::{Id, Message},
    session::SessionId,
    upstream::UpstreamId,
};

/// Questions that may wait for one client at a time.
const MAX_OPEN: usize = 128;
/// Those of one upstream among them, so that it leaves room for the others.
const MAX_OPEN_OF_ONE: usize = 64;

/// The open questions of one session. Only its client can answer them.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<Id, Open>>);

#[derive(Debug)]
struct Open {
    upstream: UpstreamId,
    /// Which of those that were asked together.
    number: usize,
    /// Takes one answer to each question, and there are few of them.
    answer: mpsc::UnboundedSender<(usize, Message)>,
}

/// Questions that are asked together; withdrawn when dropped.
#[derive(Debug)]
pub(super) struct Asking {
    session: Arc<LegacySession>,
    upstream: UpstreamId,
    /// Unguessable, and each good for one answer.
    ids: Vec<Id>,
    answer: mpsc::UnboundedSender<(usize, Message)>,
    answers: mpsc::UnboundedReceiver<(usize, Message)>,
}

impl Questions {
    /// Takes a client's answer; gives it back when it answers none of these.
    pub(super) fn answered(&self, message: Message) -> Option<Message> {
        let open = message.id().and_then(|id| self.0.lock().remove(id));
        let Some(open) = open else { return Some(message) };
        if open.answer.send((open.number, message)).is_err() {
            tracing::debug!("an answer came when nobody waited for it any more");
        }
        None
    }
}

impl Asking {
    pub(super) fn new(session: &Arc<LegacySession>, upstream: UpstreamId) -> Self {
        let (answer, answers) = mpsc::unbounded_channel();
        Self { session: Arc::clone(session), upstream, ids: Vec::new(), answer, answers }
    }

    /// Opens another question and gives the message that asks it. `None`: too many are open.
    pub(super) fn open(&mut self, request: &InputRequest) -> Option<Bytes> {
        let id = self.session.question_id();
        {
            let mut open = self.session.questions.0.lock();
            let of_this = open.values().filter(|open| open.upstream == self.upstream).count();
            if open.len() >= MAX_OPEN || of_this >= MAX_OPEN_OF_ONE {
                return None;
            }
            open.insert(id.clone(), Open { upstream: self.upstream, number: self.ids.len(), answer: self.answer.clone() });
        }
        let message = request.message(&id, self.session.declared(), &SessionId::random().to_string());
        self.ids.push(id);
        Some(message)
    }

    /// The next answer, and which question it answers. Cancel-safe.
    pub(super) async fn next(&mut self) -> (usize, Message) {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Never: a sender is kept here.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut open = self.session.questions.0.lock();
        for id in &self.ids {
            open.remove(id);
        }
    }
}
