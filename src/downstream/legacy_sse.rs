//! The endpoints of 2024-11-05 for old clients (basic/transports, HTTP with SSE): a GET opens the stream, whose first event says
//! where messages are POSTed. The session lives as long as the stream.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    batch::WayIn,
    outlet::{EventSource, event_queue},
    peer::{Outlet, Peer},
    rescue::{Rescued, refusal, rescue_parse},
    responses::{empty, event_stream},
    streamable_http::{Answer, Endpoint, KEEP_ALIVE, Knocked, is_json},
    tenure::Tenure,
    turned_away::TurnedAway,
};
use crate::{
    auth::PrincipalKey,
    mcp::{Message, ParseErrorKind, errors::code, sse},
    session::SessionId,
};

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct OpenStreams(Mutex<HashMap<SessionId, Open>>);

/// One of them. Its address is as good as a credential, and still only its own principal may use it.
#[derive(Clone, Debug)]
struct Open {
    principal: PrincipalKey,
    peer: Arc<Peer>,
}

impl OpenStreams {
    /// The client that reads this stream, if it is this principal's.
    fn find(&self, id: SessionId, principal: &PrincipalKey) -> Option<Arc<Peer>> {
        self.0.lock().get(&id).filter(|open| open.principal == *principal).map(|open| Arc::clone(&open.peer))
    }
}

/// `GET`: opens a stream.
pub(super) async fn open(endpoint: &Arc<Endpoint>, request: Request<Body>) -> Response<Body> {
    let address = endpoint.audited_address(&request);
    endpoint.open_sse(request).await.unwrap_or_else(|rescued| endpoint.turn_away(rescued, address))
}

/// `POST`: one message, or a batch; what comes of it is said on the stream.
pub(super) async fn post(endpoint: &Endpoint, request: Request<Body>) -> Response<Body> {
    let address = endpoint.audited_address(&request);
    endpoint.post_sse(request).await.unwrap_or_else(|rescued| endpoint.turn_away(rescued, address))
}

/// Where messages are posted.
pub fn messages_path(sse_path: &str) -> String {
    format!("{}/messages", sse_path.trim_end_matches('/'))
}

impl Endpoint {
    async fn open_sse(self: &Arc<Self>, request: Request<Body>) -> Answer {
        let passage = self.enter(&request).await?.passage;
        let (mut parts, _) = request.into_parts();
        let change = self.server.callers_change();
        let caller = self.caller(&mut parts, passage.toll()).await?;
        let tenure = Tenure::new(change, &caller, self.gateway.clock());
        let config = self.gateway.config();
        let (id, gone) = (SessionId::random(), CancellationToken::new());
        let (queue, source) = event_queue(&gone);
        let peer = Peer::new(Arc::clone(&self.gateway), Outlet::Events(queue), gone.clone());
        {
            let mut open = self.streams.0.lock();
            if open.len() >= config.max_sessions {
                return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, code::SERVER_ERROR, "too many sessions; try again later"));
            }
            open.insert(id, Open { principal: caller.principal().clone(), peer: Arc::clone(&peer) });
        }
        let path = messages_path(parts.uri.path());
        let endpoint = sse::Event {
            event: Some(Bytes::from_static(b"endpoint")),
            data: Some(format!("{path}?sessionId={id}").into()),
            ..sse::Event::default()
        };
        let drain = self.gateway.drain_token().clone();
        // A client that does not read does not even let its stream be asked for more.
        let (of, closing) = (Arc::downgrade(self), Arc::clone(&peer));
        let end = gone.clone();
        self.gateway.spawn(async move {
            end.cancelled().await;
            if let Some(endpoint) = of.upgrade() {
                endpoint.streams.0.lock().remove(&id);
            }
            closing.close();
        });
        let stream = Stream { first: Some(endpoint.encode()), source, peer, drain, _gone: gone.drop_guard() };
        Ok(tenure.bounds(event_stream(stream.into_stream())))
    }

    async fn post_sse(&self, request: Request<Body>) -> Answer {
        // Whether its call may go is said on the stream, when this is answered already.
        let Knocked { address, passage } = self.enter(&request).await?;
        let (mut parts, body) = request.into_parts();
        self.check_intent(&parts.headers)?;
        let caller = self.caller(&mut parts, passage.toll()).await?;
        if !is_json(&parts.headers) {
            return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::INVALID_REQUEST, "the body must be application/json"));
        }
        let unknown = || Rescued {
            turned_away: Some(TurnedAway::Session(caller.clone()).into()),
            ..refusal(StatusCode::NOT_FOUND, code::INVALID_REQUEST, "the session is not known: open the event stream again")
        };
        let id = session_id(parts.uri.query().unwrap_or_default()).ok_or_else(unknown)?;
        let peer = self.streams.find(id, caller.principal()).ok_or_else(unknown)?;
        let text = self.read(&parts.headers, body).await?;
        match Message::parse(text.clone()) {
            Ok(message) if message.method() == "initialize" => {
                // It may wait for an upstream, and its answer for the stream to be read.
                self.gateway.spawn(async move {
                    match peer.place() {
                        Some(_place) => peer.take_message(&caller, message).await,
                        None => peer.refuse_one_more(&caller, message.id()).await,
                    }
                });
            }
            Ok(message) => peer.take_message(&caller, message).await,
            Err(error) if error.kind == ParseErrorKind::Batch => peer.take(&caller, text, WayIn::Http(address)).await,
            Err(error) => return Err(rescue_parse(&error)),
        }
        Ok(empty(StatusCode::ACCEPTED))
    }
}

fn session_id(query: &str) -> Option<SessionId> {
    query.split('&').find_map(|pair| pair.strip_prefix("sessionId=")).and_then(|id| SessionId::parse(id.as_bytes()))
}

/// A client's stream; its end is the end of the session.
struct Stream {
    first: Option<Bytes>,
    source: EventSource,
    peer: Arc<Peer>,
    drain: CancellationToken,
    _gone: DropGuard,
}

impl Stream {
    fn into_stream(self) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut stream| async move {
            let bytes = match stream.first.take() {
                Some(first) => first,
                None => stream.next().await?,
            };
            Some((Ok(bytes), stream))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        let Self { source, peer, drain, .. } = self;
        let quiet = async {
            drain.cancelled().await;
            peer.worked_off().await;
        };
        let message = tokio::select! {
            biased;
            message = tokio::time::timeout(KEEP_ALIVE, source.next()) => match message {
                Ok(message) => message?,
                Err(_) => return Some(Bytes::from_static(sse::KEEP_ALIVE)),
            },
            // Its calls are answered first, and what was said is read.
            () = quiet => source.try_next()?,
        };
        Some(sse::Event::message(message).encode())
    }
}
