//! What another replica changed of a session takes effect here, above all for the client's stream, if it is here.

use std::{collections::BTreeSet, sync::Arc};

use super::{Looking, Replicas};
use crate::{
    gateway::{Client, Gateway, LegacySession, forward::Shares, handle::Reached},
    mcp::Era,
    session::{Found, Notice, Stored},
    upstream::{Upstream, UpstreamError},
};

impl Gateway {
    /// Reads anew what the store has of a session, with which it is `alone` until that is read.
    pub(super) async fn refresh(self: &Arc<Self>, replicas: &Replicas, session: &Arc<LegacySession>, alone: Looking) {
        let found = replicas.store.load(session.id(), self.config().session_idle_timeout).await;
        let stored = match found {
            Ok(Found::Session(stored)) => *stored,
            Ok(Found::Ended) => return self.ended_elsewhere(session),
            // The next renewal writes it again.
            Ok(Found::Nothing) => return,
            Err(error) => return tracing::debug!(%error, "a change of another replica could not be read"),
        };
        let Stored { log_level, subscribed, upstreams, .. } = stored;
        let Some(shared) = &session.shared else { return };
        let (fresh, gone) = shared.now_kept(&subscribed);
        session.subscribed.take(&fresh);
        drop(alone);
        if let Some(level) = log_level.filter(|level| session.log_level().as_ref() != Some(level)) {
            session.set_log_level(&level);
            for Reached { upstream, generation, up } in self.reached(session) {
                Box::pin(self.tell_level(&upstream, &generation, &up, &level)).await;
            }
        }
        for (upstream, uri) in &gone {
            self.unsubscribe_here(session, upstream, uri).await;
        }
        if session.has_stream() {
            self.follow_there(session, &upstreams, &fresh).await;
        }
    }

    /// The client's stream is here from now on: what the servers say comes to it.
    pub(in crate::gateway) fn stream_is_here(self: &Arc<Self>, session: &Arc<LegacySession>) {
        let Some(replicas) = self.shares(session) else { return };
        let (gateway, replicas, session) = (Arc::clone(self), Arc::clone(replicas), Arc::clone(session));
        self.spawn(async move {
            // First: servers offer one stream a session, and another replica may still have it.
            if let Err(error) = gateway.tell_others(&session, &Notice::StreamMoved(session.id())).await {
                tracing::debug!(%error, "other replicas do not know yet that the client's stream is here");
            }
            let alone = replicas.alone_with(session.id()).await;
            let found = replicas.store.load(session.id(), gateway.config().session_idle_timeout).await;
            if let (Ok(Found::Session(stored)), Some(shared)) = (found, &session.shared) {
                let (fresh, gone) = shared.now_kept(&stored.subscribed);
                session.subscribed.take(&fresh);
                drop(alone);
                for (upstream, uri) in &gone {
                    gateway.unsubscribe_here(&session, upstream, uri).await;
                }
                let all = session.subscribed.all();
                gateway.follow_there(&session, &stored.upstreams, &all).await;
            }
        });
    }

    /// Follows the sessions that the client has with these upstreams, and what it subscribed to.
    async fn follow_there(self: &Arc<Self>, session: &Arc<LegacySession>, upstreams: &[String], subscribed: &[(String, String)]) {
        let mut names: BTreeSet<&str> = upstreams.iter().map(String::as_str).collect();
        names.extend(subscribed.iter().map(|(upstream, _)| upstream.as_str()));
        let view = self.view_for(&session.caller());
        for (index, upstream) in view.upstreams().iter().enumerate() {
            if !names.contains(upstream.name().as_str()) || !view.reaches(index) {
                continue;
            }
            let uris = subscribed.iter().filter(|(of, _)| of == upstream.name().as_str()).map(|(_, uri)| uri.as_str());
            let uris: Vec<_> = uris.collect();
            let mut followed = self.follow_one(session, upstream, &uris).await;
            // Its era may only be known now, or its session have ended meanwhile.
            if matches!(followed, Err(UpstreamError::WrongEra | UpstreamError::SessionLost)) {
                followed = self.follow_one(session, upstream, &uris).await;
            }
            if let Err(error) = followed {
                tracing::debug!(upstream = %upstream.name(), %error, "what another replica began could not be followed here");
            }
        }
    }

    async fn follow_one(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        uris: &[&str],
    ) -> Result<(), UpstreamError> {
        let generation = upstream.generation()?;
        if generation.era_for(Era::Legacy) == Era::Modern {
            return self.feed_all(session, upstream, uris).await;
        }
        let principal = &session.record.principal;
        let client = Client::Legacy(Arc::clone(session));
        // It is followed then, because the client's stream is here.
        let held = self.session_for(upstream, &generation, Era::Legacy, principal, &client, Shares::Subscriptions).await?;
        for uri in uris {
            if let Err(error @ UpstreamError::SessionLost) = generation.subscribe_to(&held.session, uri, session.number).await {
                Self::forget(upstream, &held, &client).await;
                return Err(error);
            }
        }
        if !uris.is_empty() {
            self.keep_subscribed(session, upstream, &held.session);
        }
        Ok(())
    }

    /// Ends what follows a resource here; the server was told where replicas share the session with it.
    async fn unsubscribe_here(self: &Arc<Self>, session: &Arc<LegacySession>, upstream: &str, uri: &str) {
        let view = self.view_of(&session.record.principal);
        let Some(upstream) = view.upstreams().iter().find(|known| known.name().as_str() == upstream) else { return };
        let Ok(generation) = upstream.generation() else { return };
        let ended = match session.upstream_session(upstream.id()) {
            _ if generation.era_for(Era::Legacy) == Era::Modern => self.feed_less(session, upstream, uri).await,
            Some(up) if !up.is_shared() => generation.unsubscribe_from(&up, uri, session.number).await,
            Some(_) | None => Ok(()),
        };
        session.subscribed.remove(upstream.name(), uri);
        if let Err(error) = ended {
            tracing::debug!(upstream = %upstream.name(), %error, "a subscription that another replica ended goes on here");
        }
    }
}
