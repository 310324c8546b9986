//! What one client says to a child process that other clients of its principal share.
//!
//! The process has one log level: the lowest that any of them wants, and each is told what he himself wants. It has one list
//! of roots, too, and can ask nobody in particular for it: that a client's roots changed is said only where it is alone.

use std::sync::Arc;

use bytes::Bytes;

use super::{Gateway, LegacySession};
use crate::{
    mcp::{Era, Field, LogLevel, Message},
    upstream::{Generation, Session, Upstream, UpstreamId},
};

impl LegacySession {
    /// Whether a log message is severe enough for this client. Without a level the server decides.
    pub(super) fn wants_log(&self, message: &Message) -> bool {
        let wanted = self.log_level().and_then(|level| LogLevel::from_json(&level));
        let said = message.raw(Field::Level).and_then(|level| LogLevel::from_json(&level));
        wanted.is_none_or(|wanted| said.is_none_or(|said| said >= wanted))
    }
}

impl Gateway {
    fn users(&self, upstream: UpstreamId, process: &Arc<Session>) -> impl Iterator<Item = Arc<LegacySession>> {
        let uses = move |session: &Arc<LegacySession>| session.upstream_session(upstream).is_some_and(|up| Arc::ptr_eq(&up, process));
        self.sessions.all().into_iter().filter(uses)
    }

    /// Whether this client is the only one that uses the session.
    pub(super) fn is_alone(&self, session: &LegacySession, upstream: UpstreamId, up: &Arc<Session>) -> bool {
        !up.is_process() || self.users(upstream, up).all(|user| user.id() == session.id())
    }

    /// Tells an upstream which log messages a client wants, or all clients that share the process.
    pub(super) async fn tell_level(&self, upstream: &Upstream, generation: &Generation, up: &Arc<Session>, level: &Bytes) {
        if up.era() != Era::Legacy {
            return;
        }
        let shared: Vec<Bytes> = match up.is_process() {
            true => self.users(upstream.id(), up).filter_map(|user| user.log_level()).collect(),
            false => Vec::new(),
        };
        let lowest = shared.iter().min_by_key(|level| LogLevel::from_json(level)).unwrap_or(level);
        if let Err(error) = generation.set_log_level(up, lowest).await {
            tracing::debug!(%error, "an upstream did not take the log level");
        }
    }
}
