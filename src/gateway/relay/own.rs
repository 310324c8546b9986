//! What a server may say in a call: of this call, and of nobody else's.

use super::{Relay, Taken};
use crate::{
    gateway::{Client, flights::same_token},
    mcp::{Field, Message, Splices},
};

impl Relay {
    /// Whether a response is the one to this request. A server may write a string in another way than the client did.
    pub(super) fn is_answered_by(&self, response: &Message) -> bool {
        response.id().is_some_and(|id| id.same(self.expected().as_json()))
    }

    /// Whether progress under this token, raw, may be this call's. A client that has a session may hear here of another call
    /// of the same server's, of a task for instance, but never of another server's.
    pub(super) fn may_speak_of(&self, token: &[u8]) -> bool {
        let parties = &self.parties;
        if parties.token.as_deref().is_some_and(|own| same_token(own, token)) {
            return true;
        }
        match &parties.client {
            // On a channel every token is ours, and this call has none.
            Client::Legacy(_) if parties.session.as_ref().is_some_and(|session| session.is_channel()) => false,
            Client::Legacy(down) => !down.flights.is_of_another(parties.upstream.id(), token),
            // Every stream is one request's.
            Client::Modern(_) => false,
        }
    }

    /// A server takes back what it asked the client.
    pub(super) fn take_back(&self, message: &Message) -> Taken {
        let (Client::Legacy(down), Some(session)) = (&self.parties.client, &self.parties.session) else { return Taken::Nothing };
        let granted = message.cancelled_id().and_then(|id| down.taken_back(session, &id));
        let (Some(granted), Some(span)) = (granted, message.span(Field::RequestId)) else { return Taken::Nothing };
        let mut splices = Splices::new();
        splices.replace(span, granted.into_json());
        Taken::Send(splices.apply(message.bytes()))
    }
}
