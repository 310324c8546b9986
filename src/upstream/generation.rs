//! One running form of an upstream: its transport, and the era it was found to speak.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Answer, Isolation, Session, UpstreamError,
    life::{Life, Stay},
    session::SessionLink,
    stdio_host::StdioHost,
    transport::streamable_http::{HttpTransport, RequestHeaders},
};
use crate::{
    auth::{Caller, PrincipalKey},
    mcp::{
        Era, Id, Kind, Message, Method, Version,
        errors::{code, error_response},
        headers,
    },
    reason::{Explanation, Reason},
    session::SessionId,
};

/// Longest answer to initialize and server/discover, in bytes: it is kept as long as the session.
pub(super) const MAX_GREETING: usize = 1 << 20;
/// Most bytes of all pages of a walk together.
pub(crate) const MAX_OWN_ANSWER: usize = 32 << 20;

/// Taken once per call and kept to its end, so that a swap disturbs nothing in flight.
#[derive(Debug)]
pub struct Generation {
    pub(crate) number: u64,
    /// The era that the gateway itself speaks with it: the modern one where the server has it.
    pub(crate) era: Era,
    /// A modern server was asked to initialize and would not.
    pub(crate) refuses_legacy: AtomicBool,
    pub(crate) version: Version,
    pub(crate) transport: Transport,
    /// The session that the gateway lists with; a modern HTTP upstream needs none.
    pub(crate) own_session: Option<Arc<Session>>,
    pub(crate) own_ids: AtomicU64,
    pub(crate) call_timeout: Duration,
    pub(crate) list_timeout: Duration,
    pub(crate) life: Life,
}

#[derive(Debug)]
pub(crate) enum Transport {
    Http(Arc<HttpTransport>),
    Stdio(Box<StdioHost>),
}

/// A request that is ready to go.
#[derive(Debug)]
pub struct Outgoing {
    /// The message; its id is `id`.
    pub body: Bytes,
    /// The id used upstream, where the gateway chose it.
    pub id: u64,
    /// The downstream session it belongs to. In a process that several share, only its own messages reach it.
    pub owner: Option<SessionId>,
    /// On whose behalf: it goes up with that caller's own credential, where the upstream takes such. `None`: the gateway's own.
    pub caller: Option<Caller>,
    /// `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` for a modern HTTP upstream.
    pub routing: HeaderMap,
    /// It has no end of its own, such as a subscription.
    pub is_endless: bool,
}

impl Generation {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn era(&self) -> Era {
        self.era
    }

