//! A legacy client's call to a modern server, to be sent once more: with what the server asked for, or as it wants it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    LegacySession,
    forward::{Forward, mirrored_headers, renumber},
    relay::{Parties, Renumbered},
    view::View,
};
use crate::{
    auth::Caller,
    bridge::{self, Said},
    mcp::{Era, Id, Message, Splices, param_headers::ParamHeaders},
    upstream::{Generation, Outgoing, UpstreamError},
};

/// The call as the client made it, and how it goes up.
#[derive(Debug)]
pub(super) struct Again {
    message: Message,
    caller: Caller,
    view: Arc<View>,
    index: usize,
    /// What the call is about, as the upstream calls it.
    name: Arc<str>,
    is_renamed: bool,
    /// The tool's header annotations, where they were read anew.
    annotations: Option<ParamHeaders>,
    /// The tasks extension is declared.
    pub(super) tasks: bool,
    /// What the server asked for last.
    pub(super) input: Input,
}

/// What goes into a repeated call besides what the client said; all of it raw JSON.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) responses: Option<Bytes>,
    pub(super) state: Option<Bytes>,
}

impl Again {
    pub(super) fn of(request: &Forward<'_>) -> Self {
        let route = &request.route;
        Self {
            message: request.message.clone(),
            caller: request.caller.clone(),
            view: Arc::clone(&route.view),
            index: route.index,
            name: Arc::clone(&route.name),
            is_renamed: route.rename.is_some(),
            annotations: None,
            tasks: false,
            input: Input::default(),
        }
    }

    /// What the call is about, as the upstream calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn mirrors(&mut self, annotations: ParamHeaders) {
        self.annotations = Some(annotations);
    }

    /// The call under a new id: it is a request of its own (MCP 2026-07-28, basic/patterns/mrtr).
    ///
    /// # Errors
    /// What was put together is no message.
    pub(super) fn outgoing(
        &self,
        parties: &Parties,
        down: &LegacySession,
        generation: &Generation,
    ) -> Result<(Outgoing, Renumbered), UpstreamError> {
        let Input { responses, state } = &self.input;
        let message = if responses.is_none() && state.is_none() {
            self.message.clone()
        } else {
            let body = bridge::with_input(&self.message, responses.as_deref(), state.as_deref());
            Message::parse(body).map_err(|error| UpstreamError::protocol(format!("what it asked for makes no message: {error}")))?
        };
        let mut splices = Splices::new();
        if let Some(span) = parties.method.name_field().and_then(|field| message.span(field)).filter(|_| self.is_renamed) {
            splices.replace_string(span, &self.name);
        }
        bridge::adapt_request(&mut splices, &message, Era::Legacy, Era::Modern, generation.version(), || said(down, self.tasks));
        let renumbered = match &parties.session {
            Some(session) => renumber(&mut splices, session, &message, true),
            None => {
                let id = fresh_id(generation, &parties.client_id);
                if let Some(span) = message.id_span() {
                    splices.replace(span, Id::from_u64(id).into_json());
                }
                Renumbered { id, token: None }
            }
        };
        let mut routing = HeaderMap::new();
        if !generation.is_stdio() {
            routing = self.mirrored(&message, parties);
            bridge::standard_headers(&mut routing, parties.method, &self.name);
        }
        let body = splices.apply(message.bytes());
        Ok((
            Outgoing { body, id: renumbered.id, owner: Some(down.id()), caller: Some(self.caller.clone()), routing, is_endless: false },
            renumbered,
        ))
    }

    fn mirrored(&self, message: &Message, parties: &Parties) -> HeaderMap {
        match &self.annotations {
            Some(annotations) => headers_of(annotations, message),
            None => mirrored_headers(message, parties.method, &self.view.catalog, self.index, &self.name),
        }
    }
}

/// The headers of a call whose tool wants some of its arguments repeated.
pub(super) fn headers_of(annotations: &ParamHeaders, message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let arguments = message.raw(crate::mcp::Field::Arguments);
    for (name, value) in annotations.values(arguments.as_deref()) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What a modern server is told about a legacy client.
pub(super) fn said(down: &LegacySession, tasks: bool) -> Said {
    let declared = down.declared();
    let capabilities = if tasks { declared.capabilities_with_tasks() } else { declared.capabilities() };
    Said { client_info: down.record.client_info.clone(), log_level: down.log_level(), capabilities: capabilities.clone() }
}

/// An id that the client's own request did not have.
fn fresh_id(generation: &Generation, client_id: &Id) -> u64 {
    loop {
        let id = generation.own_id();
        if Id::from_u64(id) != *client_id {
            return id;
        }
    }
}
