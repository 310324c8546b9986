//! The MCP endpoint: streamable HTTP of every revision on one path.

use std::{collections::VecDeque, convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio_util::sync::CancellationToken;

use super::{
    LiveServer,
    batch::{Part, WayIn, parts},
    callers::Callers,
    client_address,
    door::Door,
    legacy_sse::OpenStreams,
    listener::Guest,
    passage::Passage,
    rescue::{Rescued, refusal, rescue, rescue_opening, rescue_parse},
    responses::{come_again, empty, event_stream, named, not_allowed, with_json},
    resumable::{recorded, replayed},
    tenure::Tenure,
    turned_away::TurnedAway,
};
use crate::{
    audit::RequestId,
    auth::Caller,
    gateway::{Client, EventId, EventReply, Gateway, LegacySession, ModernClient, Outbox, Reach, Reply, has_line},
    mcp::{
        Era, Id, Kind, Message, ParseErrorKind, Version, batch,
        era::{Opening, classify},
        errors::{code, error_response},
        headers::{LAST_EVENT_ID, Mirrored, PARAM_PREFIX, PROTOCOL_VERSION, SESSION_ID},
        sse,
    },
    session::SessionId,
};

/// A quiet stream says this often that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest time that a refused body is read on.
const LINGER: Duration = Duration::from_secs(1);

/// What every request needs.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) gateway: Arc<Gateway>,
    pub(super) door: Door,
    pub(super) callers: Callers,
    pub(super) server: LiveServer,
    /// Of old clients.
    pub(super) streams: OpenStreams,
}

/// Somebody whom the door has let in.
pub(super) struct Knocked {
    pub(super) address: Option<IpAddr>,
    pub(super) passage: Passage,
}

pub(super) type Answer = Result<Response<Body>, Rescued>;

/// `POST`: one JSON-RPC message.
pub(super) async fn post(endpoint: &Endpoint, request: Request<Body>) -> Response<Body> {
    let address = endpoint.audited_address(&request);
    endpoint.post(request).await.unwrap_or_else(|rescued| endpoint.turn_away(rescued, address))
}

/// `GET`: the stream of messages that answer no request; legacy sessions only.
pub(super) async fn get(endpoint: &Endpoint, request: Request<Body>) -> Response<Body> {
    let address = endpoint.audited_address(&request);
    endpoint.get(request).await.unwrap_or_else(|rescued| endpoint.turn_away(rescued, address))
}

/// `DELETE`: the end of a legacy session.
pub(super) async fn delete(endpoint: &Endpoint, request: Request<Body>) -> Response<Body> {
    let address = endpoint.audited_address(&request);
    endpoint.delete(request).await.unwrap_or_else(|rescued| endpoint.turn_away(rescued, address))
}

impl Endpoint {
    async fn post(&self, request: Request<Body>) -> Answer {
        let Knocked { address, passage } = self.knock(&request).await?;
        let answer = self.post_from(address, &passage, request).await;
        passage.ends(answer).await
    }

