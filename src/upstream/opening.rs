//! Opens sessions with an upstream: `initialize` over HTTP or to a child process.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::timeout;

use super::{
    Answer, Generation, Session, SessionSpec, UpstreamError,
    bring_up::own_spec,
    generation::{MAX_GREETING, Transport, version_header, whole, within_limit},
    life::Stay,
    session::SessionLink,
    transport::{
        channel::Channel,
        legacy_sse,
        streamable_http::{HttpTransport, RequestHeaders},
    },
};
use crate::{
    mcp::{
        Era, Field, Id, Kind, Message, Method, Version, build,
        errors::{ErrorParts, code},
        handshake::ServerFacts,
    },
    reason::{Explanation, Reason},
};

/// Id of the initialize request; the counters of a session start above it.
const INITIALIZE_ID: u64 = 0;

impl Generation {
    /// Opens a legacy session, or the process that a modern child is reached through.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn open(&self, spec: &SessionSpec) -> Result<Arc<Session>, UpstreamError> {
        let limit = match &self.transport {
            Transport::Http(_) => self.list_timeout,
            Transport::Stdio(host) => host.startup_timeout(),
        };
        let ticket = self.life.begin(Stay::Call)?;
        let opened = timeout(limit, ticket.within(Box::pin(self.open_without_limit(spec)).as_mut()))
            .await
            .unwrap_or(Err(UpstreamError::TimedOut(limit)));
        match opened {
            // Nothing of what the session is for was sent.
            Err(UpstreamError::Failed { explanation, .. }) if explanation.reason == Reason::Drained => {
                Err(UpstreamError::Failed { explanation, never_sent: true })
            }
            Err(error) if self.era == Era::Modern && spec.version.era() == Era::Legacy && error.is_no_initialize() => {
                // One client's words are no reason to speak differently for all others.
                match timeout(limit, Box::pin(self.open_without_limit(&own_spec()))).await {
                    Ok(Err(confirmed)) if confirmed.is_no_initialize() => {}
                    Ok(Ok(session)) => {
                        self.close(&session).await;
                        return Err(error);
                    }
                    Ok(Err(_)) | Err(_) => return Err(error),
                }
                tracing::debug!(%error, "the server speaks the modern era only");
                self.refuses_legacy.store(true, Ordering::Relaxed);
                Err(UpstreamError::WrongEra)
            }
            other => other,
        }
    }

    /// The legacy handshake with a server whose era is being found out.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(crate) async fn initialize(&self, spec: &SessionSpec) -> Result<Arc<Session>, UpstreamError> {
        timeout(self.list_timeout, self.open_without_limit(spec)).await.unwrap_or(Err(UpstreamError::TimedOut(self.list_timeout)))
    }

    async fn open_without_limit(&self, spec: &SessionSpec) -> Result<Arc<Session>, UpstreamError> {
        let session = match &self.transport {
            Transport::Http(http) if http.is_sse() => {
                let channel = legacy_sse::open(http, &self.life).await?;
                let link = SessionLink::Sse { channel: Arc::clone(&channel), life: self.life.clone() };
                initialize_channel(channel, link, spec).await?
            }
            Transport::Http(http) => initialize_http(http, spec).await?,
            Transport::Stdio(host) => {
                let principal = spec.principal.clone();
                let process = host.start(principal).await.map_err(|explanation| UpstreamError::Failed { explanation, never_sent: true })?;
                match spec.version.era() {
                    Era::Modern => Session::new(spec.version, SessionLink::Process(process), b""),
                    Era::Legacy => initialize_process(process, spec).await?,
                }
            }
        };
        let session = Arc::new(session);
        if let Some(level) = spec.log_level.as_ref().filter(|_| session.era() == Era::Legacy) {
            self.set_log_level(&session, level).await?;
        }
        Ok(session)
    }

    /// Tells a legacy session which log messages are wanted; `level` is a raw JSON string.
    ///
    /// # Errors
    /// [`UpstreamError`]; a server that refuses the level is none.
    pub async fn set_log_level(&self, session: &Arc<Session>, level: &[u8]) -> Result<(), UpstreamError> {
        let id = session.next_id();
        let params = [&b"{\"level\":"[..], level, b"}"].concat();
        let body = build::request(&Id::from_u64(id), Method::SetLevel, Some(&params));
        self.ask(Some(session), Method::SetLevel, id, body).await.map(drop)
    }
}

