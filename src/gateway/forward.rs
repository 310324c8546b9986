//! Sends a request to its upstream: in the right session, in the right era, and again only if it was not executed.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::{
    Client, EventReply, Gateway, GatewayError, Reply,
    again::{Again, headers_of, said},
    legacy::InFlight,
    parked::{Aside, Begun, park},
    relay::{Relay, Renumbered},
    route::Route,
    tally::Counted,
};
use crate::{
    auth::Caller,
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
        request.counted.goes_to(&request.route.upstream);
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
            request.route = Box::pin(self.route(request.method, &request.message)).await?;
            request.counted.goes_to(&request.route.upstream);
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
            Err(UpstreamError::SessionLost | UpstreamError::WrongEra) => self.attempt(upstream, &request).await.map_err(failed),
            // The generation that it had taken was over before it was sent.
            Err(UpstreamError::Failed { never_sent: true, explanation }) if explanation.reason == Reason::Drained => {
                self.attempt(upstream, &request).await.map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    pub(super) fn upstream_error(upstream: &Upstream, error: UpstreamError) -> GatewayError {
        let status = upstream.status();
        let status = status.borrow();
        let since = matches!(error, UpstreamError::Down(_)).then_some(status.since);
        GatewayError::Upstream { upstream: upstream.name().clone(), error, since }
    }

    /// A transparent gateway has nothing to say before its upstream has spoken.
    pub(super) async fn first_try(&self, upstream: &Upstream) {
        if !upstream.was_up() && !upstream.status().borrow().tried {
            // A slow upstream then looks as it is: still starting.
            let _ = tokio::time::timeout(FIRST_TRY, upstream.status().wait_for(|status| status.tried)).await;
        }
    }

    async fn attempt(self: &Arc<Self>, upstream: &Arc<Upstream>, request: &Forward<'_>) -> Result<Reply, UpstreamError> {
        let _admitted = &request.admission;
        let generation = upstream.generation()?;
        let era = generation.era_for(request.client.era());
        if !request.method.exists_in(era) {
            return Err(UpstreamError::NotBridged("the upstream speaks a revision without this method"));
        }
        let session = if generation.needs_session(era) {
            Some(request.counted.watch().waiting(self.session_for(upstream, &generation, era, request)).await?)
        } else {
            None
        };
        let prepared = prepare(&generation, &request.route.view.catalog, era, session.as_ref().map(|held| &*held.session), request);
        let aside = match &session {
            Some(Held { key: SessionKey::Pooled(_, capabilities, _), session }) if may_be_addressed(request, era, *capabilities) => {
                Box::pin(self.join(upstream, &generation, session, *capabilities, request, prepared.outgoing.id)).await
            }
            _ => Aside::default(),
        };
        let mut relay = self.relay(upstream, &generation, era, session.as_ref(), request, &prepared).beside(aside);
        let stop = relay.stop().cloned();
        let answered = async {
            request.counted.watch().sent();
            match relay.begin(&generation, session.as_ref().map(|held| &held.session), prepared.outgoing).await {
                Ok(Begun::Answer(answer)) => relay.reply(answer).await,
                Ok(Begun::Asked(asked)) => {
                    let (incoming, question) = *asked;
                    Ok(Reply::Events(Box::new(EventReply::attached(park(incoming, relay, question)))))
                }
                Err(error) => {
                    if let (UpstreamError::SessionLost, Some(held)) = (&error, &session) {
                        Self::forget(upstream, held, request.client);
                    }
                    // What leaves the upstream working on it is told when the relay is dropped.
                    if !error.leaves_it_working() {
                        relay.settle();
                    }
                    Err(error)
                }
            }
        };
        let Some(stop) = stop else { return answered.await };
        tokio::select! {
            reply = answered => reply,
            // Dropping the exchange closes it, which is how a modern upstream is told.
            () = stop.cancelled() => Ok(Reply::silence()),
        }
    }

    async fn session_for(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        era: Era,
        request: &Forward<'_>,
    ) -> Result<Held, UpstreamError> {
        let principal = request.caller.principal();
        let down = request.client.session();
        if let Some(down) = down
            && let Some(session) = down.upstream_session(upstream.id())
            && !session.has_ended()
        {
            let key = upstream.session_key(principal, Some(down.id()), down.flags, era);
            return Ok(Held { key, session });
        }
        let flags = match (down, era) {
            (Some(down), _) => down.flags,
            (None, Era::Legacy) => declared(&request.message),
            // A modern request says itself what can be asked.
            (None, Era::Modern) => ClientCapabilities::NONE,
        };
        let key = upstream.session_key(principal, down.map(|down| down.id()), flags, era);
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
            (SessionKey::Owned(_), None) => unreachable!("an owned key is made for a downstream session only"),
        };
        let session = upstream.session(generation, &key, spec).await?;
        if let Some(down) = down {
            down.keep_upstream_session(upstream.id(), Some(&session));
            // A reload looked for what to forget before this was kept.
            if upstream.is_dismissed() {
                down.keep_upstream_session(upstream.id(), None);
            } else if down.has_stream() {
                self.follow(down, upstream, generation, &session);
            }
        }
        Ok(Held { key, session })
    }

    fn forget(upstream: &Upstream, held: &Held, client: &Client) {
        upstream.forget(&held.key, &held.session);
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
        // A legacy server closes the stream of a cancelled call; a modern one is told by closing it, and a process has none.
        let is_process = held.is_some_and(|held| held.session.is_process());
        let stop = (request.client.era() == Era::Legacy && (era == Era::Modern || is_process)).then(CancellationToken::new);
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
            down.began(&client_id, flight);
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
            log: request.message.raw(Field::MetaLogLevel).and_then(|level| LogLevel::from_json(&level)),
            stop,
            again: (request.client.era() == Era::Legacy && era == Era::Modern).then(|| Box::new(Again::of(request))),
        })
    }
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

/// An upstream session in use.
struct Held {
    key: SessionKey,
    session: Arc<Session>,
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
    let shares_tokens = |session: &Session| session.is_process() || request.client.era() == Era::Modern;
    let renumbered = session.map(|session| renumber(&mut splices, session, message, shares_tokens(session)));
    let routing = match era {
        Era::Modern if !generation.is_stdio() => routing_headers(request, catalog),
        _ => HeaderMap::new(),
    };
    let owner = request.client.session().map(|session| session.id());
    let id = renumbered.as_ref().map_or(0, |renumbered| renumbered.id);
    let is_endless = request.method == Method::Listen;
    Prepared { outgoing: Outgoing { body: splices.apply(message.bytes()), id, owner, routing, is_endless }, renumbered }
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
