//! What modern clients' calls need in a legacy session that they share: its own stream is listened to, and its log level is
//! the mildest that any of them wants.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    Gateway,
    forward::Forward,
    parked::{Aside, Askable},
};
use crate::{
    bridge,
    mcp::{Field, Id, Kind, LogLevel, Message, Method, build},
    upstream::{ClientCapabilities, Crowd, Generation, Hearing, Session, Upstream, UpstreamError},
};

/// Longest wait for the session's stream before a call goes without it.
const OPENING: Duration = Duration::from_secs(1);
/// A server that has not begun its stream by then has none.
const LONGEST_OPENING: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Gateway {
    /// Makes a modern client's call one of those in the legacy session. `id` is that of its request there.
    pub(super) async fn join(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        session: &Arc<Session>,
        capabilities: ClientCapabilities,
        request: &Forward<'_>,
        id: u64,
    ) -> Aside {
        let askable = Askable::of(request, capabilities).map(Box::new);
        let level = request.message.raw(Field::MetaLogLevel).and_then(|level| LogLevel::from_json(&level));
        if level.is_none() && (askable.is_none() || session.is_process()) {
            return Aside { askable, membership: None };
        }
        let membership = Crowd::join(session, id, askable.is_some() && !session.is_process(), level);
        if level.is_some() {
            let tell = |level: LogLevel| async move {
                if let Err(error) = generation.set_log_level(session, level.as_json()).await {
                    tracing::debug!(upstream = %upstream.name(), %error, "an upstream did not take the log level");
                }
            };
            session.crowd().settle_level(tell).await;
        }
        if !session.is_process() {
            self.hear_questions(upstream, session).await;
        }
        Aside { askable, membership: Some(membership) }
    }

    /// Has the session's own stream listened to, as far as the server has one.
    async fn hear_questions(self: &Arc<Self>, upstream: &Arc<Upstream>, session: &Arc<Session>) {
        let mut hearing = session.crowd().hearing();
        if session.crowd().begin_hearing() {
            let listener = Listener { upstream: Arc::clone(upstream), session: Arc::downgrade(session) };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = listener.stay() => {}
                    () = shutdown.cancelled() => {}
                }
            });
        }
        // A late stream is better than none, and one call has waited for it then.
        if timeout(OPENING, hearing.wait_for(|hearing| *hearing != Hearing::Opening)).await.is_err() {
            session.crowd().hears(Hearing::Tried);
        }
    }
}

/// Listens to a shared session. Does not keep it from being ended.
struct Listener {
    upstream: Arc<Upstream>,
    session: Weak<Session>,
}

impl Listener {
    async fn stay(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(session) = self.session.upgrade() else { return };
            let Ok(generation) = self.upstream.generation() else { return self.hears(Hearing::Not) };
            let opened = timeout(LONGEST_OPENING, generation.listen(&session)).await.unwrap_or(Ok(None));
            match opened {
                Ok(Some(mut messages)) => {
                    session.crowd().hears(Hearing::Tried);
                    let mut of_session = session.crowd().hearing();
                    drop(session);
                    // A server may keep the stream open of a session that has ended.
                    let ended = async { while of_session.changed().await.is_ok() {} };
                    let mut ended = std::pin::pin!(ended);
                    loop {
                        let message = tokio::select! {
                            message = messages.next() => message,
                            () = &mut ended => return,
                        };
                        let Some(Ok(message)) = message else { break };
                        pause = FIRST_PAUSE;
                        let Some(session) = self.session.upgrade() else { return };
                        self.take(&generation, &session, message).await;
                    }
                }
                Ok(None) => return self.hears(Hearing::Never),
                Err(UpstreamError::SessionLost) => return self.hears(Hearing::Not),
                Err(error) => {
                    session.crowd().hears(Hearing::Tried);
                    drop(session);
                    tracing::debug!(upstream = %self.upstream.name(), %error, "a session's stream could not be opened");
                    if pause == LONGEST_PAUSE {
                        return self.hears(Hearing::Not);
                    }
                }
            }
            if self.upstream.generation().is_ok_and(|serving| serving.number() != generation.number()) {
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn hears(&self, hearing: Hearing) {
        if let Some(session) = self.session.upgrade() {
            session.crowd().hears(hearing);
        }
    }

    async fn take(&self, generation: &Generation, session: &Arc<Session>, bytes: Bytes) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return tracing::warn!(upstream = %self.upstream.name(), %error, "a message is not JSON-RPC; dropped"),
        };
        let answer = match message.kind() {
            Kind::Notification => return give(session.crowd(), message),
            // No response belongs on this stream.
            Kind::Response | Kind::ErrorResponse => return,
            Kind::Request => {
                let Some(id) = message.id().cloned() else { return };
                if message.method() == Method::Ping.as_str() {
                    build::response(&id, b"{}")
                } else if session.crowd().ask(message.into_bytes()) {
                    return;
                } else {
                    bridge::declined(&id)
                }
            }
        };
        if let Err(error) = generation.notify(session, answer).await {
            tracing::debug!(%error, "an answer to a server's request could not be sent");
        }
    }
}

/// Progress is for the call whose token it has; a log message for the only call that wants any.
fn give(crowd: &Crowd, message: Message) {
    let taken = match Method::parse(message.method()) {
        Some(Method::Progress) => {
            let token = message.raw(Field::ProgressToken).and_then(|raw| Id::from_json(raw).ok()).and_then(|token| token.as_u64());
            token.is_some_and(|token| crowd.give(token, message.into_bytes()))
        }
        Some(Method::LogMessage) => crowd.log(message.into_bytes()),
        _ => return,
    };
    if !taken {
        tracing::debug!("a notification in a shared session is for none of its calls; dropped");
    }
}
