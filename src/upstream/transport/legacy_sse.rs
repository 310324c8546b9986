//! HTTP with server-sent events (MCP 2024-11-05, basic/transports): a GET opens the session, whose stream carries everything
//! that the server says; the client's messages are POSTed to where the stream's first event points.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::watch;
use url::Url;

use super::{
    channel::{Channel, Ends, Out, Unasked},
    events::EventStream,
    streamable_http::{HttpTransport, RequestHeaders},
};
use crate::{
    auth::Caller,
    mcp::sse::Event,
    reason::{Explanation, Reason},
    upstream::{
        UpstreamError,
        life::{Life, Stay, Ticket},
    },
};

/// Longest address of the `endpoint` event, in bytes.
const MAX_ENDPOINT: usize = 8 * 1024;
/// Events that may come before the `endpoint` event, which should be the first.
const MAX_BEFORE_ENDPOINT: usize = 16;
/// The body of an answer to a POST says nothing; so much of it is read, so that the connection can be used again.
const MAX_ACKNOWLEDGEMENT: usize = 64 * 1024;

/// How messages are sent in one session.
#[derive(Clone, Debug)]
pub(super) struct Post {
    transport: Arc<HttpTransport>,
    to: PathAndQuery,
}

impl Post {
    /// Sends one message; its answer, if it has one, comes on the stream.
    ///
    /// # Errors
    /// `SessionLost` for a 404, else what kept it from being taken.
    pub(super) async fn send(&self, caller: Option<Caller>, body: Bytes) -> Result<(), UpstreamError> {
        let mut request = self.transport.request(Method::POST, RequestHeaders::default());
        *request.body_mut() = body;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let response = self.transport.send_to(Some(&self.to), caller, request).await?;
        match response.status() {
            status if status.is_success() => {
                let rest = Limited::new(response.into_body(), MAX_ACKNOWLEDGEMENT).collect();
                if let Err(error) = rest.await {
                    tracing::debug!(error, "the acknowledgement of a message broke off");
                }
                Ok(())
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(UpstreamError::SessionLost),
            _ => Err(self.transport.refused(response).await),
        }
    }
}

/// Opens a session. It lasts as long as its stream, which `life` and the last handle to the channel end.
///
/// # Errors
/// [`UpstreamError`]: what answers is no such server, or names an address of another origin for the messages.
pub(crate) async fn open(http: &Arc<HttpTransport>, life: &Life) -> Result<Arc<Channel>, UpstreamError> {
    let ticket = life.begin(Stay::Stream)?;
    let (mut events, url) = ticket.within(pin!(http.open_events())).await?;
    let endpoint = ticket.within(pin!(endpoint(&mut events))).await?;
    let to = message_address(&url, &endpoint, http.message_address())?;
    let post = Post { transport: Arc::clone(http), to };
    let (channel, ends) = Channel::new(Out::Sse(post), Unasked::Listener(parking_lot::Mutex::default()));
    tokio::spawn(attend(Arc::downgrade(&channel), events, ticket, ends));
    Ok(channel)
}

/// The text of the `endpoint` event.
async fn endpoint(events: &mut EventStream) -> Result<String, UpstreamError> {
    for _ in 0..MAX_BEFORE_ENDPOINT {
        let Some(event) = events.next().await else { break };
        let Event { event: Some(name), data: Some(data), .. } = event? else { continue };
        if &*name == b"endpoint" {
            let text = std::str::from_utf8(&data).ok().filter(|text| text.len() <= MAX_ENDPOINT);
            return text.map(|text| text.trim().to_owned()).ok_or_else(|| UpstreamError::protocol("the `endpoint` event holds no address"));
        }
    }
    Err(UpstreamError::protocol("the event stream does not begin with an `endpoint` event"))
}

/// Where messages are posted: what the server named, within the origin that the stream came from. Nobody else is shown the
/// credential, or trusted under this upstream's policy. A configured address takes the place of the path; the query of the
/// server's, which names the session, stays unless the configured one has a query of its own.
fn message_address(stream: &Url, endpoint: &str, configured: Option<&Url>) -> Result<PathAndQuery, UpstreamError> {
    let named = stream.join(endpoint).map_err(|_| UpstreamError::protocol("the `endpoint` event holds no address"))?;
    if named.origin() != stream.origin() || !named.username().is_empty() || named.password().is_some() {
        return Err(UpstreamError::protocol("the `endpoint` event names an address of another origin, to which nothing is sent"));
    }
    let (path, query) = match configured {
        Some(configured) => (configured.path(), configured.query().or_else(|| named.query())),
        None => (named.path(), named.query()),
    };
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse().map_err(|_| UpstreamError::protocol("the address for messages cannot be requested"))
}

async fn attend(channel: Weak<Channel>, mut events: EventStream, ticket: Ticket, ends: Ends) {
    let Ends { mut stopped, tell_end } = ends;
    let read = async {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = asked_to_stop(&mut stopped) => return unneeded(),
            };
            match event {
                None => return broken("the server ended the event stream that carries the session".to_owned()),
                Some(Err(error)) => {
                    let detail = format!("the event stream that carries the session broke: {error}");
                    return Explanation { reason: error.reason(), ..broken(detail) };
                }
                Some(Ok(event)) => {
                    let Some(data) = message(event) else { continue };
                    match channel.upgrade() {
                        Some(channel) => channel.dispatch(data),
                        None => return unneeded(),
                    }
                }
            }
        }
    };
    let explanation = match ticket.within(pin!(async { Ok(read.await) })).await {
        Ok(explanation) => explanation,
        Err(drained) => drained.explanation(),
    };
    // The connection is let go of before anybody is told.
    drop(events);
    tracing::debug!(%explanation, "an event stream that carries a session ended");
    tell_end.send_replace(Some(explanation));
    if let Some(channel) = channel.upgrade() {
        channel.let_go();
    }
}

