//! A legacy session's subscriptions at a modern upstream: one `subscriptions/listen` of the gateway's own, opened anew for each
//! change of what is wanted, before the one before it is closed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Pauses, Wishes, maybe_updated,
    modern::{ModernStream, Words},
    retagged,
};
use crate::{
    gateway::{Client, Gateway, LegacySession, forward::Shares},
    mcp::{Era, Message, Splices},
    names::UpstreamName,
    upstream::{Upstream, UpstreamError},
};

/// The feeds of one session, by upstream.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Feeds(Mutex<HashMap<UpstreamName, Arc<Feed>>>);

/// Locked while the subscription is changed.
type Feed = tokio::sync::Mutex<Option<AbortOnDropHandle<()>>>;

impl Feeds {
    fn of(&self, upstream: &UpstreamName) -> Arc<Feed> {
        Arc::clone(self.0.lock().entry(upstream.clone()).or_default())
    }

    /// Ends the subscription at an upstream. One that is being changed right now brings nothing that is not wanted any more.
    pub(in crate::gateway) fn end(&self, upstream: &UpstreamName) {
        let feed = self.0.lock().remove(upstream);
        if let Some(mut running) = feed.as_ref().and_then(|feed| feed.try_lock().ok()) {
            *running = None;
        }
    }
}

impl Gateway {
    /// Takes one more resource into a session's subscription at a modern upstream, or `None` of a resource that the upstream
    /// does not follow for us.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(super) async fn feed_more(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        uri: &str,
    ) -> Result<Option<()>, UpstreamError> {
        let feed = session.feeds.of(upstream.name());
        let mut running = feed.lock().await;
        let mut uris = session.subscribed.of(upstream.name());
        if !uris.insert(uri.into()) && running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(Some(()));
        }
        let stream = self.open_for(session, upstream, uris).await?;
        if !stream.honoured.uris.contains(uri) {
            return Ok(None);
        }
        session.subscribed.add(upstream.name(), uri);
        // The one before ends with its handle, after this has begun.
        *running = Some(self.feed(session, upstream, stream));
        Ok(Some(()))
    }

    /// Takes a resource out of it.
    ///
    /// # Errors
    /// [`UpstreamError`]; the resource is taken out in any case.
    pub(in crate::gateway) async fn feed_less(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        uri: &str,
    ) -> Result<(), UpstreamError> {
        let feed = session.feeds.of(upstream.name());
        let mut running = feed.lock().await;
        let before = session.subscribed.of(upstream.name());
        session.subscribed.remove(upstream.name(), uri);
        let left = session.subscribed.of(upstream.name());
        if left.is_empty() {
            *running = None;
        } else if left != before {
            // What is still running brings more than is wanted; that is left out on the way until this succeeds.
            let stream = self.open_for(session, upstream, left).await?;
            *running = Some(self.feed(session, upstream, stream));
        }
        Ok(())
    }

    /// Opens the subscription to all that another replica has taken into it.
    ///
    /// # Errors
    /// [`UpstreamError`]
    pub(in crate::gateway) async fn feed_all(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        uris: &[&str],
    ) -> Result<(), UpstreamError> {
        let feed = session.feeds.of(upstream.name());
        let mut running = feed.lock().await;
        let mut wanted = session.subscribed.of(upstream.name());
        wanted.extend(uris.iter().map(|uri| Box::from(*uri)));
        if wanted.is_empty() {
            return Ok(());
        }
        let stream = self.open_for(session, upstream, wanted).await?;
        *running = Some(self.feed(session, upstream, stream));
        Ok(())
    }

    async fn open_for(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        uris: BTreeSet<Box<str>>,
    ) -> Result<ModernStream, UpstreamError> {
        let generation = upstream.generation()?;
        let held = match generation.needs_session(Era::Modern) {
            true => {
                let client = Client::Legacy(Arc::clone(session));
                Some(self.session_for(upstream, &generation, Era::Modern, &session.record.principal, &client, Shares::Subscriptions).await?)
            }
            false => None,
        };
        let words = Words::Session(session.record.client_info.clone());
        let wishes = Wishes { uris, ..Wishes::default() };
        ModernStream::open(self, &generation, held.as_ref().map(|held| &held.session), &words, &wishes).await
    }

    fn feed(self: &Arc<Self>, session: &Arc<LegacySession>, upstream: &Arc<Upstream>, stream: ModernStream) -> AbortOnDropHandle<()> {
        let (end, shutdown) = (session.end_token(), self.shutdown.clone());
        let work = run(Arc::downgrade(self), Arc::downgrade(session), upstream.name().clone(), stream);
        AbortOnDropHandle::new(self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = end.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
        }))
    }
}

/// Brings what the upstream says to the client, and subscribes again when the stream ends.
async fn run(gateway: Weak<Gateway>, session: Weak<LegacySession>, upstream: UpstreamName, mut stream: ModernStream) {
    let mut pauses = Pauses::new();
    loop {
        while let Some(message) = stream.next().await {
            let Some(session) = session.upgrade() else { return };
            tell(&session, &upstream, &message);
        }
        drop(stream);
        stream = loop {
            pauses.wait().await;
            let (Some(gateway), Some(session)) = (gateway.upgrade(), session.upgrade()) else { return };
            let wanted = session.subscribed.of(&upstream);
            let Some(serving) =
                gateway.view_of(&session.record.principal).upstreams().iter().find(|serving| *serving.name() == upstream).map(Arc::clone)
            else {
                continue;
            };
            match gateway.open_for(&session, &serving, wanted).await {
                Ok(stream) => {
                    // What was said in between is lost.
                    for uri in &stream.honoured.uris {
                        session.tell(maybe_updated(uri));
                    }
                    break stream;
                }
                Err(error) => tracing::debug!(%upstream, %error, "a subscription could not be made again"),
            }
        };
    }
}

fn tell(session: &LegacySession, upstream: &UpstreamName, message: &Message) {
    if message.uri().is_some_and(|updated| session.subscribed.wants(upstream, &updated)) {
        let mut splices = Splices::new();
        retagged(message, None, &mut splices);
        let message: Bytes = splices.apply(message.bytes());
        session.tell(message);
    }
}