    /// The era in which to speak for a client of `down`: the client's own, as long as the server may know it.
    ///
    /// Many servers speak both eras, and nothing is bridged as well as what needs no bridge.
    pub fn era_for(&self, down: Era) -> Era {
        // What all share is one process, and it speaks one era.
        let is_shared = matches!(&self.transport, Transport::Stdio(host) if host.config().isolation == Isolation::Shared);
        match (self.era, down) {
            (Era::Modern, Era::Legacy) if !is_shared && !self.refuses_legacy.load(Ordering::Relaxed) => Era::Legacy,
            (era, _) => era,
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether a request travels in a session: every legacy one, and everything over a child process.
    pub fn needs_session(&self, era: Era) -> bool {
        era == Era::Legacy || matches!(self.transport, Transport::Stdio(_))
    }

    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Longest wait for an answer to a request of the gateway's own.
    pub fn list_timeout(&self) -> Duration {
        self.list_timeout
    }

    /// Whether this is the session that the gateway opened for itself.
    pub(crate) fn is_own(&self, session: &Arc<Session>) -> bool {
        self.own_session.as_ref().is_some_and(|own| Arc::ptr_eq(own, session))
    }

    /// An id for a request of the gateway's own.
    pub fn own_id(&self) -> u64 {
        match &self.own_session {
            Some(session) => session.next_id(),
            None => self.own_ids.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Each session is an event stream of its own.
    pub(crate) fn is_sse(&self) -> bool {
        matches!(&self.transport, Transport::Http(http) if http.is_sse())
    }

    /// Requests travel to a child process.
    pub fn is_stdio(&self) -> bool {
        matches!(self.transport, Transport::Stdio(_))
    }

    /// Sends a request and waits for the beginning of its answer, at most the call time-out.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn exchange(&self, session: Option<&Arc<Session>>, request: Outgoing) -> Result<Answer, UpstreamError> {
        let exchange = self.exchange_without_limit(session, request);
        timeout(self.call_timeout, exchange).await.unwrap_or(Err(UpstreamError::TimedOut(self.call_timeout)))
    }

    /// The same without a limit of time.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn exchange_without_limit(&self, session: Option<&Arc<Session>>, request: Outgoing) -> Result<Answer, UpstreamError> {
        let ticket = self.life.begin(if request.is_endless { Stay::Stream } else { Stay::Call })?;
        let answer = ticket.within(pin!(self.send(session, request))).await?;
        Ok(answer.with(ticket))
    }

    async fn send(&self, session: Option<&Arc<Session>>, request: Outgoing) -> Result<Answer, UpstreamError> {
        match (session.map(|session| &session.link), &self.transport) {
            (Some(SessionLink::Process(channel) | SessionLink::Sse { channel, .. }), _) => {
                Ok(Answer::Messages(channel.request(request.id, request.owner, request.caller, request.body).await?))
            }
            (Some(SessionLink::Http { id, version }), Transport::Http(http)) => {
                let headers = RequestHeaders {
                    version: Some(version.clone()),
                    session: id.clone(),
                    resumes: true,
                    caller: request.caller,
                    routing: request.routing,
                    ..Default::default()
                };
                http.post(headers, request.body).await
            }
            (None, Transport::Http(http)) => {
                let headers = RequestHeaders {
                    version: Some(version_header(self.version)),
                    caller: request.caller,
                    routing: request.routing,
                    ..Default::default()
                };
                http.post(headers, request.body).await
            }
            (_, Transport::Stdio(_)) => Err(UpstreamError::SessionLost),
        }
    }

    /// Sends a request and waits for the whole response message of at most `limit` bytes, within the call time-out.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn request(&self, session: Option<&Arc<Session>>, request: Outgoing, limit: usize) -> Result<Message, UpstreamError> {
        let id = request.id;
        let work = async {
            let answer = self.exchange_without_limit(session, request).await?;
            whole(answer, id, limit, session.map(|session| (self, session))).await
        };
        timeout(self.call_timeout, work).await.unwrap_or(Err(UpstreamError::TimedOut(self.call_timeout)))
    }

    /// Sends a notification, or the answer to a request of the upstream's, within the session it belongs to.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub async fn notify(&self, session: &Arc<Session>, body: Bytes) -> Result<(), UpstreamError> {
        match &session.link {
            SessionLink::Process(process) => process.send(body).await,
            SessionLink::Sse { channel, .. } => {
                let sent = timeout(self.list_timeout, channel.send(body)).await;
                sent.unwrap_or(Err(UpstreamError::TimedOut(self.list_timeout)))
            }
            SessionLink::Http { .. } => {
                let request = Outgoing { body, id: 0, owner: None, caller: None, routing: HeaderMap::new(), is_endless: false };
                let answer = timeout(self.list_timeout, self.exchange_without_limit(Some(session), request));
                answer.await.unwrap_or(Err(UpstreamError::TimedOut(self.list_timeout))).map(drop)
            }
        }
    }

