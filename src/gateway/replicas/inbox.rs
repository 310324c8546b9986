//! What replicas tell one another of the sessions that they hold.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::sleep};

use super::{Replicas, asker_of};
use crate::{
    gateway::{Gateway, GatewayError, LegacySession},
    mcp::{Field, Message, Splices},
    session::{Notice, Others, StoreError},
    upstream::Upstream,
};

/// Notices that are followed at once.
const AT_ONCE: usize = 256;
/// Before a store that gives no answer is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// What the store is to keep of a session.
pub(in crate::gateway) enum Changed<'a> {
    /// A raw JSON string.
    Level(&'a [u8]),
    Subscribed(&'a str, &'a str),
    Unsubscribed(&'a str, &'a str),
}

impl Gateway {
    /// Never ends.
    pub(super) async fn read_inbox(self: Arc<Self>, replicas: Arc<Replicas>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            replicas.store.connected().await;
            match replicas.store.listen().await {
                Ok(Some(notice)) => {
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    let (gateway, replicas) = (Arc::clone(&self), Arc::clone(&replicas));
                    self.spawn(async move {
                        gateway.follow_notice(&replicas, notice).await;
                        drop(place);
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "what other replicas say cannot be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn follow_notice(self: &Arc<Self>, replicas: &Arc<Replicas>, notice: Notice) {
        match notice {
            Notice::Answered(id, raw) => {
                let (Some(session), Some(message)) = (self.sessions.peek(id), parsed(raw)) else { return };
                if self.answered_here(&session, message).await.is_some() {
                    tracing::debug!("another replica's client answered no open request; dropped");
                }
            }
            Notice::Cancelled(id, raw) => {
                let (Some(session), Some(message)) = (self.sessions.peek(id), parsed(raw)) else { return };
                self.cancel_here(&session, &message).await;
            }
            Notice::Said(id, raw, told) => {
                let (Some(session), Some(message)) = (self.sessions.peek(id), parsed(raw)) else { return };
                self.tell_servers(&session, &message, &told).await;
            }
            Notice::TakenBack(id, raw, upstream) => {
                let (Some(session), Some(message)) = (self.sessions.peek(id), parsed(raw)) else { return };
                self.take_back_here(&session, &upstream, &message).await;
            }
            Notice::ForClient(id, raw) => {
                if let Some(session) = self.sessions.peek(id) {
                    session.tell(raw);
                }
            }
            Notice::Changed(id) => {
                // Whoever looks for it right now may have read what was there before.
                let alone = replicas.alone_with(id).await;
                if let Some(session) = self.sessions.peek(id) {
                    self.refresh(replicas, &session, alone).await;
                }
            }
            Notice::StreamMoved(id) => {
                if let Some(session) = self.sessions.peek(id) {
                    session.end_stream();
                }
            }
            Notice::Ended(id) => {
                let _alone = replicas.alone_with(id).await;
                if let Some(session) = self.sessions.peek(id) {
                    self.ended_elsewhere(&session);
                }
            }
        }
    }

    /// Hands a client's answer to the replica that asked.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]
    pub(in crate::gateway) async fn answered_elsewhere(&self, session: &LegacySession, message: &Message) -> Result<(), GatewayError> {
        let (Some(replicas), Some(asker)) = (self.shares(session), message.id().and_then(asker_of)) else { return Ok(()) };
        if asker == replicas.store.replica() {
            return Ok(());
        }
        let handed = async {
            // Only to one that does hold this session: a client could name any.
            let asker = replicas.store.others(session.id()).await?.only(&asker);
            replicas.store.tell(&asker, &Notice::Answered(session.id(), message.bytes().clone())).await
        };
        handed.await.map_err(GatewayError::NoStore)
    }

    /// Tells the others of a cancellation that concerns none of the calls here.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]
    pub(in crate::gateway) async fn cancelled_elsewhere(&self, session: &LegacySession, message: &Message) -> Result<(), GatewayError> {
        self.tell_others(session, &Notice::Cancelled(session.id(), message.bytes().clone())).await
    }

    /// Tells the others what a client says to its servers; these were told.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]
    pub(in crate::gateway) async fn said_elsewhere(
        &self,
        session: &LegacySession,
        message: &Message,
        told: Vec<String>,
    ) -> Result<(), GatewayError> {
        self.tell_others(session, &Notice::Said(session.id(), message.bytes().clone(), told)).await
    }

    /// A server says on a stream that is here what it takes back: another replica's client may have been asked that.
    pub(in crate::gateway) async fn taken_back_elsewhere(&self, session: &LegacySession, upstream: &Upstream, message: Bytes) {
        let notice = Notice::TakenBack(session.id(), message, upstream.name().to_string());
        if let Err(error) = self.tell_others(session, &notice).await {
            tracing::debug!(%error, "another replica was not told that a server takes back what it asked");
        }
    }

    async fn take_back_here(&self, session: &LegacySession, upstream: &str, message: &Message) {
        let view = self.view_of(&session.record.principal);
        let upstream = view.upstreams().iter().find(|known| known.name().as_str() == upstream);
        let up = upstream.and_then(|upstream| session.upstream_session(upstream.id()));
        let (Some(up), Some(id), Some(span)) = (up, message.cancelled_id(), message.span(Field::RequestId)) else { return };
        let Some(granted) = session.taken_back(&up, &id) else { return };
        let mut splices = Splices::new();
        splices.replace(span, granted.into_json());
        let told = splices.apply(message.bytes());
        if !session.tell(told.clone())
            && let Err(error) = self.tell_others(session, &Notice::ForClient(session.id(), told)).await
        {
            tracing::debug!(%error, "the client was not told that it need not answer");
        }
    }

    pub(super) async fn tell_others(&self, session: &LegacySession, notice: &Notice) -> Result<(), GatewayError> {
        let Some(replicas) = self.shares(session) else { return Ok(()) };
        let told = async { replicas.store.tell(&replicas.store.others(session.id()).await?, notice).await };
        told.await.map_err(GatewayError::NoStore)
    }

    /// Keeps a change for the others, and tells them. What the store does not take now it takes later.
    pub(in crate::gateway) async fn share(&self, session: &LegacySession, changed: Changed<'_>) {
        let (Some(replicas), Some(shared)) = (self.shares(session), &session.shared) else { return };
        let (store, id) = (&replicas.store, session.id());
        let shared_out = async {
            let alone = replicas.alone_with(id).await;
            let others: Others = match changed {
                Changed::Level(level) => store.set_level(id, level).await?,
                Changed::Subscribed(upstream, uri) => {
                    shared.ended.lock().remove(&(upstream.to_owned(), uri.to_owned()));
                    let others = store.subscribe(id, upstream, uri).await?;
                    shared.kept.lock().insert((upstream.to_owned(), uri.to_owned()));
                    others
                }
                Changed::Unsubscribed(upstream, uri) => {
                    let subscription = (upstream.to_owned(), uri.to_owned());
                    let others = match store.unsubscribe(id, upstream, uri).await {
                        Ok(others) => others,
                        Err(error) => {
                            shared.ended_unsaid(subscription);
                            return Err(error);
                        }
                    };
                    shared.kept.lock().remove(&subscription);
                    others
                }
            };
            drop(alone);
            store.tell(&others, &Notice::Changed(id)).await
        };
        let outcome: Result<(), StoreError> = shared_out.await;
        if let Err(error) = outcome {
            tracing::debug!(session = ?id, %error, "other replicas do not know of a change yet");
            shared.is_dirty.store(true, Ordering::Relaxed);
        }
    }

    /// `None` of a session that lives here alone.
    pub(super) fn shares(&self, session: &LegacySession) -> Option<&Arc<Replicas>> {
        self.replicas.as_ref().filter(|_| session.is_shared())
    }
}

fn parsed(raw: Bytes) -> Option<Message> {
    Message::parse(raw).ok()
}
