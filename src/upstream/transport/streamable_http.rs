//! Streamable HTTP towards an upstream (MCP 2025-11-25 and 2026-07-28, basic/transports): one POST per message.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::Either;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    uri::PathAndQuery,
};
use url::Url;

use super::{
    again::Again,
    error_pages::{failed, nginx_refusal, tls_is_spoken},
    events::EventStream,
};
use crate::{
    auth::Caller,
    mcp::headers::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID},
    outbound::{HttpClient, UpstreamBody},
    reason::{Explanation, Reason},
    upstream::{
        Answer, HeaderRules, HttpConfig, JsonAnswer, UpstreamError,
        answer::{Messages, collect},
        busy::{Busy, asks_to_wait},
        credential::Credential,
    },
};

/// Error pages and error objects are read up to here.
const MAX_ERROR_BODY: usize = 256 * 1024;

/// The client and the headers that every request to one upstream carries.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    /// The configured one, or where it redirected to.
    url: Url,
    client: HttpClient,
    /// The same for every request.
    headers: HeaderMap,
    /// Where what callers send takes part in it.
    rules: Option<HeaderRules>,
    credential: Credential,
    max_event: usize,
    wire: Wire,
    busy: Busy,
}

/// Which of the HTTP transports is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Streamable,
    /// HTTP with SSE of 2024-11-05.
    Sse {
        /// `message_url`
        messages: Option<Url>,
    },
}

/// The headers that belong to one request.
#[derive(Debug, Default)]
pub(crate) struct RequestHeaders {
    pub(crate) version: Option<HeaderValue>,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) last_event_id: Option<HeaderValue>,
    /// A stream that ends before the answer may be gone on with.
    pub(crate) resumes: bool,
    /// On whose behalf. `None`: for the gateway itself, or, in an upstream of one principal's own, for that one.
    pub(crate) caller: Option<Caller>,
    /// `Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`.
    pub(crate) routing: HeaderMap,
}

