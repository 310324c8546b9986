//! An upstream's answer becomes the client's reply: a document, a message, or a stream of messages.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Relay, Taken};
use crate::{
    gateway::{
        EventReply, JsonReply, Reply,
        adapt::Adapted,
        document::JsonBody,
        parked::{Incoming, park},
    },
    mcp::{
        Era, Kind, Message, Method, ResponseScanner,
        errors::{ErrorParts, code},
    },
    upstream::{Answer, JsonAnswer, Messages, UpstreamError},
};

/// A JSON answer of known length up to here is looked at whole before its first byte goes down, so that a broken one
/// becomes a clean error. Longer ones stream.
const WHOLE: u64 = 64 * 1024;

/// How long the beginning of a stream waits for the answer itself, where that decides on the HTTP status.
const SOON: Duration = Duration::from_millis(100);

impl Relay {
    /// # Errors
    /// [`UpstreamError`] when the answer is none.
    pub(in crate::gateway) async fn reply(mut self, answer: Answer) -> Result<Reply, UpstreamError> {
        match answer {
            Answer::Accepted => {
                self.settle();
                Err(UpstreamError::protocol("the request was acknowledged but not answered"))
            }
            Answer::Json(json) => {
                // Beside a document nothing can be said to a client.
                self.aside.membership = None;
                self.reply_json(json).await
            }
            Answer::Messages(messages) if self.parties.session.as_ref().is_some_and(|session| session.is_channel()) => {
                Box::pin(self.reply_first(messages, None)).await
            }
            // The HTTP status of a modern answer says what kind of error it is, so it is not given before it is known.
            Answer::Messages(messages) if self.down() == Era::Modern && self.up() == Era::Legacy => {
                Box::pin(self.reply_first(messages, Some(SOON))).await
            }
            Answer::Messages(messages) => Ok(Reply::Events(Box::new(EventReply::relayed(messages, self, Vec::new())))),
        }
    }

    async fn reply_json(mut self, json: JsonAnswer) -> Result<Reply, UpstreamError> {
        let same_era = self.down() == self.up();
        let is_long = json.length.is_none_or(|length| length > WHOLE);
        // Some servers stream one document after the other where an event stream belongs.
        let untouched = self.is_untouched().then_some(json.status);
        if untouched.is_some() && self.is_subscription() {
            self.settle();
            let JsonAnswer { status, length, body, .. } = json;
            return Ok(Reply::Json(Box::new(JsonReply::new(status, length, JsonBody::subscription(body, self)))));
        }
        // A task is short; a call's answer of known length that is long is none.
        let may_name_a_task = self.parties.tasks.is_some() && (self.parties.method != Method::ToolsCall || json.length.is_none());
        if same_era && json.status.is_success() && is_long && !may_name_a_task {
            let expected = self.expected();
            let shift = |length: u64| (length + self.parties.client_id.as_json().len() as u64).checked_sub(expected.as_json().len() as u64);
            // A string may come back with other escapes, and so with another length.
            let is_exact = !expected.as_json().starts_with(b"\"");
            let length = json.length.filter(|_| is_exact).and_then(shift);
            let scanner = ResponseScanner::new(expected, self.parties.client_id.clone());
            self.settle();
            return Ok(Reply::Json(Box::new(JsonReply::new(json.status, length, JsonBody::scanned(json.body, scanner, self)))));
        }
        let asks_to_wait = json.retry_after;
        let message = self.whole(json).await?;
        let mut reply = match untouched {
            Some(status) => Reply::with_status(status, message.into_bytes()),
            None => self.reply_message(message)?,
        };
        if let Reply::Message { retry_after, .. } = &mut reply {
            *retry_after = asks_to_wait;
        }
        Ok(reply)
    }

