//! Subscribes a legacy client's resources again when its session with a legacy upstream was lost.

use std::sync::Arc;

use super::{Pauses, maybe_updated};
use crate::{
    gateway::{Client, Gateway, LegacySession, forward::Shares},
    mcp::{Era, Kind},
    names::UpstreamName,
    upstream::{Session, Upstream, UpstreamError},
};

impl Gateway {
    /// Watches over the upstream session in which the client has subscribed, once for each session and upstream.
    pub(in crate::gateway) fn keep_subscribed(self: &Arc<Self>, session: &Arc<LegacySession>, upstream: &Arc<Upstream>, up: &Arc<Session>) {
        if !session.subscribed.attend(upstream.name()) {
            return;
        }
        let (end, shutdown) = (session.end_token(), self.shutdown.clone());
        let work = keep(Arc::clone(self), Arc::clone(session), Arc::clone(upstream), Arc::clone(up));
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = end.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn keep(gateway: Arc<Gateway>, session: Arc<LegacySession>, mut upstream: Arc<Upstream>, mut up: Arc<Session>) {
    let name = upstream.name().clone();
    let mut pauses = Pauses::new();
    loop {
        tokio::select! {
            () = up.gone() => {}
            () = upstream.dismissed() => {}
        }
        (upstream, up) = loop {
            pauses.wait().await;
            if session.subscribed.unattend_idle(&name) {
                return;
            }
            match gateway.subscribe_again(&session, &name).await {
                Ok(Some(again)) => break again,
                Ok(None) => {}
                Err(error) => tracing::debug!(upstream = %name, %error, "a client's subscriptions could not be made again"),
            }
        };
    }
}

impl Gateway {
    /// Makes a client's subscriptions anew in the session that it has now, or in a new one. `None`: there is no such upstream,
    /// or it speaks another era.
    async fn subscribe_again(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        name: &UpstreamName,
    ) -> Result<Option<(Arc<Upstream>, Arc<Session>)>, UpstreamError> {
        let view = self.view_of(&session.record.principal);
        let Some(upstream) = view.upstreams().iter().find(|serving| serving.name() == name).map(Arc::clone) else { return Ok(None) };
        let generation = upstream.generation()?;
        if generation.era_for(Era::Legacy) != Era::Legacy {
            return Ok(None);
        }
        let client = Client::Legacy(Arc::clone(session));
        let held = self.session_for(&upstream, &generation, Era::Legacy, &session.record.principal, &client, Shares::Subscriptions).await?;
        for uri in session.subscribed.of(name) {
            let answer = generation.subscribe_to(&held.session, &uri, session.number).await;
            if let Err(error @ UpstreamError::SessionLost) = answer {
                Self::forget(&upstream, &held, &client).await;
                return Err(error);
            }
            match answer?.kind() {
                // What was said in between is lost.
                Kind::Response => drop(session.tell(maybe_updated(&uri))),
                _ => tracing::debug!(upstream = %name, "the upstream does not take a subscription again"),
            }
        }
        Ok(Some((upstream, held.session)))
    }
}
