//! Sends a request to its upstream: in the right session, in the right era, and again only if it was not executed.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Client, EventReply, Gateway, GatewayError, Reply,
    again::{Again, headers_of, said},
    flights::InFlight,
    links::Reading,
    parked::{Aside, Begun, park},
    relay::{Relay, Renumbered},
    required_task::{self, Made, has_to_be_a_task},
    route::Route,
    tally::Counted,
};
use crate::{
    auth::{Caller, PrincipalKey},
    bridge::{self, Said},
    catalog::Catalog,
    limits::Admission,
    mcp::{Era, Field, Id, LogLevel, Message, Method, Splices, Version},
    reason::Reason,
    upstream::{ClientCapabilities, Generation, Outgoing, Session, SessionKey, SessionSpec, Upstream, UpstreamError, own_info},
};

/// Longest wait for the only upstream of a transparent gateway, whose first start may download something.
const FIRST_TRY: std::time::Duration = std::time::Duration::from_secs(60);

/// A request that may go.
pub(super) struct Forward<'a> {
    pub(super) caller: &'a Caller,
    pub(super) client: &'a Client,
    pub(super) message: Message,
    pub(super) method: Method,
    pub(super) route: Route,
    /// Nothing goes up without one.
    pub(super) admission: Admission,
    /// How often it was made again because its server sent the user to URLs first.
    pub(super) again: u32,
    pub(super) counted: &'a mut Counted,
}