impl HttpTransport {
    pub(in crate::upstream) fn new(
        config: &HttpConfig,
        url: Url,
        client: HttpClient,
        credential: Credential,
        max_event: usize,
        wire: Wire,
        busy: Busy,
    ) -> Self {
        let mut headers = HeaderMap::new();
        let forwards = config.headers.forwarded().next().is_some();
        if !forwards {
            config.headers.apply(&mut headers, None);
        }
        let rules = forwards.then(|| config.headers.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Self { url, client, headers, rules, credential, max_event, wire, busy }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// A session is an event stream of its own.
    pub(crate) fn is_sse(&self) -> bool {
        matches!(self.wire, Wire::Sse { .. })
    }

    pub(super) fn message_address(&self) -> Option<&Url> {
        match &self.wire {
            Wire::Sse { messages } => messages.as_ref(),
            Wire::Streamable => None,
        }
    }

    pub(crate) fn policy(&self) -> Option<&crate::tls::TlsPolicy> {
        self.client.policy()
    }

    /// Why it refuses what it was shown.
    pub(crate) fn refuses(&self, status: StatusCode) -> Explanation {
        self.credential.refused(status)
    }

    /// Sends one JSON-RPC message and sorts what comes back.
    ///
    /// # Errors
    /// [`UpstreamError`]; `SessionLost` for a 404 to a request that carried a session id.
    pub(crate) async fn post(self: &Arc<Self>, own: RequestHeaders, body: Bytes) -> Result<Answer, UpstreamError> {
        let with_session = own.session.is_some();
        let again = own.resumes.then(|| (own.version.clone(), own.session.clone(), own.caller.clone()));
        let caller = own.caller.clone();
        let mut request = self.request(Method::POST, own);
        *request.body_mut() = body;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let response = self.send(caller, request).await?;
        match (self.sort(response, with_session).await?, again) {
            (Answer::Messages(messages), Some((version, session, caller))) => {
                Ok(Answer::Messages(messages.resumed_by(Again::new(Arc::clone(self), version, session, caller))))
            }
            (answer, _) => Ok(answer),
        }
    }

    /// The rest of a call's stream.
    ///
    /// # Errors
    /// [`UpstreamError`]; the server keeps nothing, or not this.
    pub(super) async fn resume(
        &self,
        version: Option<HeaderValue>,
        session: Option<HeaderValue>,
        last_event_id: Option<HeaderValue>,
        caller: Option<Caller>,
    ) -> Result<EventStream, UpstreamError> {
        self.get_events(RequestHeaders { version, session, last_event_id, caller, ..Default::default() }).await
    }

    /// Sends `initialize` and gives its answer with the session id that came with it.
    ///
    /// # Errors
    /// [`UpstreamError`], with the HTTP status where there was an answer.
    pub(crate) async fn initialize(&self, body: Bytes) -> Result<(Answer, Option<HeaderValue>), (Option<StatusCode>, UpstreamError)> {
        let mut request = self.request(Method::POST, RequestHeaders::default());
        *request.body_mut() = body;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let mut response = self.send(None, request).await.map_err(|error| (None, error))?;
        let status = response.status();
        let answered = |error| (Some(status), error);
        let session = match response.headers_mut().remove(SESSION_ID) {
            Some(id) if id.as_bytes().iter().all(|b| (0x21..=0x7e).contains(b)) => {
                // A copy: a header is a slice of the read buffer, which would live as long as the session.
                let copy = HeaderValue::from_bytes(id.as_bytes());
                let mut id = copy.map_err(|error| answered(UpstreamError::protocol(error.to_string())))?;
                id.set_sensitive(true);
                Some(id)
            }
            Some(_) => return Err(answered(UpstreamError::protocol("the session id holds a character outside 0x21 to 0x7E"))),
            None => None,
        };
        Ok((self.sort(response, false).await.map_err(answered)?, session))
    }

    /// Opens the stream for messages that answer no request. `None` when the server offers none (405).
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn listen(&self, own: RequestHeaders) -> Result<Option<Messages>, UpstreamError> {
        let (with_session, caller) = (own.session.is_some(), own.caller.clone());
        let mut request = self.request(Method::GET, own);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = self.send(caller, request).await?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED || (response.status() == StatusCode::NOT_FOUND && !with_session) {
            return Ok(None);
        }
        match self.sort(response, with_session).await? {
            Answer::Messages(messages) => Ok(Some(messages)),
            Answer::Accepted | Answer::Json(_) => Ok(None),
        }
    }

    /// Ends a session; a server that does not offer this answers 405, which is fine.
    pub(crate) async fn delete(&self, own: RequestHeaders, patience: Duration) {
        let request = self.request(Method::DELETE, own);
        match tokio::time::timeout(patience, self.send(None, request)).await {
            Ok(Ok(response)) => tracing::debug!(status = response.status().as_u16(), "upstream session ended"),
            Ok(Err(error)) => tracing::debug!(%error, "upstream session could not be ended"),
            Err(_) => tracing::debug!("upstream session could not be ended in time"),
        }
    }

    /// Opens the stream of a session of 2024-11-05, and gives it with the address that it came from.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(super) async fn open_events(&self) -> Result<(EventStream, Url), UpstreamError> {
        Ok((self.get_events(RequestHeaders::default()).await?, self.url.clone()))
    }

    async fn get_events(&self, own: RequestHeaders) -> Result<EventStream, UpstreamError> {
        let caller = own.caller.clone();
        let mut request = self.request(Method::GET, own);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = self.send(caller, request).await?;
        let content = Content::of(response.headers());
        match (response.status().is_success(), content) {
            (true, Content::Events) if !is_encoded(response.headers()) => Ok(EventStream::new(response.into_body(), self.max_event)),
            (true, Content::Events) => Err(UpstreamError::protocol(COMPRESSED)),
            (true, _) => Err(not_mcp(format!("HTTP {} where an event stream was asked for", response.status().as_u16()))),
            (false, _) => Err(self.refused(response).await),
        }
    }

    /// Why a response other than a success was given.
    pub(super) async fn refused(&self, response: Response<UpstreamBody>) -> UpstreamError {
        let (status, content) = (response.status(), Content::of(response.headers()));
        match self.sort_refusal(response, content, None).await {
            Ok(_) => http_status(status),
            Err(error) => error,
        }
    }

    pub(super) fn request(&self, method: Method, own: RequestHeaders) -> Request<Bytes> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.reserve(self.headers.len() + own.routing.len() + 5);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(rules) = &self.rules {
            rules.apply(headers, self.credential.whose(own.caller.as_ref()).as_ref());
        }
        for (name, value) in [(PROTOCOL_VERSION, own.version), (SESSION_ID, own.session), (LAST_EVENT_ID, own.last_event_id)] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        for (name, value) in own.routing {
            if let Some(name) = name {
                headers.insert(name, value);
            }
        }
        request
    }

