//! Drives a modern server's task for a legacy client, which waits for the result of its call as for any other
//! (extension `io.modelcontextprotocol/tasks`, 2026-07-28).

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::sleep;

use super::{
    Gateway, LegacySession,
    adapt::Adapted,
    again::said,
    conversation::{Ended, Talk},
};
use crate::{
    bridge::{self, Status, Task, task_params},
    mcp::{
        Field, Id, Kind, Message, Method, build,
        errors::{code, error_response},
        splice::object,
    },
    upstream::{Outgoing, Session, Upstream, UpstreamError},
};

/// Looks at a task that may fail in a row.
const MAX_MISSES: u32 = 3;

/// A task at work. When dropped before its end, the server is told that nobody needs it any more.
struct Running {
    gateway: Arc<Gateway>,
    about: About,
    has_ended: bool,
}

/// What a request about a task needs.
#[derive(Clone)]
struct About {
    upstream: Arc<Upstream>,
    session: Option<Arc<Session>>,
    client: Arc<LegacySession>,
    id: Arc<str>,
    max_answer: usize,
}

impl Talk {
    /// Waits for the end of the task that the server made of the call, and asks the client what the task asks for.
    pub(super) async fn drive(&mut self, created: &Message) -> Result<Bytes, Ended> {
        let parties = &self.relay.parties;
        let task = Task::read(&created.raw(Field::Result).unwrap_or_default())?;
        let about = About {
            upstream: Arc::clone(&parties.upstream),
            session: parties.session.clone(),
            client: Arc::clone(&self.client),
            id: task.id.into(),
            max_answer: self.relay.gateway().config().bounds.max_event,
        };
        let mut running = Running { gateway: Arc::clone(self.relay.gateway()), about, has_ended: false };
        let (mut pause, mut misses) = (task.pause, 0);
        let mut answered: HashSet<String> = HashSet::new();
        loop {
            sleep(pause).await;
            let found = match running.about.send(Method::TasksGet, None).await {
                Ok(found) => found,
                // Looking changes nothing, so it is repeated.
                Err(error) if misses + 1 < MAX_MISSES => {
                    misses += 1;
                    tracing::debug!(upstream = %running.about.upstream.name(), %error, "a task could not be looked at");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            misses = 0;
            if found.kind() == Kind::ErrorResponse {
                running.has_ended = true;
                return self.shown(found);
            }
            let task = Task::read(&found.raw(Field::Result).unwrap_or_default())?;
            if task.id != *running.about.id {
                return Err(UpstreamError::protocol("it was asked about one task and speaks of another").into());
            }
            pause = task.pause;
            let ended = match task.status {
                Status::Working => continue,
                Status::InputRequired(mut requests) => {
                    // The server shows a question until it has taken its answer; the client sees it once.
                    requests.retain(|request| !answered.contains(&request.key));
                    if !requests.is_empty() {
                        self.begin_round()?;
                        let responses = self.ask(&requests).await?;
                        answered.extend(requests.into_iter().map(|request| request.key));
                        let taken = running.about.send(Method::TasksUpdate, Some(&responses)).await?;
                        if taken.kind() == Kind::ErrorResponse {
                            return self.shown(taken);
                        }
                    }
                    continue;
                }
                Status::Completed(result) => ("result", result),
                Status::Failed(error) => ("error", error),
                Status::Cancelled => {
                    running.has_ended = true;
                    return Ok(self.cancelled());
                }
            };
            running.has_ended = true;
            return self.ended(ended.0, &ended.1);
        }
    }

    /// The task's own result or error as the answer of the call.
    fn ended(&self, member: &str, outcome: &[u8]) -> Result<Bytes, Ended> {
        if outcome.is_empty() {
            return Err(UpstreamError::protocol("its task has ended without a result").into());
        }
        let id = self.relay.expected();
        let answer = object(&[("jsonrpc", b"\"2.0\""), ("id", id.as_json()), (member, outcome)]);
        let answer = Message::parse(answer.into()).map_err(|error| UpstreamError::protocol(format!("its task's result: {error}")))?;
        self.shown(answer)
    }

    fn shown(&self, answer: Message) -> Result<Bytes, Ended> {
        match self.relay.adapt_last(answer)? {
            Adapted::Ready(message, _) => Ok(message),
            Adapted::Unfinished(_) => Err(UpstreamError::protocol("its task has ended with a result that is none").into()),
        }
    }

    fn cancelled(&self) -> Bytes {
        let parties = &self.relay.parties;
        let words = format!("upstream \"{}\" cancelled the task that it had made of this call", parties.upstream.name());
        error_response(Some(&parties.client_id), code::INTERNAL_ERROR, &words, None)
    }
}

impl About {
    /// Sends a request about the task and gives the whole answer.
    ///
    /// # Errors
    /// [`UpstreamError`]
    async fn send(&self, method: Method, responses: Option<&[u8]>) -> Result<Message, UpstreamError> {
        let generation = self.upstream.generation()?;
        let id = self.session.as_ref().map_or_else(|| generation.own_id(), |session| session.next_id());
        let meta = said(&self.client, true).meta_object(generation.version());
        let body = build::request(&Id::from_u64(id), method, Some(&task_params(&self.id, &meta, responses)));
        let mut routing = HeaderMap::new();
        if !generation.is_stdio() {
            bridge::standard_headers(&mut routing, method, &self.id);
        }
        let outgoing = Outgoing { body, id, owner: Some(self.client.id()), caller: None, routing, is_endless: false };
        generation.request(self.session.as_ref(), outgoing, self.max_answer).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let about = self.about.clone();
        let cancel = async move {
            if let Err(error) = about.send(Method::TasksCancel, None).await {
                tracing::debug!(upstream = %about.upstream.name(), %error, "a task could not be cancelled");
            }
        };
        self.gateway.tasks.spawn_on(cancel, &runtime);
    }
}