impl Gateway {
    pub(super) async fn forward(self: &Arc<Self>, mut request: Forward<'_>) -> Result<Reply, GatewayError> {
        request.counted.goes_to(&request.route);
        check_params(&request)?;
        if request.route.view.lineup.is_transparent() {
            self.first_try(&request.route.upstream).await;
        }
        if request.message.span(Field::RequestState).is_some()
            && let Some(reply) = Box::pin(self.resume(&mut request)).await?
        {
            return Ok(reply);
        }
        let mut answered = self.attempt(&request.route.upstream, &request).await;
        if let Err(error) = &answered
            && request.route.upstream.is_dismissed()
            && (error.is_safe_to_repeat() || matches!(error, UpstreamError::Down(_)))
        {
            // A reload has put another in its place, or nothing, since the name was looked up.
            request.route = Box::pin(self.route_for(request.caller, request.client, request.method, &request.message)).await?;
            request.counted.goes_to(&request.route);
            check_params(&request)?;
            answered = Box::pin(self.attempt(&request.route.upstream, &request)).await;
        }
        let upstream = &request.route.upstream;
        let failed = |error: UpstreamError| {
            upstream.report(&error);
            Self::upstream_error(upstream, error)
        };
        // None was executed (a lost session: MCP 2025-11-25, transports, session management), so it is tried once more.
        match answered {
            Err(UpstreamError::SessionLost | UpstreamError::WrongEra) => Box::pin(self.attempt(upstream, &request)).await.map_err(failed),
            // The generation that it had taken was over before it was sent.
            Err(UpstreamError::Failed { never_sent: true, explanation }) if explanation.reason == Reason::Drained => {
                Box::pin(self.attempt(upstream, &request)).await.map_err(failed)
            }
            Err(error) if request.method.is_safe() && error.broke_off() => {
                tracing::debug!(%error, "a request that only reads broke off; sending it once more");
                Box::pin(self.attempt(upstream, &request)).await.map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    pub(super) fn upstream_error(upstream: &Upstream, error: UpstreamError) -> GatewayError {
        let status = upstream.status();
        let status = status.borrow();
        let since = matches!(error, UpstreamError::Down(_)).then_some(status.since);
        GatewayError::Upstream { upstream: upstream.name().clone(), error, since, request_id: None }
    }

    /// A transparent gateway has nothing to say before its upstream has spoken.
    pub(super) async fn first_try(&self, upstream: &Upstream) {
        if !upstream.was_up() && !upstream.status().borrow().tried {
            // A slow upstream then looks as it is: still starting.
            let _ = timeout(FIRST_TRY, upstream.status().wait_for(|status| status.tried)).await;
        }
    }

    async fn attempt(self: &Arc<Self>, upstream: &Arc<Upstream>, request: &Forward<'_>) -> Result<Reply, UpstreamError> {
        let _admitted = &request.admission;
        let generation = upstream.generation()?;
        let era = generation.era_for(request.client.era());
        if !request.method.exists_in(era) {
            return Err(UpstreamError::NotBridged("the upstream speaks a revision without this method"));
        }
        let principal = request.caller.principal();
        let session = if !generation.needs_session(era) {
            None
        } else if let Some(held) = held_by(upstream, &generation, era, principal, request.client) {
            Some(held)
        } else {
            // A modern request says itself, and to a modern server, what can be asked.
            let flags = if era == Era::Legacy { declared(&request.message) } else { ClientCapabilities::NONE };
            let opened = Box::pin(self.session_for(upstream, &generation, era, principal, request.client, Shares::Calls(flags)));
            // One after the other tries to open it where a server does not answer.
            let limit = generation.call_timeout();
            let opened = timeout(limit, request.counted.watch().waiting(opened)).await;
            Some(opened.unwrap_or(Err(UpstreamError::TimedOut(limit)))?)
        };
        let mut prepared = prepare(&generation, &request.route.view.catalog, era, session.as_ref().map(|held| &*held.session), request);
        let made = match &session {
            Some(held) if has_to_be_a_task(request, era) => {
                let limit = self.config().bounds.max_event;
                let made = Box::pin(required_task::make(&generation, &held.session, &prepared.outgoing, limit)).await;
                if let Err(UpstreamError::SessionLost) = &made {
                    Self::forget(upstream, held, request.client).await;
                }
                Some(made?)
            }
            _ => None,
        };
        if let Some(Made::Task(task)) = &made {
            required_task::result_of(&mut prepared.outgoing, task);
        }
        let aside = match &session {
            Some(Held { key: SessionKey::Pooled(_, capabilities, _), session }) if may_be_addressed(request, era, *capabilities) => {
                Box::pin(self.join(upstream, &generation, session, *capabilities, request, prepared.outgoing.id)).await
            }
            _ => Aside::default(),
        };
        let mut relay = self.relay(upstream, &generation, era, session.as_ref(), request, &prepared).beside(aside);
        match made {
            None => {}
            Some(Made::Task(task)) => relay.waits_for(task),
            Some(Made::Answer(message)) => {
                relay.settle();
                return relay.reply_message(*message);
            }
        }
        let stop = relay.stop().cloned();
        let mut answered = pin!(async {
            request.counted.watch().sent();
            let up = session.as_ref().map(|held| &held.session);
            let begun = match request.method {
                // It is answered when the task is done.
                Method::TasksResult => Box::pin(generation.exchange_without_limit(up, prepared.outgoing)).await.map(Begun::Answer),
                _ if relay.aside().membership.is_some() => Box::pin(relay.begin(&generation, up, prepared.outgoing)).await,
                _ if relay.parties.task.is_some() => {
                    let limit = relay.call_timeout();
                    let answer = timeout(limit, Box::pin(generation.exchange_without_limit(up, prepared.outgoing))).await;
                    answer.unwrap_or(Err(UpstreamError::TimedOut(limit))).map(Begun::Answer)
                }
                _ => generation.exchange(up, prepared.outgoing).await.map(Begun::Answer),
            };
            match &begun {
                Ok(Begun::Answer(answer)) => upstream.heed(Ok(answer)),
                Ok(Begun::Asked(_)) => {}
                Err(error) => upstream.heed(Err(error)),
            }
            match begun {
                Ok(Begun::Answer(answer)) => relay.reply(answer).await,
                Ok(Begun::Asked(asked)) => {
                    let (incoming, question) = *asked;
                    Ok(Reply::Events(Box::new(EventReply::attached(park(incoming, relay, question)))))
                }
                Err(error) => {
                    if let (UpstreamError::SessionLost, Some(held)) = (&error, &session) {
                        Self::forget(upstream, held, request.client).await;
                    }
                    // What leaves the upstream working on it is told when the relay is dropped.
                    if !error.leaves_it_working() {
                        relay.settle();
                    }
                    Err(error)
                }
            }
        });
        let Some(stop) = stop else { return answered.await };
        tokio::select! {
            reply = &mut answered => reply,
            // Dropping the exchange closes it, which is how a modern upstream is told.
            () = stop.cancelled() => Ok(Reply::silence()),
        }
    }

    pub(super) async fn session_for(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        era: Era,
        principal: &PrincipalKey,
        client: &Client,
        shares: Shares,
    ) -> Result<Held, UpstreamError> {
        if let Some(held) = held_by(upstream, generation, era, principal, client) {
            return Ok(held);
        }
        let down = client.session();
        let key = match (down, shares) {
            (Some(down), _) => upstream.session_key(principal, Some(down.id()), down.flags, era),
            (None, Shares::Calls(flags)) => upstream.session_key(principal, None, flags, era),
            (None, Shares::Subscriptions) => upstream.listening_key(principal, era),
        };
        let spec = || match (&key, down) {
            (SessionKey::Owned(_), Some(down)) => SessionSpec {
                principal: principal.clone(),
                // A process of its own, too, may speak the new era only.
                version: if era == Era::Modern { Version::LATEST_MODERN } else { down.record.version },
                capabilities: down.record.capabilities.clone(),
                client_info: down.record.client_info.clone(),
                log_level: down.log_level(),
            },
            (SessionKey::Pooled(principal, flags, era), _) => SessionSpec {
                principal: principal.clone(),
                version: match era {
                    Era::Legacy => Version::LATEST_LEGACY,
                    Era::Modern => Version::LATEST_MODERN,
                },
                capabilities: flags.to_json(),
                client_info: own_info(),
                log_level: None,
            },
            (SessionKey::Listening(principal), _) => SessionSpec {
                principal: principal.clone(),
                version: Version::LATEST_LEGACY,
                capabilities: ClientCapabilities::NONE.to_json(),
                client_info: own_info(),
                log_level: None,
            },
            (SessionKey::Owned(_), None) => unreachable!("an owned key is made for a downstream session only"),
        };
        let place = match &key {
            SessionKey::Owned(_) => down.and_then(|down| self.place_of(down, upstream)),
            SessionKey::Pooled(..) | SessionKey::Listening(_) => None,
        };
        let session = Box::pin(upstream.session(generation, &key, spec, place)).await?;
        if let Some(down) = down {
            down.keep_upstream_session(upstream.id(), Some(&session));
            // A reload looked for what to forget before this was kept.
            if upstream.is_dismissed() {
                down.keep_upstream_session(upstream.id(), None);
            } else if down.has_stream() {
                self.follow(down, upstream, generation, &session);
            }
            // A process may have been there before.
            if session.is_process()
                && let Some(level) = down.log_level()
            {
                Box::pin(self.tell_level(upstream, generation, &session, &level)).await;
            }
        }
        Ok(Held { key, session })
    }

    pub(super) async fn forget(upstream: &Upstream, held: &Held, client: &Client) {
        held.forget(upstream).await;
        if let Client::Legacy(down) = client {
            down.keep_upstream_session(upstream.id(), None);
        }
    }

    fn relay(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        era: Era,
        held: Option<&Held>,
        request: &Forward<'_>,
        prepared: &Prepared,
    ) -> Relay {
        let client_id = request.message.id().cloned().unwrap_or_else(|| Id::from_u64(0));
        let token = request.message.raw(Field::MetaProgressToken);
        // A legacy server closes the stream of a cancelled call; a modern one is told by closing it, and a channel has none for each.
        let is_channel = held.is_some_and(|held| held.session.is_channel());
        let stop = (request.client.era() == Era::Legacy && (era == Era::Modern || is_channel)).then(CancellationToken::new);
        if let Client::Legacy(down) = request.client {
            let flight = match (held, &stop) {
                (Some(held), stop) => InFlight::Legacy {
                    generation: Arc::clone(generation),
                    session: Arc::clone(&held.session),
                    id: prepared.outgoing.id,
                    stop: stop.clone(),
                },
                (None, Some(stop)) => InFlight::Modern(stop.clone()),
                (None, None) => InFlight::Ambiguous,
            };
            down.flights.began(&client_id, upstream.id(), token.as_ref(), flight);
        }
        Relay::new(super::relay::Parties {
            gateway: Arc::clone(self),
            upstream: Arc::clone(upstream),
            generation: Arc::clone(generation),
            era,
            session: held.map(|held| Arc::clone(&held.session)),
            client: request.client.clone(),
            client_id,
            method: request.method,
            renumbered: prepared.renumbered.clone(),
            token,
            log: request.message.raw(Field::MetaLogLevel).and_then(|level| LogLevel::from_json(&level)),
            tasks: self.task_scope_of(request, era),
            task: None,
            stop,
            links: Reading::of(request),
            again: (request.client.era() == Era::Legacy && era == Era::Modern).then(|| Box::new(Again::of(request))),
        })
    }
}

/// The upstream session that a legacy client's own has already.
fn held_by(upstream: &Upstream, generation: &Arc<Generation>, era: Era, principal: &PrincipalKey, client: &Client) -> Option<Held> {
    let down = client.session()?;
    let session = down.upstream_session(upstream.id()).filter(|session| session.serves(generation))?;
    Some(Held { key: upstream.session_key(principal, Some(down.id()), down.flags, era), session })
}

/// Whether a legacy server may have something for the client besides the answer.
fn may_be_addressed(request: &Forward<'_>, era: Era, capabilities: ClientCapabilities) -> bool {
    let is_bridged = era == Era::Legacy && request.client.era() == Era::Modern;
    is_bridged && (capabilities.any() || request.message.span(Field::MetaLogLevel).is_some())
}

/// What a modern client can be asked during this request.
fn declared(request: &Message) -> ClientCapabilities {
    request.raw(Field::MetaClientCapabilities).map_or(ClientCapabilities::NONE, |raw| ClientCapabilities::read(&raw))
}

/// A modern client repeats the arguments that the tool names as headers (MCP 2026-07-28, basic/transports). Whoever
/// routes by them and whoever executes the body must see one request.
fn check_params(request: &Forward<'_>) -> Result<(), GatewayError> {
    let Client::Modern(client) = request.client else { return Ok(()) };
    let (Some(params), Method::ToolsCall) = (&client.params, request.method) else { return Ok(()) };
    let Route { view, index, name, .. } = &request.route;
    let Some(mirrored) = view.catalog.mirrored(*index, name) else { return Ok(()) };
    let arguments = request.message.raw(Field::Arguments);
    let values = |name: &str| -> Vec<&[u8]> { params.get_all(name).iter().map(HeaderValue::as_bytes).collect() };
    Ok(mirrored.check(arguments.as_deref(), values)?)
}

/// Which of the sessions that a principal's modern clients share.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shares {
    /// That of calls by clients that can be asked for this.
    Calls(ClientCapabilities),
    Subscriptions,
}

/// An upstream session in use.
#[derive(Debug)]
pub(super) struct Held {
    key: SessionKey,
    pub(super) session: Arc<Session>,
}

impl Held {
    /// The upstream does not know the session any more; the next who needs one opens another.
    pub(super) async fn forget(&self, upstream: &Upstream) {
        upstream.forget(&self.key, &self.session).await;
    }
}

struct Prepared {
    outgoing: Outgoing,
    renumbered: Option<Renumbered>,
}

/// Makes the bytes that go up: only name, id, token and the reserved `_meta` keys differ from what came in.
fn prepare(generation: &Generation, catalog: &Catalog, era: Era, session: Option<&Session>, request: &Forward<'_>) -> Prepared {
    let message = &request.message;
    let mut splices = Splices::new();
    if let Some(span) = request.route.rename {
        splices.replace_string(span, &request.route.name);
    }
    bridge::adapt_request(&mut splices, message, request.client.era(), era, generation.version(), || match request.client {
        Client::Legacy(down) => said(down, false),
        // Says itself what it is.
        Client::Modern(_) => Said { client_info: own_info(), log_level: None, capabilities: Bytes::from_static(b"{}") },
    });
    // An owned session carries one client's tokens, which are unique already.
    let shares_tokens = |session: &Session| session.is_channel() || request.client.era() == Era::Modern;
    let renumbered = session.map(|session| renumber(&mut splices, session, message, shares_tokens(session)));
    let routing = match era {
        Era::Modern if !generation.is_stdio() => routing_headers(request, catalog),
        _ => HeaderMap::new(),
    };
    let owner = request.client.session().map(|session| session.id());
    let id = renumbered.as_ref().map_or(0, |renumbered| renumbered.id);
    let is_endless = request.method == Method::Listen;
    Prepared {
        outgoing: Outgoing { body: splices.apply(message.bytes()), id, owner, caller: Some(request.caller.clone()), routing, is_endless },
        renumbered,
    }
}

/// Wherever a session or process may carry other requests too, ids and progress tokens are ours.
pub(super) fn renumber(splices: &mut Splices, session: &Session, message: &Message, shares_tokens: bool) -> Renumbered {
    let id = session.next_id();
    if let Some(span) = message.id_span() {
        splices.replace(span, Id::from_u64(id).into_json());
    }
    let mut token: Option<Bytes> = None;
    if shares_tokens && let (Some(span), Some(raw)) = (message.span(Field::MetaProgressToken), message.raw(Field::MetaProgressToken)) {
        splices.replace(span, Id::from_u64(id).into_json());
        token = Some(raw);
    }
    Renumbered { id, token }
}

/// `Mcp-Method`, `Mcp-Name` (MCP 2026-07-28, basic/transports, standard headers) and the client's own `Mcp-Param-*`.
fn routing_headers(request: &Forward<'_>, catalog: &Catalog) -> HeaderMap {
    let given = match request.client {
        Client::Modern(client) => client.params.clone(),
        Client::Legacy(_) => None,
    };
    let route = &request.route;
    let mut headers = given.unwrap_or_else(|| mirrored_headers(&request.message, request.method, catalog, route.index, &route.name));
    bridge::standard_headers(&mut headers, request.method, &request.route.name);
    headers
}

/// The arguments that the tool wants repeated as headers, for a client that does not do it itself.
pub(super) fn mirrored_headers(message: &Message, method: Method, catalog: &Catalog, index: usize, name: &str) -> HeaderMap {
    let mirrored = catalog.mirrored(index, name).filter(|_| method == Method::ToolsCall);
    mirrored.map_or_else(HeaderMap::new, |mirrored| headers_of(mirrored, message))
}