/// Opens a legacy session over HTTP (MCP 2025-11-25, basic/lifecycle).
async fn initialize_http(http: &Arc<HttpTransport>, spec: &SessionSpec) -> Result<Session, UpstreamError> {
    let (answer, id) = match http.initialize(initialize_body(spec)).await {
        Err((Some(status), error)) if says_no_initialize(status) && error.reason() == Reason::HttpStatus => {
            return Err(no_initialize(format!("the server answered initialize with HTTP {}", status.as_u16())));
        }
        other => other.map_err(|(_, error)| error)?,
    };
    let status = match &answer {
        Answer::Json(json) => Some(json.status),
        Answer::Accepted | Answer::Messages(_) => None,
    };
    if let Some(status) = status.filter(|status| *status == StatusCode::FORBIDDEN) {
        return Err(UpstreamError::Failed { explanation: http.refuses(status), never_sent: false });
    }
    let message = whole(answer, INITIALIZE_ID, MAX_GREETING, None).await?;
    let version = agreed_version(&message, status)?;
    let headers = RequestHeaders { version: Some(version_header(version)), session: id.clone(), ..Default::default() };
    http.post(headers, build::notification(Method::Initialized, None)).await?;
    Ok(Session::new(version, SessionLink::Http { id, version: version_header(version) }, message.bytes()))
}

/// The same over a child's stdin and stdout.
pub(crate) async fn initialize_process(process: Arc<Channel>, spec: &SessionSpec) -> Result<Session, UpstreamError> {
    let link = SessionLink::Process(Arc::clone(&process));
    initialize_channel(process, link, spec).await
}

async fn initialize_channel(channel: Arc<Channel>, link: SessionLink, spec: &SessionSpec) -> Result<Session, UpstreamError> {
    let mut messages = channel.request(INITIALIZE_ID, None, None, initialize_body(spec)).await?;
    let message = loop {
        match messages.next().await {
            None => return Err(UpstreamError::Failed { explanation: channel.ended().await, never_sent: true }),
            Some(next) => {
                let message = Message::parse(next?).map_err(|error| UpstreamError::protocol(error.to_string()))?;
                if matches!(message.kind(), Kind::Response | Kind::ErrorResponse) {
                    break message;
                }
            }
        }
    };
    drop(messages);
    let message = within_limit(message, MAX_GREETING)?;
    let version = agreed_version(&message, None)?;
    channel.send(build::notification(Method::Initialized, None)).await?;
    Ok(Session::new(version, link, message.bytes()))
}

fn initialize_body(spec: &SessionSpec) -> Bytes {
    build::initialize(&Id::from_u64(INITIALIZE_ID), spec.version, &spec.capabilities, &spec.client_info)
}

fn agreed_version(message: &Message, status: Option<StatusCode>) -> Result<Version, UpstreamError> {
    if message.kind() == Kind::ErrorResponse {
        let code = ErrorParts::of(message).map(|error| error.code);
        let said = status.is_some_and(says_no_initialize) || code.is_some_and(|code| NO_INITIALIZE.contains(&code));
        return Err(if said {
            no_initialize(format!("the server does not know initialize (error {})", code.unwrap_or_default()))
        } else {
            UpstreamError::protocol("the server refused to initialize")
        });
    }
    let facts = ServerFacts::from_initialize(&message.raw(Field::Result).unwrap_or_default());
    // Where the server is known to speak the modern era, such an answer only shows that it does not know this method.
    let facts = facts.map_err(|error| UpstreamError::NoInitialize(UpstreamError::protocol(error.to_string()).explanation()))?;
    facts
        .versions
        .iter()
        .filter_map(|version| Version::parse(version))
        .find(|version| version.era() == Era::Legacy)
        .ok_or_else(|| no_initialize("the server answered initialize with a protocol version that is not known here".to_owned()))
}

/// The errors with which a modern server meets `initialize`, which its revision does not have: an unknown method, a request
/// without the fields and headers of that revision, or a version it does not speak (MCP 2026-07-28, basic/versioning).
const NO_INITIALIZE: [i64; 4] = [code::METHOD_NOT_FOUND, code::INVALID_PARAMS, code::HEADER_MISMATCH, code::UNSUPPORTED_PROTOCOL_VERSION];

/// The same by HTTP status (MCP 2026-07-28, basic/transports). Trouble of the moment, such as 429 or 500, says nothing.
fn says_no_initialize(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

fn no_initialize(detail: String) -> UpstreamError {
    UpstreamError::NoInitialize(Explanation::new(Reason::Protocol, detail, "nothing, if the server is a modern one"))
}
