//! A demo upstream over HTTPS: streamable HTTP without sessions, in both eras.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::server::{Reply, Sent, Upstream, converse, reports_progress};
use crate::mcp::{
    Message,
    errors::code,
    headers::{HeaderMismatch, Mirrored, PROTOCOL_VERSION},
    sse::Event,
};

/// The MCP endpoint's path.
pub(super) const PATH: &str = "/mcp";

/// Largest request body.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 256;

/// The TLS handshake, and then the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves `upstream` on a free port of 127.0.0.1 for as long as `tasks` lives.
///
/// # Errors
/// The system gives no socket.
pub(super) async fn serve<U: Upstream>(upstream: U, acceptor: TlsAcceptor, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tasks.spawn(accept(Arc::new(upstream), listener, acceptor));
    Ok(address)
}

async fn accept<U: Upstream>(upstream: Arc<U>, listener: TcpListener, acceptor: TlsAcceptor) {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors, most likely: try again when something has been closed.
                debug!(%error, "a demo upstream cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (upstream, acceptor) = (Arc::clone(&upstream), acceptor.clone());
        connections.spawn(async move {
            connection(upstream, acceptor, socket).await;
            drop(permit);
        });
    }
}

async fn connection<U: Upstream>(upstream: Arc<U>, acceptor: TlsAcceptor, socket: TcpStream) {
    let name = upstream.name();
    // Without it, a response in two writes waits for the client's delayed acknowledgement.
    let _ = socket.set_nodelay(true);
    let stream = match timeout(PATIENCE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(upstream = name, %error, "a TLS handshake with a demo upstream failed"),
        Err(_) => return debug!(upstream = name, "a TLS handshake with a demo upstream took too long"),
    };
    let service = service_fn(move |request| {
        let upstream = Arc::clone(&upstream);
        async move { Ok::<_, Infallible>(respond(upstream, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!(upstream = name, %error, "a connection to a demo upstream broke");
    }
}

async fn respond<U: Upstream>(upstream: Arc<U>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "the MCP endpoint is /mcp");
    }
    if request.method() != Method::POST {
        // No stream to listen on and no session to end (MCP 2025-11-25, basic/transports).
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "POST only");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    if request.headers().contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "no web page has business here");
    }
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return plain(StatusCode::PAYLOAD_TOO_LARGE, "more than 4 MiB"),
        Err(_) => return plain(StatusCode::BAD_REQUEST, "the body broke off"),
    };
    let message = match Message::parse(body) {
        Ok(message) => message,
        Err(error) => return json(Reply::unreadable(&error)),
    };
    if let Err(mismatch) = check_headers(&message, &parts.headers) {
        return json(Reply::error(message.id(), 400, code::HEADER_MISMATCH, &mismatch.to_string(), None));
    }
    let version = parts.headers.get(PROTOCOL_VERSION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if reports_progress(&message) && accepts_events(&parts.headers) {
        return events(converse(upstream, message, version));
    }
    let mut sent = pin!(converse(upstream, message, version));
    while let Some(sent) = sent.next().await {
        if let Sent::Reply(reply) = sent {
            return json(reply);
        }
    }
    empty(StatusCode::ACCEPTED)
}

/// What a modern request repeats in its headers must agree with its body.
fn check_headers(message: &Message, headers: &HeaderMap) -> Result<(), HeaderMismatch> {
    if message.meta_protocol_version().is_none() {
        return Ok(());
    }
    Mirrored::read(|name| headers.get_all(name).into_iter().map(HeaderValue::as_bytes))?.check(message)
}

fn accepts_events(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/event-stream"))
}

fn events(sent: impl Stream<Item = Sent> + Send + 'static) -> Response<Body> {
    let frames = sent.map(|sent| {
        let (Sent::Notification(body) | Sent::Reply(Reply { body, .. })) = sent;
        Ok::<_, Infallible>(Frame::data(Event::message(body).encode()))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn json(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Full::new(reply.body).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(words.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    plain(status, "")
}
