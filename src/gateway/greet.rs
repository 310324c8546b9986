//! `initialize` and `server/discover`: who the gateway says it is, and what it can do.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Client, Gateway, GatewayError, LegacySession, Reach, Reply,
    capabilities::{own_capabilities, without_tasks},
    headcount::Evicted,
    route::Route,
    tally::{Counted, Outcome},
    view::View,
};
use crate::{
    auth::Caller,
    mcp::{Era, Field, Id, Message, Method, Splices, Version, build, list::CacheScope},
    session::{SessionId, SessionRecord},
    upstream::{ClientCapabilities, Generation, Session, SessionKey, SessionSpec, Upstream, UpstreamError, own_info},
};

/// Longest `clientInfo` and `capabilities` that are kept for a session, in bytes together.
const MAX_CLIENT: usize = 64 * 1024;

/// What an agent must know where the tools are not listed.
const SEARCH_FIRST: &str = "The tools of several servers are reached with two: call `search` with keywords for what you want to do, \
     then `execute` with the exact name and with arguments that fit the schema that `search` gave.";

impl Gateway {
    /// Opens a session for a legacy client (MCP 2025-11-25, basic/lifecycle) and answers its `initialize`.
    ///
    /// # Errors
    /// [`GatewayError`]: malformed parameters, too many sessions, a store that gives no answer, or, for a transparent gateway, its
    /// upstream's failure.
    pub async fn initialize(
        self: &Arc<Self>,
        caller: &Caller,
        message: &Message,
        reach: Reach,
    ) -> Result<(Arc<LegacySession>, Reply), GatewayError> {
        let draft = self.greeting_draft(caller, message);
        let mut counted = Counted::begin(&self.tally, Some(Method::Initialize)).written_to(draft);
        let mut greeted = self.open_session(caller, message, reach).await;
        match &mut greeted {
            Ok((session, _)) => {
                counted.opens(session);
                counted.ends(Outcome::Ok);
            }
            Err(error) => counted.fails(error, |_| false),
        }
        greeted
    }

    async fn open_session(
        self: &Arc<Self>,
        caller: &Caller,
        message: &Message,
        reach: Reach,
    ) -> Result<(Arc<LegacySession>, Reply), GatewayError> {
        let id = message.id().ok_or(GatewayError::InvalidParams("a request needs an id"))?;
        let requested = message.text(Field::ProtocolVersion).ok_or(GatewayError::InvalidParams("`protocolVersion` is not a string"))?;
        let object = |field| message.raw(field).filter(|raw| raw.first() == Some(&b'{'));
        let capabilities = object(Field::Capabilities).ok_or(GatewayError::InvalidParams("`capabilities` is not an object"))?;
        let client_info = object(Field::ClientInfo).ok_or(GatewayError::InvalidParams("`clientInfo` is not an object"))?;
        if capabilities.len() + client_info.len() > MAX_CLIENT {
            return Err(GatewayError::InvalidParams("`capabilities` and `clientInfo` are larger than 64 KiB"));
        }
        self.admit_newcomer(caller).await?;
        let only = Route::only(self.view_for(caller));
        let _admitted = match &only {
            Some(only) => self.admit(caller, Method::Initialize, only).await?,
            None => self.limiter.admit(caller, None, None).await?,
        };
        let record = SessionRecord {
            id: SessionId::random(),
            principal: caller.principal().clone(),
            version: Version::answer_to_initialize(&requested),
            // Copies, so that the session does not hold the whole request.
            capabilities: Bytes::copy_from_slice(&capabilities),
            client_info: Bytes::copy_from_slice(&client_info),
        };
        let session = match (reach, &self.replicas) {
            (Reach::Anywhere, Some(replicas)) => {
                Box::pin(replicas.keep(record, caller.clone(), self.config().session_idle_timeout)).await?
            }
            (Reach::Anywhere | Reach::Here, _) => LegacySession::new(record, caller.clone()),
        };
        let session = Arc::new(session);
        let greeted = match only {
            Some(only) => self.relay_greeting(&only.upstream, &session, id).await,
            None => Ok(Reply::result(id, &own_greeting(&self.view_for(caller), session.record.version))),
        };
        let added = match greeted {
            Ok(reply) => match self.seat(&session, Evicted::Ends).await {
                true => Ok((Arc::clone(&session), reply)),
                false => Err(GatewayError::TooManySessions),
            },
            Err(error) => Err(error),
        };
        if added.is_err() {
            self.end_session(&session);
            Box::pin(self.give_up(&session)).await;
        }
        added
    }

