//! What a response becomes for its client: the answer, or a call that goes on.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::{
    Client, EventReply, Reply,
    again::Again,
    conversation::{Unfinished, Why},
    flights::InFlight,
    relay::{Relay, Renumbered},
};
use crate::{
    bridge::{self, Fit, LeadsOn},
    mcp::{
        Kind, Message, Splices, build,
        errors::{ErrorParts, code},
    },
    upstream::{Generation, UpstreamError},
};

/// What a response is to the client.
pub(super) enum Adapted {
    Ready(Bytes, StatusCode),
    Unfinished(Box<Unfinished>),
}

/// For which of the server's refusals the call may still be made again; each counts once.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayRepeat {
    /// With the tasks extension declared.
    pub(super) with_tasks: bool,
    /// With the headers that the tool wants by now.
    pub(super) with_headers: bool,
}

impl Relay {
    pub(super) fn take_again(&mut self) -> Option<Box<Again>> {
        self.parties.again.take()
    }

    /// The call is made again, under another id.
    pub(super) fn begins_again(&mut self, generation: &Arc<Generation>, renumbered: Renumbered) {
        let parties = &mut self.parties;
        parties.generation = Arc::clone(generation);
        if let (Client::Legacy(down), Some(session)) = (&parties.client, &parties.session) {
            let (session, stop) = (Arc::clone(session), parties.stop.clone());
            let flight = InFlight::Legacy { generation: Arc::clone(generation), session, id: renumbered.id, stop };
            down.flights.goes_on(&parties.client_id, flight);
        }
        parties.renumbered = Some(renumbered);
        self.answered = false;
    }

    /// Makes a response fit the client, or says how the call goes on.
    ///
    /// # Errors
    /// It cannot be shown to this client.
    pub(super) fn adapt(&mut self, message: Message) -> Result<Adapted, UpstreamError> {
        if message.kind() == Kind::ErrorResponse
            && let Some(why) = self.repeats(&message)
        {
            return Ok(Adapted::Unfinished(Box::new(Unfinished { message, why })));
        }
        self.adapt_last(message)
    }

    /// Whether the server refused the call for something that can be done in another way.
    fn repeats(&mut self, message: &Message) -> Option<Why> {
        let MayRepeat { with_tasks, with_headers } = &mut self.may_repeat;
        let is_mismatch = || ErrorParts::of(message).is_some_and(|error| error.code == code::HEADER_MISMATCH);
        if *with_tasks && bridge::needs_tasks(message) {
            *with_tasks = false;
            return Some(Why::NeedsTasks);
        }
        if *with_headers && is_mismatch() {
            *with_headers = false;
            return Some(Why::Headers);
        }
        None
    }

    /// As [`Relay::adapt`], but the call is not made again.
    ///
    /// # Errors
    /// It cannot be shown to this client.
    pub(super) fn adapt_last(&self, message: Message) -> Result<Adapted, UpstreamError> {
        if let Some(askable) = self.askable()
            && let Some(result) = askable.visit_first(self.gateway(), &message)
        {
            return Ok(Adapted::Ready(build::response(self.client_id(), &result), StatusCode::OK));
        }
        let mut splices = Splices::new();
        match message.id_span() {
            Some(span) => splices.replace(span, self.parties.client_id.clone().into_json()),
            None => bridge::add_id(&mut splices, &message, &self.parties.client_id),
        }
        if let Some(tasks) = &self.parties.tasks {
            tasks.show_in_answer(&mut splices, &message, self.parties.method);
        }
        let why = match bridge::adapt_response(&mut splices, &message, self.parties.method, self.up(), self.down())? {
            Fit::Shown(status) => return Ok(Adapted::Ready(splices.apply(message.bytes()), status)),
            Fit::Leads(LeadsOn::Input) => Why::Input,
            Fit::Leads(LeadsOn::Task) => Why::Task,
        };
        Ok(Adapted::Unfinished(Box::new(Unfinished { message, why })))
    }

    /// The call goes on, and its answer becomes a stream.
    pub(super) fn goes_on(self, unfinished: Unfinished) -> Result<Reply, UpstreamError> {
        let last = tokio::time::Instant::now() + self.call_timeout_max();
        let events = EventReply::unfinished(self, unfinished, last);
        events.map(|events| Reply::Events(Box::new(events))).ok_or_else(|| UpstreamError::protocol("a result that leads nowhere"))
    }
}