    /// Sends a request of the gateway's own and waits for the whole response message.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn ask(&self, session: Option<&Arc<Session>>, method: Method, id: u64, body: Bytes) -> Result<Message, UpstreamError> {
        self.ask_up_to(MAX_GREETING, session, method, id, body).await
    }

    /// The same with an answer of at most `limit` bytes.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn ask_up_to(
        &self,
        limit: usize,
        session: Option<&Arc<Session>>,
        method: Method,
        id: u64,
        body: Bytes,
    ) -> Result<Message, UpstreamError> {
        let mut routing = HeaderMap::new();
        if session.is_none() {
            routing.insert(HeaderName::from_static(headers::METHOD), HeaderValue::from_static(method.as_str()));
        }
        let work = async {
            let request = Outgoing { body, id, owner: None, caller: None, routing, is_endless: false };
            let answer = self.exchange_without_limit(session, request).await?;
            if let (Answer::Json(json), Transport::Http(http)) = (&answer, &self.transport)
                && json.status == StatusCode::FORBIDDEN
            {
                // Whatever else it says: it says nothing about the server's era or its lists.
                return Err(UpstreamError::Failed { explanation: http.refuses(json.status), never_sent: false });
            }
            whole(answer, id, limit, session.map(|session| (self, session))).await
        };
        timeout(self.list_timeout, work).await.unwrap_or_else(|_| {
            let detail = format!("no answer to {} within {:?}", method.as_str(), self.list_timeout);
            Err(UpstreamError::Failed {
                explanation: Explanation::new(Reason::ListTimeout, detail, "raise list_timeout, if the server is merely slow"),
                never_sent: false,
            })
        })
    }

    /// The stream of messages that answer no request; `None` where the upstream offers none.
    pub(crate) async fn listen(&self, session: &Session) -> Result<Option<super::answer::Messages>, UpstreamError> {
        match (&session.link, &self.transport) {
            (SessionLink::Http { id, version }, Transport::Http(http)) => {
                let ticket = self.life.begin(Stay::Stream)?;
                let headers = RequestHeaders { version: Some(version.clone()), session: id.clone(), ..Default::default() };
                let messages = ticket.within(pin!(http.listen(headers))).await?;
                Ok(messages.map(|messages| messages.with(ticket)))
            }
            (SessionLink::Sse { channel, .. }, _) => channel.listen(),
            _ => Ok(None),
        }
    }

    /// Ends a session that nobody needs any more.
    pub(crate) async fn close(&self, session: &Session) {
        match (&session.link, &self.transport) {
            (SessionLink::Http { id: Some(id), version }, Transport::Http(http)) => {
                let headers = RequestHeaders { version: Some(version.clone()), session: Some(id.clone()), ..Default::default() };
                http.delete(headers, self.list_timeout).await;
            }
            (SessionLink::Process(channel) | SessionLink::Sse { channel, .. }, _) => channel.stop(),
            _ => {}
        }
    }
}

/// The response among everything that the answer holds. Requests of the server's are declined: nobody is there.
pub(super) async fn whole(
    answer: Answer,
    id: u64,
    limit: usize,
    within: Option<(&Generation, &Arc<Session>)>,
) -> Result<Message, UpstreamError> {
    let expected = Id::from_u64(id);
    let malformed = |error: crate::mcp::ParseError| UpstreamError::protocol(format!("the answer is not JSON-RPC: {error}"));
    match answer {
        Answer::Accepted => Err(UpstreamError::protocol("the request was acknowledged but not answered")),
        Answer::Json(json) => {
            let message = Message::parse(json.collect(limit).await?).map_err(malformed)?;
            // An error to a request that could not be read carries no id (JSON-RPC 2.0, section 5).
            let fits = message.kind() == Kind::ErrorResponse || message.id() == Some(&expected);
            if fits { Ok(message) } else { Err(UpstreamError::protocol("the answer carries the id of another request")) }
        }
        Answer::Messages(mut messages) => {
            loop {
                let Some(next) = messages.next().await else {
                    match messages.take_pause() {
                        Some(_) => continue,
                        None => break,
                    }
                };
                let message = Message::parse(next?).map_err(malformed)?;
                match (message.kind(), message.id()) {
                    (Kind::Response | Kind::ErrorResponse, Some(found)) if *found == expected => return within_limit(message, limit),
                    (Kind::Request, Some(found)) => {
                        if let Some((generation, session)) = within {
                            let refusal = error_response(Some(found), code::METHOD_NOT_FOUND, "no client is behind this session", None);
                            generation.notify(session, refusal).await?;
                        }
                    }
                    _ => {}
                }
            }
            match within.map(|(_, session)| &session.link) {
                Some(SessionLink::Process(channel) | SessionLink::Sse { channel, .. }) => {
                    Err(UpstreamError::Failed { explanation: channel.ended().await, never_sent: false })
                }
                _ => Err(UpstreamError::protocol("the stream ended without the answer")),
            }
        }
    }
}

pub(super) fn within_limit(message: Message, limit: usize) -> Result<Message, UpstreamError> {
    if message.bytes().len() > limit {
        return Err(UpstreamError::protocol(format!("the answer is longer than {limit} bytes")));
    }
    Ok(message)
}

/// Where a child's unasked messages go.
pub(crate) type Notices = mpsc::Sender<Notice>;

/// A message of a child's that answers no request.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Whose process it was.
    pub principal: PrincipalKey,
    /// Which process it was.
    pub process: u64,
    pub message: Bytes,
}

pub(super) fn version_header(version: Version) -> HeaderValue {
    HeaderValue::from_static(version.as_str())
}
