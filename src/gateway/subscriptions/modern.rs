//! A `subscriptions/listen` of the gateway's own at a modern upstream (MCP 2026-07-28, basic/subscriptions).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::timeout;

use super::{Wishes, covers};
use crate::{
    bridge,
    gateway::Gateway,
    mcp::{Field, Id, Kind, Message, Method, Splices, Version, build, build::RequestMeta, errors::ErrorParts},
    upstream::{Answer, Generation, Messages, Outgoing, Session, UpstreamError},
};

/// Longest wait for an upstream's acknowledgement.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// Messages of other kinds that may come before it.
const MAX_BEFORE: usize = 16;

/// In whose words an upstream is asked.
#[derive(Clone, Debug)]
pub(super) enum Words {
    /// A modern client's own request, with another filter and id.
    Client(Box<Message>),
    /// For a legacy client: its raw `clientInfo`. It can be asked for nothing on such a stream.
    Session(Bytes),
}

impl Words {
    fn request(&self, id: &Id, version: Version, filter: Vec<u8>) -> Bytes {
        match self {
            Self::Client(message) => {
                let mut splices = Splices::new();
                if let Some(span) = message.id_span() {
                    splices.replace(span, id.clone().into_json());
                }
                if let Some(span) = message.span(Field::Notifications) {
                    splices.replace(span, filter);
                }
                splices.apply(message.bytes())
            }
            Self::Session(client_info) => {
                let meta = RequestMeta {
                    version,
                    client_info: Some(client_info.clone()),
                    client_capabilities: Bytes::from_static(b"{}"),
                    log_level: None,
                };
                let params = crate::mcp::splice::object(&[("_meta", &meta.object()), ("notifications", &filter)]);
                build::request(id, Method::Listen, Some(&params))
            }
        }
    }
}

/// An acknowledged subscription. Dropping it ends it upstream.
#[derive(Debug)]
pub(super) struct ModernStream {
    messages: Messages,
    /// What the upstream has agreed to.
    pub(super) honoured: Wishes,
    _farewell: Option<Farewell>,
}

/// A child hears of the end of a subscription by a message; over HTTP the end of the stream says it.
#[derive(Debug)]
struct Farewell {
    gateway: Arc<Gateway>,
    generation: Arc<Generation>,
    session: Arc<Session>,
    id: u64,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let (generation, session) = (Arc::clone(&self.generation), Arc::clone(&self.session));
        let cancelled = build::cancelled(&Id::from_u64(self.id), "nobody listens any more");
        let shutdown = self.gateway.shutdown.clone();
        self.gateway.tasks.spawn(async move {
            tokio::select! {
                said = generation.notify(&session, cancelled) => {
                    if let Err(error) = said {
                        tracing::debug!(%error, "the end of a subscription could not be said");
                    }
                }
                () = shutdown.cancelled() => {}
            }
        });
    }
}

impl ModernStream {
    /// Asks for `wishes` and waits for the acknowledgement.
    ///
    /// # Errors
    /// [`UpstreamError`], also when the upstream refuses.
    pub(super) async fn open(
        gateway: &Arc<Gateway>,
        generation: &Arc<Generation>,
        session: Option<&Arc<Session>>,
        words: &Words,
        wishes: &Wishes,
    ) -> Result<Self, UpstreamError> {
        let id = session.map_or_else(|| generation.own_id(), |session| session.next_id());
        let body = words.request(&Id::from_u64(id), generation.version(), wishes.to_json());
        let mut routing = HeaderMap::new();
        if !generation.is_stdio() {
            bridge::standard_headers(&mut routing, Method::Listen, "");
        }
        let farewell = session.filter(|session| session.is_process()).map(|session| Farewell {
            gateway: Arc::clone(gateway),
            generation: Arc::clone(generation),
            session: Arc::clone(session),
            id,
        });
        let request = Outgoing { body, id, owner: None, caller: None, routing, is_endless: true };
        let mut messages = match generation.exchange(session, request).await? {
            Answer::Messages(messages) => messages,
            Answer::Json(json) => {
                let limit = generation.list_timeout();
                let whole = timeout(limit, json.collect(gateway.config().bounds.max_event)).await;
                let whole = whole.unwrap_or(Err(UpstreamError::TimedOut(limit)))?;
                return Err(Message::parse(whole).map_or_else(|error| UpstreamError::protocol(error.to_string()), |said| refused(&said)));
            }
            Answer::Accepted => return Err(UpstreamError::protocol("a subscription was acknowledged without a stream")),
        };
        let acknowledged = timeout(ACKNOWLEDGED, acknowledgement(&mut messages)).await;
        let acknowledged = acknowledged.unwrap_or(Err(UpstreamError::TimedOut(ACKNOWLEDGED)))?;
        Ok(Self { messages, honoured: wishes.honoured_by(&acknowledged), _farewell: farewell })
    }

    /// The next notification that was asked for and agreed to; `None` when the subscription is over. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            let message = match Message::parse(self.messages.next().await?.ok()?) {
                Ok(message) => message,
                Err(error) => {
                    tracing::debug!(%error, "a message of a subscription is not JSON-RPC; dropped");
                    continue;
                }
            };
            match message.kind() {
                // The upstream ends it.
                Kind::Response | Kind::ErrorResponse => return None,
                Kind::Notification if Method::parse(message.method()) == Some(Method::Cancelled) => return None,
                Kind::Notification if self.is_wished(&message) => return Some(message),
                // Log messages, progress and requests have no place on such a stream.
                Kind::Notification | Kind::Request => tracing::debug!(method = message.method(), "nobody subscribed to this; dropped"),
            }
        }
    }

    fn is_wished(&self, message: &Message) -> bool {
        match Method::parse(message.method()) {
            Some(Method::ResourceUpdated) => {
                let updated = message.uri();
                updated.is_some_and(|updated| self.honoured.uris.iter().any(|uri| covers(uri, &updated)))
            }
            Some(Method::TaskChanged) => message.task_id().is_some_and(|task| self.honoured.tasks.contains(&*task)),
            Some(_) => false,
            // An extension's own.
            None => !self.honoured.further.is_empty(),
        }
    }
}

/// The filter that the upstream has agreed to.
async fn acknowledgement(messages: &mut Messages) -> Result<Bytes, UpstreamError> {
    for _ in 0..MAX_BEFORE {
        let Some(next) = messages.next().await else { break };
        let message = Message::parse(next?).map_err(|error| UpstreamError::protocol(error.to_string()))?;
        match message.kind() {
            Kind::Response | Kind::ErrorResponse => return Err(refused(&message)),
            Kind::Notification if Method::parse(message.method()) == Some(Method::Acknowledged) => {
                return Ok(message.raw(Field::Notifications).unwrap_or_else(|| Bytes::from_static(b"{}")));
            }
            Kind::Notification | Kind::Request => {}
        }
    }
    Err(UpstreamError::protocol("a subscription's stream ended without its acknowledgement"))
}

fn refused(answer: &Message) -> UpstreamError {
    let code = ErrorParts::of(answer).map(|error| error.code);
    UpstreamError::protocol(code.map_or_else(
        || "a subscription was ended instead of acknowledged".to_owned(),
        |code| format!("a subscription was refused with error {code}"),
    ))
}