    async fn post_from(&self, address: Option<IpAddr>, passage: &Passage, request: Request<Body>) -> Answer {
        let (mut parts, body) = request.into_parts();
        self.check_intent(&parts.headers)?;
        let change = self.server.callers_change();
        let caller = match self.caller(&mut parts, passage.toll()).await {
            Ok(caller) => caller,
            Err(refused) => {
                passage.pay().await?;
                // A token that ended in the middle of a session: the client has to read that, and may still be writing.
                if !parts.headers.contains_key(EXPECT) {
                    discard(body).await;
                }
                return Err(refused);
            }
        };
        if !is_json(&parts.headers) {
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::INVALID_REQUEST, "the body must be application/json"));
        }
        let text = self.read(&parts.headers, body).await?;
        let message = match Message::parse(text.clone()) {
            Ok(message) => message,
            Err(error) if error.kind == ParseErrorKind::Batch => {
                passage.pay().await?;
                return Box::pin(self.post_batch(caller, &parts.headers, &text, address)).await;
            }
            Err(error) => return Err(rescue_parse(&error)),
        };
        let header = parts.headers.get(PROTOCOL_VERSION).and_then(|value| value.to_str().ok());
        let session = parts.headers.get(SESSION_ID);
        let opening = classify(&message, header, session.is_some()).map_err(|error| rescue_opening(&error, message.id()))?;
        match opening {
            Opening::Initialize => Box::pin(self.initialize(caller, &message)).await,
            Opening::Modern(_) => {
                check_headers(&parts.headers, &message)?;
                let client = Client::Modern(Arc::new(ModernClient { params: Some(param_headers(&parts.headers)) }));
                if message.method() == "subscriptions/listen" {
                    let tenure = Tenure::new(change, &caller, self.gateway.clock());
                    return Box::pin(self.serve(passage, caller, client, message)).await.map(|response| tenure.bounds(response));
                }
                self.serve(passage, caller, client, message).await
            }
            Opening::Legacy(_) => {
                let session = self.session(&caller, session, message.id()).await?;
                self.serve(passage, caller, Client::Legacy(session), message).await
            }
        }
    }

    async fn serve(&self, passage: &Passage, caller: Caller, client: Client, message: Message) -> Answer {
        match message.kind() {
            Kind::Request => {
                let (id, era) = (message.id().cloned(), client.era());
                let (caller, request_id) = self.asking(caller);
                let has_line = request_id.is_some() && has_line(message.method());
                let handled = match era {
                    Era::Legacy => self.gateway.handle_to_the_end(caller, client, message).await,
                    // A modern client cancels by hanging up.
                    Era::Modern => Box::pin(self.gateway.handle(&caller, &client, message)).await,
                };
                match handled {
                    Ok(reply) => Ok(named(respond(reply, id, era), request_id)),
                    Err(error) => {
                        let rescued = rescue(&error, id.as_ref(), era);
                        let rescued = if has_line { rescued } else { rescued.without_line(&error) };
                        Err(Rescued { request_id: rescued.request_id.or(request_id), ..rescued })
                    }
                }
            }
            Kind::Notification => {
                passage.pay().await?;
                let heard = Box::pin(self.gateway.notified(&client, &message)).await;
                heard.map_err(|error| rescue(&error, None, client.era()))?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            Kind::Response | Kind::ErrorResponse => {
                let era = client.era();
                passage.pay().await?;
                Box::pin(self.gateway.answered(&client, message)).await.map_err(|error| rescue(&error, None, era))?;
                Ok(empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// Only 2025-03-26 has batches.
    async fn post_batch(&self, caller: Caller, headers: &HeaderMap, text: &Bytes, address: Option<IpAddr>) -> Answer {
        let batch = || rescue_parse(&ParseErrorKind::Batch.into());
        let session = headers.get(SESSION_ID).ok_or_else(batch)?;
        let session = self.session(&caller, Some(session), None).await?;
        if session.record.version != Version::V2025_03_26 {
            return Err(batch());
        }
        let messages = batch::split(text).map_err(|error| rescue_parse(&error))?;
        let mut parts = parts(Arc::clone(&self.gateway), caller, session, messages, WayIn::Http(address));
        let mut answers = Vec::new();
        while let Some(part) = parts.next().await {
            match part {
                Part::Answer(answer) => answers.push(answer),
                Part::Message(message) => return Ok(event_stream(part_bytes(answers, Some(message), parts))),
                Part::Begins => return Ok(event_stream(part_bytes(answers, None, parts))),
            }
        }
        if answers.is_empty() {
            return Ok(empty(StatusCode::ACCEPTED));
        }
        Ok(with_json(StatusCode::OK, Body::from(batch::join(&answers))))
    }

    /// With an id where there is an audit trail, under which the client, too, finds its line.
    fn asking(&self, caller: Caller) -> (Caller, Option<RequestId>) {
        match self.gateway.audit().is_on().then(RequestId::next) {
            Some(request_id) => (caller.asking_as(request_id), Some(request_id)),
            None => (caller, None),
        }
    }

    async fn initialize(&self, caller: Caller, message: &Message) -> Answer {
        let (caller, request_id) = self.asking(caller);
        let greeted = self.gateway.initialize(&caller, message, Reach::Anywhere).await;
        let (session, reply) = greeted.map_err(|error| {
            let rescued = rescue(&error, message.id(), Era::Legacy);
            Rescued { request_id: rescued.request_id.or(request_id), ..rescued }
        })?;
        let mut response = named(respond(reply, message.id().cloned(), Era::Legacy), request_id);
        if let Ok(mut id) = HeaderValue::from_str(&session.id().to_string()) {
            id.set_sensitive(true);
            response.headers_mut().insert(HeaderName::from_static(SESSION_ID), id);
        }
        Ok(response)
    }

    async fn get(&self, request: Request<Body>) -> Answer {
        let passage = self.enter(&request).await?.passage;
        let (mut parts, _) = request.into_parts();
        let change = self.server.callers_change();
        let caller = self.caller(&mut parts, passage.toll()).await?;
        let tenure = Tenure::new(change, &caller, self.gateway.clock());
        // HEAD comes here too, and would take the stream away from whoever reads it.
        if parts.method != Method::GET || parts.headers.get(SESSION_ID).is_none() {
            return Ok(not_allowed());
        }
        let session = self.session(&caller, parts.headers.get(SESSION_ID), None).await?;
        let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/event-stream") || value.contains("*/*"));
        if !parts.headers.get_all(ACCEPT).iter().any(accepts) {
            return Err(refusal(StatusCode::NOT_ACCEPTABLE, code::INVALID_REQUEST, "GET needs Accept: text/event-stream"));
        }
        if let Some(id) = parts.headers.get(LAST_EVENT_ID).and_then(|id| EventId::parse(id.as_bytes())) {
            let gone = || refusal(StatusCode::BAD_REQUEST, code::INVALID_REQUEST, "nothing is kept for this Last-Event-ID");
            return Ok(tenure.bounds(event_stream(replayed(session.replay(id).ok_or_else(gone)?))));
        }
        let outbox = self.gateway.open_stream(&session);
        let drain = self.gateway.drain_token().clone();
        Ok(tenure.bounds(event_stream(Stream { session, outbox, drain }.into_stream())))
    }

    async fn delete(&self, request: Request<Body>) -> Answer {
        let passage = self.enter(&request).await?.passage;
        let (mut parts, _) = request.into_parts();
        self.check_intent(&parts.headers)?;
        let caller = self.caller(&mut parts, passage.toll()).await?;
        if parts.headers.get(SESSION_ID).is_none() {
            return Ok(not_allowed());
        }
        let session = self.session(&caller, parts.headers.get(SESSION_ID), None).await?;
        Box::pin(self.gateway.end_everywhere(&session)).await.map_err(|error| rescue(&error, None, Era::Legacy))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// `Host` and `Origin`.
    pub(super) fn check(&self, request: &Request<Body>) -> Result<(), Rescued> {
        self.door.check(request.uri(), request.headers()).map_err(|refused| Rescued {
            turned_away: Some(TurnedAway::Door(refused.word()).into()),
            ..refusal(StatusCode::FORBIDDEN, code::INVALID_REQUEST, &self.door.refuse("mcp", &refused))
        })
    }

    /// What is decided before anything is read: `Host` and `Origin`, then whether the limits for everybody and for the address that
    /// the request comes from would refuse it. Does not hold on to the request.
    pub(super) fn knock<'a>(&'a self, request: &Request<Body>) -> impl Future<Output = Result<Knocked, Rescued>> + Send + use<'a> {
        let checked = self.check(request);
        let guest = request.extensions().get::<Guest>();
        let address = guest.map(|guest| client_address(&self.server.now().client_ip, guest.address, request.headers()));
        async move {
            checked?;
            Ok(Knocked { address, passage: Passage::begin(&self.gateway, address).await? })
        }
    }

    /// The same for a request that becomes no call which could pay for it.
    pub(super) fn enter<'a>(&'a self, request: &Request<Body>) -> impl Future<Output = Result<Knocked, Rescued>> + Send + use<'a> {
        let knocked = self.knock(request);
        async move {
            let knocked = knocked.await?;
            knocked.passage.pay().await?;
            Ok(knocked)
        }
    }

    /// Reads the body, at most `max_body_size` bytes and within the request time-out.
    pub(super) async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, Rescued> {
        let max_body_size = self.server.now().max_body_size;
        let too_large = || {
            let words = format!("the body is larger than {max_body_size} bytes");
            refusal(StatusCode::PAYLOAD_TOO_LARGE, code::INVALID_REQUEST, &words)
        };
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<usize>().ok());
        if declared.is_some_and(|length| length > max_body_size) {
            // Whoever waits for our consent sends nothing without it.
            if !headers.contains_key(EXPECT) {
                discard(body).await;
            }
            return Err(too_large());
        }
        let whole = Limited::new(&mut body, max_body_size).collect();
        match tokio::time::timeout(self.server.now().request_timeout, whole).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                discard(body).await;
                Err(too_large())
            }
            Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST, code::PARSE_ERROR, "the body broke off")),
            Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, code::PARSE_ERROR, "the body did not come in time")),
        }
    }

    async fn session(&self, caller: &Caller, header: Option<&HeaderValue>, id: Option<&Id>) -> Result<Arc<LegacySession>, Rescued> {
        let body = |words| error_response(id, code::INVALID_REQUEST, words, None);
        let error = |status, words, turned_away| Rescued {
            status,
            body: body(words),
            request_id: None,
            retry_after: None,
            challenge: None,
            turned_away,
        };
        let header = header.ok_or_else(|| error(StatusCode::BAD_REQUEST, "Mcp-Session-Id is missing: send initialize first", None))?;
        let not_theirs = || Some(TurnedAway::Session(caller.clone()).into());
        let found = match SessionId::parse(header.as_bytes()) {
            Some(session) => self.gateway.session(session, caller).await.map_err(|error| rescue(&error, id, Era::Legacy))?,
            None => None,
        };
        found.ok_or_else(|| error(StatusCode::NOT_FOUND, "the session is not known: send initialize again", not_theirs()))
    }
}

/// Reads on for a while, because a client that writes first and reads later would meet a reset instead of the refusal.
async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

fn check_headers(headers: &HeaderMap, message: &Message) -> Result<(), Rescued> {
    let values = |name: &'static str| headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    Mirrored::read(values).and_then(|mirrored| mirrored.check(message)).map_err(|error| rescue_opening(&error.into(), message.id()))
}

fn param_headers(headers: &HeaderMap) -> HeaderMap {
    let mut params = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(PARAM_PREFIX)) {
        params.append(name, value.clone());
    }
    params
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json")
    })
}

fn respond(reply: Reply, id: Option<Id>, era: Era) -> Response<Body> {
    match reply {
        Reply::Message { status, body, retry_after } => come_again(with_json(status, Body::from(body)), retry_after),
        Reply::Pieces(pieces) => with_json(StatusCode::OK, Body::new(super::pieces::Pieces::new(pieces))),
        Reply::Json(json) => with_json(json.status, Body::new(*json)),
        Reply::Events(mut events) => match era == Era::Legacy && events.record(id.as_ref()) {
            true => event_stream(recorded(*events, id)),
            false => event_stream(event_bytes(*events, id, era)),
        },
    }
}

/// Writes messages as events, and a comment whenever nothing was said for a while.
fn event_bytes(events: EventReply, id: Option<Id>, era: Era) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold((events, id), move |(mut events, id)| async move {
        let bytes = match tokio::time::timeout(KEEP_ALIVE, events.next()).await {
            Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
            Ok(None) => return None,
            Ok(Some(Ok(message))) => sse::Event::message(message).encode(),
            Ok(Some(Err(error))) => sse::Event::message(rescue(&error, id.as_ref(), era).body).encode(),
        };
        Some((Ok(bytes), (events, id)))
    })
}

/// What is left of a batch, as soon as one of its requests is answered with more than an answer.
fn part_bytes(
    answers: Vec<Bytes>,
    first: Option<Bytes>,
    parts: BoxStream<'static, Part>,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    let ready: VecDeque<Bytes> = answers.into_iter().chain(first).collect();
    futures_util::stream::unfold((ready, parts), |(mut ready, mut parts)| async move {
        let bytes = loop {
            if let Some(message) = ready.pop_front() {
                break sse::Event::message(message).encode();
            }
            match tokio::time::timeout(KEEP_ALIVE, parts.next()).await {
                Err(_) => break Bytes::from_static(sse::KEEP_ALIVE),
                Ok(None) => return None,
                Ok(Some(Part::Begins)) => {}
                Ok(Some(Part::Message(message) | Part::Answer(message))) => ready.push_back(message),
            }
        };
        Some((Ok(bytes), (ready, parts)))
    })
}

/// A legacy client's GET stream.
struct Stream {
    session: Arc<LegacySession>,
    outbox: Outbox,
    drain: CancellationToken,
}

impl Stream {
    fn into_stream(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut stream| async move {
            let message = tokio::select! {
                message = tokio::time::timeout(KEEP_ALIVE, stream.outbox.next()) => message,
                () = stream.session.ended() => return None,
                () = stream.drain.cancelled() => return None,
            };
            let bytes = match message {
                Err(_) => Bytes::from_static(sse::KEEP_ALIVE),
                Ok(None) => return None,
                Ok(Some(message)) => sse::Event::message(message).encode(),
            };
            Some((Ok(bytes), stream))
        })
    }
}
