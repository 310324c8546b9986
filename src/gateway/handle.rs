//! The whole path of a request.

use std::sync::Arc;

use http::HeaderMap;

use super::{
    Gateway, GatewayError, LegacySession, Reply, flights::InFlight, forward::Forward, own_tools, rebuild::end_denied, replicas::Changed,
    route::Route, tally::Counted,
};
use crate::{
    auth::{Caller, Toll},
    catalog::OwnTool,
    limits::Charged,
    mcp::{Era, Field, Id, LogLevel, Message, Method, build, list::ListKind},
    upstream::{Generation, Session, Upstream},
};

/// Who a message came from, beyond the caller's identity.
#[derive(Clone, Debug)]
pub enum Client {
    Legacy(Arc<LegacySession>),
    Modern(Arc<ModernClient>),
}

/// A modern client says everything with each request; this is what is not in the message itself.
#[derive(Debug, Default)]
pub struct ModernClient {
    /// `Mcp-Param-*`, which pass on to the upstream. `None`: the client does not speak HTTP, so the gateway makes them.
    pub params: Option<HeaderMap>,
}

/// An upstream in which a client's session has one of its own.
pub(super) struct Reached {
    pub(super) upstream: Arc<Upstream>,
    pub(super) generation: Arc<Generation>,
    pub(super) up: Arc<Session>,
}

impl Client {
    pub fn era(&self) -> Era {
        match self {
            Self::Legacy(_) => Era::Legacy,
            Self::Modern(_) => Era::Modern,
        }
    }

    pub(super) fn session(&self) -> Option<&Arc<LegacySession>> {
        match self {
            Self::Legacy(session) => Some(session),
            Self::Modern(_) => None,
        }
    }
}

impl Gateway {
    /// Answers one request: from memory, or by the upstream that owns what it names.
    ///
    /// # Errors
    /// [`GatewayError`]; an upstream's own JSON-RPC error is a reply, not an error.
    pub async fn handle(self: &Arc<Self>, caller: &Caller, client: &Client, message: Message) -> Result<Reply, GatewayError> {
        let method = Method::parse(message.method()).filter(|method| method.exists_in(client.era()));
        let mut counted = Counted::begin(&self.tally, method).written_to(self.draft(caller, client, method, &message));
        let answered = self.answer(caller, client, message, method, &mut counted).await;
        match answered {
            Ok(reply) => Ok(reply.counted(counted)),
            Err(error) => {
                let mut error = self.after_paying(caller, error).await;
                counted.fails(&mut error, |error| self.is_withheld(caller, error));
                Err(error)
            }
        }
    }

    /// What a request is told that failed: that it was one too many, where its way in was not paid until now.
    async fn after_paying(&self, caller: &Caller, error: GatewayError) -> GatewayError {
        if !caller.toll().is_some_and(Toll::is_owed) {
            return error;
        }
        Box::pin(self.pay(caller)).await.err().unwrap_or(error)
    }

