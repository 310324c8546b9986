//! A call's stream that is written down as it is said, and goes on to be when its client hangs up.

use std::time::Duration;

use bytes::Bytes;

use super::{
    EventReply,
    audit::Draft,
    replay::{EventId, Recorder, Said},
    reply::Source,
    tally::Outcome,
};
use crate::mcp::Id;

impl EventReply {
    /// Writes the stream down from now on, so that the client may come back for it; `false` where it could not. `id`: the call's.
    pub fn record(&mut self, id: Option<&Id>) -> bool {
        let session = match &self.source {
            Source::Upstream(Some(relayed)) => relayed.relay.client().session(),
            Source::Conversation(conversation) => Some(conversation.client()),
            Source::Upstream(None) | Source::Own(_) | Source::Parked(_) => None,
        };
        self.recorder = session.zip(id).and_then(|(session, id)| Recorder::begin(session, id.clone()));
        self.recorder.is_some()
    }

    /// Of the last message, or of the opening of the stream; where it is recorded.
    pub fn last_id(&self) -> Option<EventId> {
        self.recorder.as_ref().map(Recorder::last_id)
    }

    /// The client expects an event that opens the stream.
    pub fn is_primed(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::is_primed)
    }

    /// Waits until the client reads on over another connection. Cancel-safe.
    pub fn taken_over(&self) -> impl Future<Output = ()> + Send + use<> {
        let taken_over = self.recorder.as_ref().map(Recorder::taken_over);
        async move {
            match taken_over {
                Some(taken_over) => taken_over.await,
                None => std::future::pending().await,
            }
        }
    }

    /// After the end: it was none. The upstream hung up, and wants its clients to come back after this pause.
    pub fn take_pause(&mut self) -> Option<Duration> {
        self.source.take_pause()
    }

    /// The client has it all.
    pub fn delivered(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            recorder.forget();
        }
    }

    pub(super) fn recorded(&self, message: Bytes) -> Bytes {
        if let Some(recorder) = &self.recorder {
            recorder.keep(Said::Message(message.clone()));
        }
        message
    }
}

impl Source {
    /// The upstream hung up, and what it says next comes after a pause.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self, Self::Upstream(Some(relayed)) if relayed.paused.is_some())
    }

    pub(super) fn take_pause(&mut self) -> Option<Duration> {
        match self {
            Self::Upstream(Some(relayed)) => relayed.paused.take(),
            Self::Upstream(None) | Self::Own(_) | Self::Conversation(_) | Self::Parked(_) => None,
        }
    }

    fn hurry(&mut self) {
        if let Self::Upstream(Some(relayed)) = self {
            relayed.messages.hurry();
        }
    }

    /// Goes on to the end for a client that hung up, and writes down what it may come back for.
    pub(super) async fn run_out(mut self, recorder: Option<Recorder>, mut draft: Option<Box<Draft>>) {
        let keep = |said| recorder.as_ref().map_or((), |recorder| recorder.keep(said));
        let mut taken_over = Box::pin(async {
            match &recorder {
                Some(recorder) => recorder.taken_over().await,
                None => std::future::pending().await,
            }
        });
        let mut came_back = false;
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = &mut taken_over, if !came_back => {
                    came_back = true;
                    if let Some(draft) = &mut draft {
                        draft.client_came_back();
                    }
                    // A client that comes back sooner than it was asked to is the upstream's affair.
                    self.hurry();
                    continue;
                }
            };
            match next {
                Some(Ok((message, is_last))) => {
                    if let (true, Some(draft)) = (is_last, &mut draft) {
                        draft.passes(&message);
                        draft.ends(Outcome::Ok);
                    }
                    keep(Said::Message(message));
                    if is_last {
                        return;
                    }
                }
                Some(Err(error)) => {
                    if let Some(draft) = &mut draft {
                        draft.fails(&error, false);
                    }
                    if let Some(recorder) = &recorder {
                        recorder.keep(recorder.failed(error));
                    }
                    return;
                }
                None if self.take_pause().is_some() => {}
                None => return,
            }
        }
    }
}
