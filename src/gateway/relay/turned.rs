//! A modern client's call in a legacy session: what its server says is turned to whichever request of the client is open.

use bytes::Bytes;

use super::Relay;
use crate::{
    bridge,
    gateway::parked::{Aside, Askable, Attachment},
    mcp::{Era, Field, Id, LogLevel, Message},
    names::UpstreamName,
};

impl Relay {
    /// With what the server may say beside the call's own stream.
    pub(in crate::gateway) fn beside(mut self, aside: Aside) -> Self {
        self.aside = aside;
        self
    }

    pub(in crate::gateway) fn aside(&mut self) -> &mut Aside {
        &mut self.aside
    }

    pub(in crate::gateway) fn askable(&self) -> Option<&Askable> {
        self.aside.askable.as_deref()
    }

    pub(in crate::gateway) fn client_id(&self) -> &Id {
        &self.parties.client_id
    }

    /// The client's progress token, raw.
    pub(in crate::gateway) fn token(&self) -> Option<Bytes> {
        self.parties.renumbered.as_ref().and_then(|renumbered| renumbered.token.clone())
    }

    pub(in crate::gateway) fn log(&self) -> Option<LogLevel> {
        self.parties.log
    }

    pub(in crate::gateway) fn upstream(&self) -> &UpstreamName {
        self.parties.upstream.name()
    }

    /// What comes from now on is for this request of the client's.
    pub(in crate::gateway) fn turn_to(&mut self, attachment: &Attachment) {
        self.parties.client_id = attachment.id.clone();
        self.parties.log = attachment.log;
        if let Some(renumbered) = &mut self.parties.renumbered {
            renumbered.token.clone_from(&attachment.token);
        }
    }

    /// Whether the client asked for this log message. A session that several share says what any of them wants.
    pub(super) fn wants(&self, message: &Message) -> bool {
        let Some(wanted) = self.parties.log else { return false };
        let level = || message.raw(Field::Level).and_then(|level| LogLevel::from_json(&level));
        self.up() == Era::Modern || level().is_none_or(|level| level >= wanted)
    }

    /// Tells the server that nobody can be asked this.
    pub(in crate::gateway) fn decline(&mut self, request: &Message) {
        if let Some(id) = request.id() {
            self.answer_up(bridge::declined(id));
        }
    }
}