    async fn answer(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: Message,
        method: Option<Method>,
        counted: &mut Counted,
    ) -> Result<Reply, GatewayError> {
        let id = message.id().cloned().ok_or(GatewayError::InvalidParams("a request needs an id"))?;
        let method = method.ok_or_else(|| GatewayError::MethodNotFound(message.method().to_owned()))?;
        self.ears.saw(caller);
        if caller.is_unproven() {
            Box::pin(self.admit_newcomer(caller)).await?;
        }
        if let Some(session) = client.session().filter(|session| session.is_to_end_denied()) {
            end_denied(session, &self.view_for(caller));
        }
        match method {
            Method::Ping => return self.pay(caller).await.map(|()| Reply::result(&id, b"{}")),
            Method::SetLevel => return Box::pin(self.set_level(caller, client, &message, &id)).await,
            Method::Discover => return Box::pin(self.discover(caller, client, message, &id, counted)).await,
            Method::Listen if !self.relays_listen(caller) => {
                return Box::pin(self.listen(caller, client, &message, &id)).await.map(Reply::listening);
            }
            Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                return Box::pin(self.subscription(caller, client, &message, &id, method, counted)).await;
            }
            Method::ToolsList => return Box::pin(self.list(caller, client, message, &id, ListKind::Tools, counted)).await,
            Method::PromptsList => return Box::pin(self.list(caller, client, message, &id, ListKind::Prompts, counted)).await,
            Method::ResourcesList => return Box::pin(self.list(caller, client, message, &id, ListKind::Resources, counted)).await,
            Method::ResourceTemplatesList => {
                return Box::pin(self.list(caller, client, message, &id, ListKind::ResourceTemplates, counted)).await;
            }
            _ => {}
        }
        if method == Method::TasksList && !(Route::only(self.view()).is_some() && self.passes_task_ids(caller.principal())) {
            return Box::pin(self.list_tasks(caller, client, &message, &id)).await;
        }
        let own = if method == Method::ToolsCall { self.own_tool(caller, &message).await } else { None };
        let (executed, message) = match own {
            None => (None, message),
            Some(OwnTool::Search) => {
                self.pay(caller).await?;
                return Box::pin(self.search(caller, client, &message, &id)).await;
            }
            Some(OwnTool::Execute) => {
                let (executed, message) = own_tools::executed(client, &message)?;
                counted.executes(&message);
                (Some(executed), message)
            }
        };
        let client = executed.as_ref().unwrap_or(client);
        let route = self.route_for(caller, client, method, &message).await;
        let route = if executed.is_some() { route.map_err(own_tools::not_executed)? } else { route? };
        counted.goes_to(&route);
        let goes_on = message.span(Field::RequestState).is_some() && self.goes_on(caller, client, method, &message, &route);
        let admission = if goes_on {
            self.pay(caller).await?;
            self.limiter.admitted_before()
        } else {
            self.admit(caller, method, &route).await?
        };
        self.forward(Forward { caller, client, message, method, route, admission, again: 0, counted }).await
    }

    /// Takes a notification from a client.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]: another replica should have heard it, and did not.
    pub async fn notified(&self, client: &Client, message: &Message) -> Result<(), GatewayError> {
        let Client::Legacy(session) = client else { return Ok(()) };
        match Method::parse(message.method()) {
            Some(Method::Cancelled) => {
                if !self.cancel_here(session, message).await && session.is_shared() {
                    return Box::pin(self.cancelled_elsewhere(session, message)).await;
                }
            }
            Some(Method::RootsChanged) => {
                let told = self.tell_servers(session, message, &[]).await;
                if session.is_shared() {
                    return Box::pin(self.said_elsewhere(session, message, told)).await;
                }
            }
            _ => tracing::debug!(method = message.method(), "notification concerns no upstream; dropped"),
        }
        Ok(())
    }

    /// Passes a client's notification to the servers that have a session of its own, but for those that were `told`. Who they
    /// are.
    pub(super) async fn tell_servers(&self, session: &LegacySession, message: &Message, told: &[String]) -> Vec<String> {
        // A modern server asks for them whenever it needs them, and knows no such notification.
        let reached = self.reached(session).into_iter().filter(|reached| reached.up.era() == Era::Legacy);
        let own = reached.filter(|Reached { upstream, up, .. }| self.is_alone(session, upstream.id(), up));
        let is_told = |name: &str| told.iter().any(|told| told == name);
        let own: Vec<_> = own.filter(|Reached { upstream, up, .. }| !(is_told(upstream.name().as_str()) && up.is_shared())).collect();
        let mut now_told = Vec::new();
        for Reached { upstream, generation, up } in self.admitted(session, own).await {
            let name = upstream.name().as_str();
            if let Err(error) = generation.notify(&up, message.bytes().clone()).await {
                tracing::debug!(%error, "a notification could not be passed on");
            }
            now_told.push(name.to_owned());
        }
        now_told
    }

    /// Takes a client's answer to a server's request and passes it to the server that asked.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]: another replica asked, and did not get it.
    pub async fn answered(&self, client: &Client, message: Message) -> Result<(), GatewayError> {
        let Client::Legacy(session) = client else { return Ok(()) };
        let Some(message) = self.answered_here(session, message).await else { return Ok(()) };
        if session.is_shared() {
            return Box::pin(self.answered_elsewhere(session, &message)).await;
        }
        tracing::debug!("answer to no open request; dropped");
        Ok(())
    }

    /// Gives the message back when it answers nothing that was asked here.
    pub(super) async fn answered_here(&self, session: &LegacySession, message: Message) -> Option<Message> {
        let message = session.questions.answered(message)?;
        let Some(asked) = message.id().and_then(|id| session.answered(id)) else { return Some(message) };
        let span = message.id_span()?;
        let mut splices = crate::mcp::Splices::new();
        splices.replace(span, asked.id.clone().into_json());
        if let Some(tasks) = self.task_scope(&session.record.principal, Era::Legacy, asked.upstream.name()) {
            tasks.restore_in_answer(&mut splices, &message);
        }
        let body = splices.apply(message.bytes());
        if let Err(error) = asked.answer(body).await {
            tracing::debug!(%error, "a client's answer could not be passed on");
        }
        None
    }

    /// Ends a client's session and everything upstream that belongs to it.
    pub fn end(&self, session: &LegacySession) {
        self.end_session(session);
    }

    async fn set_level(&self, caller: &Caller, client: &Client, message: &Message, id: &Id) -> Result<Reply, GatewayError> {
        let session = client.session().ok_or_else(|| GatewayError::MethodNotFound(message.method().to_owned()))?;
        let level = message.raw(Field::Level).filter(|level| LogLevel::from_json(level).is_some());
        let level = level.ok_or(GatewayError::InvalidParams("`level` is not a log level"))?;
        let reached = self.reached(session);
        let view = self.view_of(&session.record.principal);
        let places: Vec<usize> = reached.iter().filter_map(|reached| view.place_of(reached.upstream.name())).collect();
        match places.as_slice() {
            [] => self.pay(caller).await?,
            places => self.admit_all(caller, Charged::ClientToo, &view, places).await?,
        }
        session.set_log_level(&level);
        for Reached { upstream, generation, up } in reached {
            Box::pin(self.tell_level(&upstream, &generation, &up, &level)).await;
        }
        if session.is_shared() {
            Box::pin(self.share(session, Changed::Level(&level))).await;
        }
        Ok(Reply::result(id, b"{}"))
    }

    /// The upstreams in which the session has one of its own.
    pub(super) fn reached(&self, session: &LegacySession) -> Vec<Reached> {
        let reached = |upstream: &Arc<Upstream>| {
            let up = session.upstream_session(upstream.id())?;
            Some(Reached { upstream: Arc::clone(upstream), generation: upstream.generation().ok()?, up })
        };
        self.view_of(&session.record.principal).upstreams().iter().filter_map(reached).collect()
    }

    /// `false`: no call here has the cancelled id.
    pub(super) async fn cancel_here(&self, session: &LegacySession, message: &Message) -> bool {
        let Some(id) = message.cancelled_id() else { return true };
        match session.flights.flight(&id) {
            Some(InFlight::Legacy { generation, session, id, stop }) => {
                let Some(span) = message.span(Field::RequestId) else { return true };
                let mut splices = crate::mcp::Splices::new();
                splices.replace(span, Id::from_u64(id).into_json());
                // First our own wait: a server may take long to hear of it.
                if let Some(stop) = stop {
                    stop.cancel();
                }
                if let Err(error) = generation.notify(&session, splices.apply(message.bytes())).await {
                    tracing::debug!(%error, "a cancellation could not be passed on");
                }
            }
            Some(InFlight::Modern(token)) => token.cancel(),
            Some(InFlight::Ambiguous) => tracing::debug!("two open requests have the cancelled id; ignored"),
            None => return false,
        }
        true
    }
}

impl Reply {
    pub(super) fn result(id: &Id, result: &[u8]) -> Self {
        Self::message(build::response(id, result))
    }
}