    /// A whole response becomes the client's reply.
    ///
    /// # Errors
    /// It cannot be shown to this client.
    pub(in crate::gateway) fn reply_message(mut self, message: Message) -> Result<Reply, UpstreamError> {
        match self.adapt(message)? {
            Adapted::Ready(body, status) => Ok(Reply::with_status(status, body)),
            Adapted::Unfinished(unfinished) => self.goes_on(*unfinished),
        }
    }

    /// The whole response.
    ///
    /// # Errors
    /// [`UpstreamError`] when it does not come, or is none to this request.
    pub(in crate::gateway) async fn whole(&mut self, json: JsonAnswer) -> Result<Message, UpstreamError> {
        let whole = tokio::time::timeout(self.call_timeout(), json.collect(self.parties.gateway.config().bounds.max_event)).await;
        let whole = whole.unwrap_or_else(|_| Err(UpstreamError::TimedOut(self.call_timeout())));
        if !matches!(whole, Err(UpstreamError::TimedOut(_))) {
            self.settle();
        }
        let message = Message::parse(whole?).map_err(|error| UpstreamError::protocol(format!("the answer is not JSON-RPC: {error}")))?;
        // An error to a request that the server could not read carries no id (JSON-RPC 2.0, section 5).
        let anonymous = message.kind() == Kind::ErrorResponse && message.id().is_none();
        if !matches!(message.kind(), Kind::Response | Kind::ErrorResponse) {
            return Err(UpstreamError::protocol("what came instead of the answer is a message of another kind"));
        }
        if !anonymous && !self.is_answered_by(&message) {
            return Err(UpstreamError::protocol("the answer carries the id of another request"));
        }
        self.watch_era(&message);
        self.notice_links(message.bytes());
        Ok(message)
    }

    /// A modern server that refuses the version it had offered was replaced by another (MCP 2026-07-28, basic/versioning:
    /// what a probe found is forgotten when it no longer holds).
    pub(super) fn watch_era(&self, message: &Message) {
        let refuses = || ErrorParts::of(message).is_some_and(|error| error.code == code::UNSUPPORTED_PROTOCOL_VERSION);
        if self.up() == Era::Modern && message.kind() == Kind::ErrorResponse && refuses() {
            self.parties.upstream.contradicted();
        }
    }

    /// An answer becomes plain JSON when nothing comes before it, and a stream otherwise: at the latest after `soon`.
    async fn reply_first(mut self, mut messages: Messages, soon: Option<Duration>) -> Result<Reply, UpstreamError> {
        let began = Instant::now();
        // However much comes that is for nobody.
        let last = began + soon.unwrap_or_else(|| self.call_timeout_max());
        loop {
            let until = last.min(Instant::now() + self.call_timeout());
            let next = async {
                tokio::select! {
                    message = messages.next() => message,
                    said = self.aside.next() => Some(Ok(said)),
                }
            };
            let next = timeout_at(until, next).await;
            let message = match next {
                Err(_) if soon.is_some() => return Ok(Reply::Events(Box::new(EventReply::relayed(messages, self, Vec::new())))),
                Err(_) => return Err(UpstreamError::TimedOut(if until == last { self.call_timeout_max() } else { self.call_timeout() })),
                // The server hung up, and goes on in another stream.
                Ok(None) if messages.take_pause().is_some() => continue,
                Ok(None) => {
                    self.settle();
                    return Err(self.premature_end().await);
                }
                Ok(Some(message)) => message?,
            };
            match self.take(message)? {
                Taken::Nothing | Taken::Withdrawn(_) => {}
                Taken::Asked(question) => {
                    let attached = park(Incoming::Messages(messages), self, *question);
                    return Ok(Reply::Events(Box::new(EventReply::attached(attached))));
                }
                Taken::Last(body, status) => return Ok(Reply::with_status(status, body)),
                Taken::Unfinished(unfinished) => return self.goes_on(*unfinished),
                Taken::Send(first) => return Ok(Reply::Events(Box::new(EventReply::relayed(messages, self, vec![first])))),
            }
        }
    }
}
