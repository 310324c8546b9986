//! Calls that a legacy server takes as a task only (MCP 2025-11-25, basic/utilities/tasks, `taskSupport: "required"`). A modern
//! client knows no such tasks: the gateway makes one, and the client waits for its result as for any other.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::{Client, forward::Forward, relay::Relay};
use crate::{
    bridge::MAX_TASK_ID,
    mcp::{Era, Field, Id, Kind, Message, Method, Splices, build, json::lookup, splice::object},
    upstream::{Generation, Outgoing, Session, UpstreamError},
};

/// What the server made of the call.
pub(super) enum Made {
    /// The raw id of a task.
    Task(Bytes),
    /// It answered as if it were any call.
    Answer(Box<Message>),
}

/// Whether the call has to be made as a task, by a client that does not know these.
pub(super) fn has_to_be_a_task(request: &Forward<'_>, era: Era) -> bool {
    let is_bridged = era == Era::Legacy && matches!(request.client, Client::Modern(_)) && request.method == Method::ToolsCall;
    is_bridged && request.route.view.catalog.is_task_only(request.route.index, &request.route.name)
}

/// Has the server make a task of `call`. Progress is reported under the number of `call` later, too.
///
/// # Errors
/// [`UpstreamError`]
pub(super) async fn make(generation: &Generation, session: &Arc<Session>, call: &Outgoing, limit: usize) -> Result<Made, UpstreamError> {
    let message = super::relay::read(call.body.clone())?;
    let id = session.next_id();
    let mut splices = Splices::new();
    if let (Some(id_span), Some(params)) = (message.id_span(), message.params_span()) {
        splices.replace(id_span, Id::from_u64(id).into_json());
        splices.set_member(message.bytes(), params, "task", b"{}").map_err(|error| UpstreamError::protocol(error.to_string()))?;
    }
    let body = splices.apply(message.bytes());
    let request = Outgoing { body, id, owner: call.owner, caller: call.caller.clone(), routing: HeaderMap::new(), is_endless: false };
    let answer = generation.request(Some(session), request, limit).await?;
    let result = answer.raw(Field::Result).filter(|_| answer.kind() == Kind::Response).unwrap_or_default();
    let task = lookup(&result, &["task", "taskId"]).filter(|id| id.starts_with(b"\""));
    if task.is_some_and(|id| id.len() > MAX_TASK_ID) {
        return Err(UpstreamError::protocol("its task has an id that is too long"));
    }
    Ok(task.map_or_else(|| Made::Answer(Box::new(answer.clone())), |id| Made::Task(result.slice_ref(id))))
}

/// The request for the task's result, in the place of the call.
pub(super) fn result_of(call: &mut Outgoing, task: &[u8]) {
    call.body = build::request(&Id::from_u64(call.id), Method::TasksResult, Some(&object(&[("taskId", task)])));
}

impl Relay {
    /// What is waited for is the result of this task.
    pub(super) fn waits_for(&mut self, task: Bytes) {
        self.parties.task = Some(task);
    }

    /// Nobody waits for the task any more.
    pub(super) fn cancel_task(&self) {
        let (Some(task), Some(session)) = (&self.parties.task, &self.parties.session) else { return };
        let (session, id) = (Arc::clone(session), session.next_id());
        let body = build::request(&Id::from_u64(id), Method::TasksCancel, Some(&object(&[("taskId", task)])));
        let generation = self.parties.upstream.generation().unwrap_or_else(|_| Arc::clone(&self.parties.generation));
        let limit = self.parties.gateway.config().bounds.max_event;
        let request = Outgoing { body, id, owner: None, caller: None, routing: HeaderMap::new(), is_endless: false };
        self.parties.gateway.tasks.spawn(async move {
            if let Err(error) = generation.request(Some(&session), request, limit).await {
                tracing::debug!(%error, "a task could not be cancelled");
            }
        });
    }
}
