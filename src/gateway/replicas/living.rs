//! How long a session lives that every replica serves: as long as any of them uses it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::{Replicas, SharedSession};
use crate::{
    gateway::{Gateway, GatewayError, LegacySession},
    session::{Held, Left, Notice, Others, Renewed, StoreError},
};

/// Sessions of which the store is told at once.
const AT_ONCE: usize = 64;
/// Between two looks at which sessions it has to be told of.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Between two looks at whether it has lost everything, at most.
const LOSSES: Duration = Duration::from_secs(2);

impl Gateway {
    /// Keeps what is shared alive, and hears what other replicas say.
    pub(in crate::gateway) fn keep_replicas(self: &Arc<Self>) {
        let Some(replicas) = &self.replicas else { return };
        for work in [
            Box::pin(Arc::clone(self).renew_all(Arc::clone(replicas))) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
            Box::pin(Arc::clone(self).read_inbox(Arc::clone(replicas))),
        ] {
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = work => {}
                    () = shutdown.cancelled() => {}
                }
            });
        }
    }

    /// Never ends.
    async fn renew_all(self: Arc<Self>, replicas: Arc<Replicas>) {
        let (mut epoch, mut looked) = (None, Instant::now());
        loop {
            replicas.store.connected().await;
            let idle = self.config().session_idle_timeout;
            let pause = (idle / 40).clamp(LOOKS.0, LOOKS.1);
            sleep(pause.min(LOSSES)).await;
            let Ok(now) = replicas.store.epoch().await else { continue };
            let before = epoch.replace(now.clone());
            // The first look may come after a loss, too.
            let has_lost = before.as_ref() != Some(&now);
            if has_lost && before.is_some() {
                tracing::warn!("the store of sessions has lost everything; what is known here is written again");
            }
            if !has_lost && looked.elapsed() < pause {
                continue;
            }
            looked = Instant::now();
            let due = |session: &Arc<LegacySession>| session.shared.is_some() && (has_lost || self.is_due(session, idle));
            let sessions: Vec<_> = self.sessions.all().into_iter().filter(due).collect();
            stream::iter(sessions)
                .for_each_concurrent(AT_ONCE, |session| {
                    let (gateway, replicas) = (&self, &replicas);
                    async move {
                        if let Err(error) = gateway.renew(replicas, &session, idle).await {
                            tracing::debug!(session = ?session.id(), %error, "a session could not be kept alive in the store");
                        }
                    }
                })
                .await;
        }
    }

    /// Whether it was used since the store heard of it, some time ago.
    fn is_due(&self, session: &LegacySession, idle: Duration) -> bool {
        let Some(shared) = &session.shared else { return false };
        let (used, now) = self.sessions.used(session);
        let renewed = shared.renewed.load(Ordering::Relaxed);
        let since = Duration::from_millis(now.saturating_sub(renewed));
        shared.is_dirty.load(Ordering::Relaxed) || since >= idle / 10 && (used > renewed || session.is_busy())
    }

    async fn renew(&self, replicas: &Arc<Replicas>, session: &LegacySession, idle: Duration) -> Result<(), StoreError> {
        let Some(shared) = &session.shared else { return Ok(()) };
        let (_, now) = self.sessions.used(session);
        match replicas.store.renew(session.id(), idle).await? {
            Renewed::Done if shared.is_dirty.load(Ordering::Relaxed) => {
                shared.is_dirty.store(false, Ordering::Relaxed);
                if let Err(error) = write_anew(replicas, session, shared).await {
                    shared.is_dirty.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            Renewed::Done => {}
            Renewed::Lost => {
                tracing::debug!(session = ?session.id(), "the store has lost a session; it is written again");
                replicas.store.write(&session.record, &self.held(session), idle).await?;
                shared.ended.lock().clear();
            }
            Renewed::Ended => self.ended_elsewhere(session),
        }
        shared.renewed.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// What this replica knows of a session.
    fn held(&self, session: &LegacySession) -> Held {
        let view = self.view_of(&session.record.principal);
        let upstreams = session.upstream_sessions().into_iter().filter_map(|(id, up)| {
            let upstream = view.upstreams().iter().find(|upstream| upstream.id() == id)?;
            Some((upstream.name().to_string(), upstream.identity(), up.record().filter(|_| !up.has_ended())?))
        });
        Held { log_level: session.log_level(), subscribed: session.subscribed.all(), upstreams: upstreams.collect() }
    }

    /// Lets go of sessions that were not used here for a while, and ends those that no other replica uses.
    pub(in crate::gateway) fn leave(self: &Arc<Self>, old: Vec<Arc<LegacySession>>) {
        let Some(replicas) = self.replicas.as_ref().filter(|_| !old.is_empty()) else { return };
        let (gateway, replicas) = (Arc::clone(self), Arc::clone(replicas));
        self.spawn(async move {
            let idle = gateway.config().session_idle_timeout;
            stream::iter(old)
                .for_each_concurrent(AT_ONCE, |session| {
                    let (gateway, replicas) = (&gateway, &replicas);
                    async move {
                        match replicas.store.leave(session.id(), idle).await {
                            Ok(Some(left)) => gateway.end_for_all(&session, left),
                            Ok(None) => gateway.let_go(&session),
                            Err(error) => {
                                tracing::debug!(session = ?session.id(), %error, "the store was not told that a session is not used here");
                                gateway.let_go(&session);
                            }
                        }
                    }
                })
                .await;
        });
    }

    /// Others may still serve it.
    pub(in crate::gateway) fn let_go(&self, session: &LegacySession) {
        self.headcount.leave(session);
        session.end.cancel();
        for upstream in self.view_of(&session.record.principal).upstreams() {
            upstream.let_go(session.id());
        }
    }

    /// Another replica has ended it.
    pub(super) fn ended_elsewhere(&self, session: &LegacySession) {
        self.sessions.remove(session.id());
        self.headcount.leave(session);
        session.end.cancel();
        for upstream in self.view_of(&session.record.principal).upstreams() {
            upstream.ended_elsewhere(session.id());
        }
    }

    /// Ends a client's session, also for the other replicas, and everything upstream that belongs to it.
    ///
    /// # Errors
    /// [`GatewayError::NoStore`]: it goes on then.
    pub async fn end_everywhere(self: &Arc<Self>, session: &Arc<LegacySession>) -> Result<(), GatewayError> {
        match (&self.replicas, session.is_shared()) {
            (Some(replicas), true) => {
                let left = replicas.store.end(session.id()).await.map_err(GatewayError::NoStore)?;
                let others = left.others.clone();
                self.end_for_all(session, left);
                self.tell_ended(replicas, session, &others).await;
            }
            _ => self.end_session(session),
        }
        Ok(())
    }

    /// What could not be opened is forgotten. Nobody was given its id, so that it need not be known that it is over.
    pub(in crate::gateway) async fn give_up(&self, session: &LegacySession) {
        if let (Some(replicas), true) = (&self.replicas, session.is_shared())
            && let Err(error) = replicas.store.leave(session.id(), self.config().session_idle_timeout).await
        {
            tracing::debug!(%error, "a session that was not begun stays in the store until it expires");
        }
    }

    async fn tell_ended(&self, replicas: &Replicas, session: &LegacySession, others: &Others) {
        // They find out with their next renewal.
        if let Err(error) = replicas.store.tell(others, &Notice::Ended(session.id())).await {
            tracing::debug!(%error, "other replicas were not told of the end of a session");
        }
    }

    fn end_for_all(&self, session: &LegacySession, left: Left) {
        let view = self.view_of(&session.record.principal);
        let held = session.upstream_sessions();
        for (name, identity, record) in left.upstreams {
            let Some(upstream) = view.upstreams().iter().find(|upstream| upstream.name().as_str() == name) else { continue };
            let is_held = held.iter().any(|(id, up)| *id == upstream.id() && up.record().as_ref() == Some(&record));
            if !is_held && upstream.identity() == identity {
                upstream.close_left(&record);
            }
        }
        self.end_session(session);
    }
}

/// What was changed here and not written, which the others hear of now.
async fn write_anew(replicas: &Arc<Replicas>, session: &LegacySession, shared: &SharedSession) -> Result<(), StoreError> {
    let (store, id) = (&replicas.store, session.id());
    let alone = replicas.alone_with(id).await;
    let mut others = Others::default();
    if let Some(level) = session.log_level() {
        others = store.set_level(id, &level).await?;
    }
    for subscription in session.subscribed.all() {
        others = store.subscribe(id, &subscription.0, &subscription.1).await?;
        shared.kept.lock().insert(subscription);
    }
    let ended: Vec<_> = shared.ended.lock().iter().cloned().collect();
    for subscription in ended {
        others = store.unsubscribe(id, &subscription.0, &subscription.1).await?;
        shared.kept.lock().remove(&subscription);
        shared.ended.lock().remove(&subscription);
    }
    drop(alone);
    store.tell(&others, &Notice::Changed(id)).await
}
