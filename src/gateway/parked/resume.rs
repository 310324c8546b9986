//! A modern client comes back to a call that waits.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Arguments, Askable, Attachment, Retry,
    state::{Kind, RequestState},
};
use crate::{
    auth::Caller,
    bridge,
    gateway::{Client, EventReply, Gateway, GatewayError, Reply, forward::Forward, route::Route},
    mcp::{Era, Field, Message, Method, digest::digest},
    upstream::ClientCapabilities,
};

/// The requests that a modern server may answer by asking for input (MCP 2026-07-28, basic/patterns/mrtr).
pub(super) fn may_want_input(method: Method) -> bool {
    matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
}

impl Askable {
    /// For a request whose client declared these capabilities.
    pub(in crate::gateway) fn of(request: &Forward<'_>, capabilities: ClientCapabilities) -> Option<Self> {
        (may_want_input(request.method) && capabilities.any()).then(|| Self {
            capabilities,
            principal: request.caller.principal().clone(),
            upstream: request.route.upstream.name().clone(),
            method: request.method,
            name: Arc::clone(&request.route.name),
            arguments: Arguments::Raw(request.message.raw(Field::Arguments)),
            again: request.again,
        })
    }
}

impl Gateway {
    /// Whether a request goes on with a call that waits, and was admitted when it began.
    pub(in crate::gateway) fn goes_on(&self, caller: &Caller, client: &Client, method: Method, message: &Message, route: &Route) -> bool {
        if !matches!(client, Client::Modern(_)) || !may_want_input(method) {
            return false;
        }
        let Some(token) = message.text(Field::RequestState) else { return false };
        let arguments = message.raw(Field::Arguments);
        let (principal, upstream) = (caller.principal(), route.upstream.name().as_str());
        let bond = super::state::bond(principal, upstream, method, &route.name, arguments.as_deref());
        let content = self.parking.sealer.open(&bond, &token);
        let state = content.and_then(|content| RequestState::decode(&content)).filter(|state| state.kind == Kind::Waiting);
        state.is_some_and(|state| self.parking.find(&state.id, principal).is_some())
    }

    /// The reply to a request that continues one of before. `None`: it is a call of its own, or one that is made again.
    ///
    /// # Errors
    /// The state is none of ours, or was given out to another principal or for another request, or is used up or expired.
    pub(in crate::gateway) async fn resume(self: &Arc<Self>, request: &mut Forward<'_>) -> Result<Option<Reply>, GatewayError> {
        let upstream = &request.route.upstream;
        let is_bridged = matches!(request.client, Client::Modern(_))
            && upstream.generation().is_ok_and(|generation| generation.era_for(Era::Modern) == Era::Legacy);
        if !is_bridged || !may_want_input(request.method) {
            return Ok(None);
        }
        let token = request.message.text(Field::RequestState).ok_or(GatewayError::InvalidState)?;
        let arguments = request.message.raw(Field::Arguments);
        let principal = request.caller.principal();
        let bond = super::state::bond(principal, upstream.name().as_str(), request.method, &request.route.name, arguments.as_deref());
        let content = self.parking.sealer.open(&bond, &token);
        let state = content.and_then(|content| RequestState::decode(&content)).ok_or(GatewayError::InvalidState)?;
        if state.expires <= self.surroundings.clock.now() {
            return Err(GatewayError::InvalidState);
        }
        let responses = request.message.raw(Field::InputResponses);
        if state.kind == Kind::Again {
            if !self.parking.spend(state.id) {
                return Err(GatewayError::InvalidState);
            }
            if !responses.as_deref().is_some_and(bridge::all_accepted) {
                return Err(GatewayError::InvalidParams("the server wants the user to visit a URL first, which was not accepted"));
            }
            request.again = state.round;
            return Ok(None);
        }
        let retries = self.parking.find(&state.id, principal).ok_or(GatewayError::InvalidState)?;
        let id = request.message.id().cloned().ok_or(GatewayError::InvalidParams("a request needs an id"))?;
        let (attachment, attached) = Attachment::of(&request.message, &id);
        let (verdict, said) = oneshot::channel();
        let digest = digest(responses.as_deref().unwrap_or(b"{}"));
        let retry = Retry { round: state.round, digest, responses, attachment, verdict };
        // Where nobody takes it any more, the call is over.
        retries.send(retry).await.map_err(|_| GatewayError::InvalidState)?;
        said.await.unwrap_or(Err(GatewayError::InvalidState))?;
        Ok(Some(Reply::Events(Box::new(EventReply::attached(attached)))))
    }
}