/// What an event carries, if it is a message: events without a name are, too (HTML Living Standard, section 9.2.6).
fn message(event: Event) -> Option<Bytes> {
    let is_message = event.event.is_none_or(|name| name.is_empty() || &*name == b"message");
    event.data.filter(|data| is_message && !data.is_empty())
}

async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // Without a sender the channel is gone, which is the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn broken(detail: String) -> Explanation {
    Explanation::new(Reason::Unreachable, detail, "nothing, the next call opens another; is there a proxy that closes quiet connections?")
}

fn unneeded() -> Explanation {
    let detail = "the session was ended because nobody needed it any more";
    Explanation::new(Reason::Protocol, detail, "nothing; the next call opens another")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(endpoint: &str, configured: Option<&str>) -> Option<String> {
        let stream = Url::parse("https://crm.test/api/sse?x=1").unwrap();
        let configured = configured.map(|url| Url::parse(url).unwrap());
        message_address(&stream, endpoint, configured.as_ref()).ok().map(|to| to.to_string())
    }

    #[test]
    fn messages_go_to_the_origin_of_the_stream_only() {
        for (endpoint, expected) in [
            ("/messages?sessionId=7", "/messages?sessionId=7"),
            ("messages/?s=7", "/api/messages/?s=7"),
            ("?s=7", "/api/sse?s=7"),
            ("https://crm.test:443/m", "/m"),
            ("//crm.test/m", "/m"),
        ] {
            assert_eq!(address(endpoint, None).as_deref(), Some(expected), "{endpoint}");
        }
        for elsewhere in ["http://crm.test/m", "https://evil.test/m", "//evil.test/m", "https://crm.test:8443/m", "https://u:p@crm.test/m"]
        {
            assert_eq!(address(elsewhere, None), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_configured_address_keeps_the_query_that_names_the_session() {
        assert_eq!(address("/m?s=7", Some("https://crm.test/front/m")).as_deref(), Some("/front/m?s=7"));
        assert_eq!(address("/m?s=7", Some("https://crm.test/front/m?k=1")).as_deref(), Some("/front/m?k=1"));
        assert_eq!(address("https://evil.test/m?s=7", Some("https://crm.test/front/m")), None);
    }

    #[test]
    fn only_message_events_carry_messages() {
        let event = |name: Option<&'static str>| Event { event: name.map(Bytes::from), data: Some("{}".into()), ..Event::default() };
        assert!(message(event(None)).is_some() && message(event(Some("message"))).is_some());
        assert!(message(event(Some("endpoint"))).is_none() && message(event(Some("ping"))).is_none());
    }
}