    /// The way of every request: it goes out with the credential of whoever it is for.
    fn send(
        &self,
        caller: Option<Caller>,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + Send {
        self.send_to(None, caller, request)
    }

    /// The same to another path of the same origin.
    pub(super) fn send_to(
        &self,
        path: Option<&PathAndQuery>,
        caller: Option<Caller>,
        mut request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + Send {
        if self.credential.is_renewable() {
            return Either::Left(Box::pin(self.send_renewable(path.cloned(), caller, request)));
        }
        let shown = self.credential.show(request.headers_mut(), caller.as_ref());
        let sent = shown.map(|()| self.client.send_to(path, request));
        Either::Right(async move { Ok(sent?.await?) })
    }

    /// A request that was refused for its token was not executed, so whatever it was it is sent once more with another.
    async fn send_renewable(
        &self,
        path: Option<PathAndQuery>,
        caller: Option<Caller>,
        mut request: Request<Bytes>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let send = |request| self.client.send_to(path.as_ref(), request);
        let Some(shown) = self.credential.fetched(request.headers_mut(), caller.as_ref()).await? else { return Ok(send(request).await?) };
        let mut again = request.clone();
        let response = send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED && shown.renewed(again.headers_mut()).await? {
            return Ok(send(again).await?);
        }
        Ok(response)
    }

    async fn sort(&self, response: Response<UpstreamBody>, with_session: bool) -> Result<Answer, UpstreamError> {
        let status = response.status();
        if is_encoded(response.headers()) {
            return Err(UpstreamError::protocol(COMPRESSED));
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let content = Content::of(response.headers());
        if status.is_success() {
            return match content {
                Content::Json => Ok(Answer::Json(JsonAnswer { retry_after: None, status, length, body: response.into_body().into() })),
                Content::Events => Ok(Answer::Messages(Messages::of_events(response.into_body(), self.max_event))),
                _ if status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT || length == Some(0) => Ok(Answer::Accepted),
                Content::Html | Content::Other => {
                    Err(not_mcp(format!("HTTP {} with a content type that is neither JSON nor an event stream", status.as_u16())))
                }
            };
        }
        if with_session && status == StatusCode::NOT_FOUND {
            return Err(UpstreamError::SessionLost);
        }
        Box::pin(self.sort_refusal(response, content, length)).await
    }

    async fn sort_refusal(&self, response: Response<UpstreamBody>, content: Content, length: Option<u64>) -> Result<Answer, UpstreamError> {
        let status = response.status();
        let retry_after = asks_to_wait(status, response.headers());
        if let Some(after) = retry_after {
            self.busy.wait(after);
            // A JSON-RPC error says more than we could.
            if !matches!(content, Content::Json) {
                return Err(UpstreamError::Busy { status, after });
            }
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !matches!(content, Content::Json) || status == StatusCode::UNAUTHORIZED => {
                return Err(UpstreamError::Failed { explanation: self.refuses(status), never_sent: false });
            }
            _ if status.is_redirection() => {
                let location = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
                let permanent_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
                return Err(UpstreamError::Redirected { location, permanent_method });
            }
            _ => {}
        }
        match content {
            Content::Json => Ok(Answer::Json(JsonAnswer { retry_after, status, length, body: response.into_body().into() })),
            Content::Html | Content::Other if status == StatusCode::BAD_REQUEST => {
                let page = collect(response.into_body().into(), MAX_ERROR_BODY).await.unwrap_or_default();
                let told = match (self.url.scheme(), content) {
                    ("http", _) => tls_is_spoken(&page),
                    (_, Content::Html) => nginx_refusal(&page),
                    _ => None,
                };
                Err(told.unwrap_or_else(|| http_status(status)))
            }
            Content::Html | Content::Events | Content::Other => Err(http_status(status)),
        }
    }
}

const COMPRESSED: &str = "the answer is compressed although only `identity` was offered";

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

#[derive(Clone, Copy)]
enum Content {
    Json,
    Events,
    Html,
    Other,
}

impl Content {
    fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let essence = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/json") {
            Self::Json
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Self::Events
        } else if essence.eq_ignore_ascii_case(b"text/html") {
            Self::Html
        } else {
            Self::Other
        }
    }
}

fn not_mcp(detail: String) -> UpstreamError {
    failed(Reason::NotMcp, detail, "is `url` the MCP endpoint itself (often ending in /mcp), and not a web page?")
}

fn http_status(status: StatusCode) -> UpstreamError {
    failed(Reason::HttpStatus, format!("HTTP {}", status.as_u16()), "look at the server's log; is `url` its MCP endpoint?")
}

impl From<crate::outbound::SendError> for UpstreamError {
    fn from(error: crate::outbound::SendError) -> Self {
        Self::Failed { explanation: error.explanation, never_sent: error.never_sent }
    }
}