    /// The only upstream's own greeting, as it wrote it where the eras agree.
    async fn relay_greeting(&self, upstream: &Upstream, session: &LegacySession, id: &Id) -> Result<Reply, GatewayError> {
        self.first_try(upstream).await;
        let failed = |error: UpstreamError| {
            upstream.report(&error);
            Self::upstream_error(upstream, error)
        };
        let generation = upstream.generation().map_err(failed)?;
        let opened = match generation.era_for(Era::Legacy) {
            Era::Modern => Err(UpstreamError::WrongEra),
            Era::Legacy => self.open_only_session(upstream, &generation, session).await,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(UpstreamError::WrongEra) => return Ok(Reply::result(id, &Self::synthetic_greeting(upstream, session).map_err(failed)?)),
            Err(error) => return Err(failed(error)),
        };
        let greeting = Message::parse(opened.greeting().clone()).map_err(|error| failed(UpstreamError::protocol(error.to_string())))?;
        let mut splices = Splices::new();
        if let Some(span) = greeting.id_span() {
            splices.replace(span, id.clone().into_json());
        }
        Ok(Reply::message(splices.apply(greeting.bytes())))
    }

    async fn open_only_session(
        &self,
        upstream: &Upstream,
        generation: &Generation,
        session: &LegacySession,
    ) -> Result<Arc<Session>, UpstreamError> {
        let principal = &session.record.principal;
        let key = upstream.session_key(principal, Some(session.id()), session.flags, Era::Legacy);
        let spec = || SessionSpec {
            principal: principal.clone(),
            version: session.record.version,
            capabilities: match &key {
                SessionKey::Owned(_) => session.record.capabilities.clone(),
                SessionKey::Pooled(_, flags, _) => flags.to_json(),
                SessionKey::Listening(_) => ClientCapabilities::NONE.to_json(),
            },
            client_info: session.record.client_info.clone(),
            log_level: None,
        };
        let place = match &key {
            SessionKey::Owned(_) => self.place_of(session, upstream),
            SessionKey::Pooled(..) | SessionKey::Listening(_) => None,
        };
        let opened = upstream.session(generation, &key, spec, place).await?;
        session.keep_upstream_session(upstream.id(), Some(&opened));
        Ok(opened)
    }

    /// What a modern server said of itself, as a legacy client expects it.
    fn synthetic_greeting(upstream: &Upstream, session: &LegacySession) -> Result<Vec<u8>, UpstreamError> {
        let offer = upstream.offer().ok_or_else(|| UpstreamError::protocol("the upstream's greeting is not known"))?;
        let facts = &offer.greeting.facts;
        let info = facts.server_info.clone().unwrap_or_else(own_info);
        Ok(build::initialize_result(session.record.version, &without_tasks(&facts.capabilities), &info, facts.instructions.as_deref()))
    }

    pub(super) async fn discover(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: Message,
        id: &Id,
        counted: &mut Counted,
    ) -> Result<Reply, GatewayError> {
        let view = self.view_for(caller);
        if let Some(only) = Route::only(Arc::clone(&view)) {
            let upstream = &*Arc::clone(&only.upstream);
            self.first_try(upstream).await;
            let generation = upstream.generation().map_err(|error| Self::upstream_error(upstream, error))?;
            if generation.era() == Era::Modern {
                return self.to_only_upstream(caller, client, message, Method::Discover, only, counted).await;
            }
            let offer = upstream.offer().ok_or_else(|| Self::upstream_error(upstream, UpstreamError::protocol("no greeting is known")))?;
            self.pay(caller).await?;
            let facts = &offer.greeting.facts;
            let info = facts.server_info.clone().unwrap_or_else(own_info);
            return Ok(Reply::result(id, &discovered(&without_tasks(&facts.capabilities), &info, facts.instructions.as_deref())));
        }
        self.pay(caller).await?;
        let capabilities = own_capabilities(&view, Era::Modern);
        let instructions = own_instructions(&view);
        Ok(Reply::result(id, &discovered(capabilities.as_bytes(), &own_info(), instructions.as_deref())))
    }
}

fn own_greeting(view: &View, version: Version) -> Vec<u8> {
    let instructions = own_instructions(view);
    let capabilities = own_capabilities(view, Era::Legacy);
    build::initialize_result(version, capabilities.as_bytes(), &own_info(), instructions.as_deref())
}

/// The upstreams' instructions under their names, after what is to be known of `search`.
fn own_instructions(view: &View) -> Option<String> {
    let mut text = String::new();
    if !view.lineup.config.tools.lists_all() {
        let names: Vec<_> = view.reached().map(|upstream| upstream.name().to_string()).collect();
        text = format!("{SEARCH_FIRST} The servers: {}.", names.join(", "));
    }
    for upstream in view.reached() {
        let offer = upstream.offer();
        let Some(instructions) = offer.as_ref().and_then(|offer| offer.greeting.facts.instructions.as_deref()) else { continue };
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&format!("# {}\n{instructions}", upstream.name()));
    }
    (!text.is_empty()).then_some(text)
}

/// Nobody else's time-to-live is promised: changes are announced, and the catalog is the caller's own.
fn discovered(capabilities: &[u8], info: &[u8], instructions: Option<&str>) -> Vec<u8> {
    build::discover_result(capabilities, info, instructions, 0, CacheScope::Private)
}
