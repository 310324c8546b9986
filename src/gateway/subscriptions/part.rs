//! The part of a modern client's `subscriptions/listen` that one upstream answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{
    ListenSink, Pauses, Wishes, covers,
    modern::{ModernStream, Words},
    next_number,
};
use crate::{
    auth::Caller,
    gateway::{Client, Gateway, forward::Shares},
    limits::Charged,
    mcp::{Era, Field, Kind, Message, Method, Splices, json::quote},
    names::UpstreamName,
    upstream::{Generation, Upstream, UpstreamError},
};

/// Asks one upstream, brings what it says to the client's stream, and asks again when that ends.
pub(in crate::gateway) struct Part {
    pub(in crate::gateway) gateway: Arc<Gateway>,
    pub(in crate::gateway) caller: Caller,
    pub(in crate::gateway) client: Client,
    /// The client's own request.
    pub(in crate::gateway) message: Message,
    pub(in crate::gateway) upstream: UpstreamName,
    /// What is asked of this upstream, tasks under its own ids.
    pub(in crate::gateway) wishes: Wishes,
    /// The upstream's ids of tasks, each with the one that the client knows.
    pub(in crate::gateway) tasks: BTreeMap<Box<str>, Box<str>>,
    pub(in crate::gateway) sink: Arc<ListenSink>,
}

impl Part {
    /// Tells once what the upstream has agreed to, and then goes on for ever. Ends at once if the first attempt fails: what
    /// was not acknowledged to the client is not brought to it later.
    pub(in crate::gateway) async fn run(mut self, told: oneshot::Sender<Wishes>) {
        let mut told = Some(told);
        let mut pauses = Pauses::new();
        loop {
            let ended = match self.upstream() {
                Some(upstream) => self.attend(&upstream, &mut told).await,
                None => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(upstream = %self.upstream, %error, "a part of a subscription could not be made");
            }
            if told.is_some() {
                return;
            }
            pauses.wait().await;
        }
    }

    /// Whether one request more may go up for the client; what may not is left out.
    async fn is_admitted(&self) -> bool {
        let admitted = self.gateway.admit_further(&self.caller, Charged::ClientToo, &self.upstream).await;
        if let Err(limited) = &admitted {
            tracing::debug!(upstream = %self.upstream, %limited, "a resource is not followed");
        }
        admitted.is_ok()
    }

    fn upstream(&self) -> Option<Arc<Upstream>> {
        self.gateway.view_of(self.caller.principal()).upstreams().iter().find(|upstream| *upstream.name() == self.upstream).map(Arc::clone)
    }

    /// Follows the upstream as long as that is possible without asking anew.
    async fn attend(&mut self, upstream: &Arc<Upstream>, told: &mut Option<oneshot::Sender<Wishes>>) -> Result<(), UpstreamError> {
        let generation = upstream.generation()?;
        let work = async {
            match generation.era_for(Era::Modern) {
                Era::Modern => self.attend_modern(upstream, &generation, told).await,
                Era::Legacy => self.attend_legacy(upstream, &generation, told).await,
            }
        };
        tokio::select! {
            ended = work => ended,
            () = upstream.dismissed() => Ok(()),
        }
    }

    async fn attend_modern(
        &mut self,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        told: &mut Option<oneshot::Sender<Wishes>>,
    ) -> Result<(), UpstreamError> {
        let held = match generation.needs_session(Era::Modern) {
            true => Some(
                self.gateway
                    .session_for(upstream, generation, Era::Modern, self.caller.principal(), &self.client, Shares::Subscriptions)
                    .await?,
            ),
            false => None,
        };
        let words = Words::Client(Box::new(self.message.clone()));
        let session = held.as_ref().map(|held| &held.session);
        let mut stream = ModernStream::open(&self.gateway, generation, session, &words, &self.wishes).await?;
        self.agreed(stream.honoured.clone(), told);
        while let Some(message) = stream.next().await {
            self.bring(&message);
        }
        Ok(())
    }

    async fn attend_legacy(
        &mut self,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        told: &mut Option<oneshot::Sender<Wishes>>,
    ) -> Result<(), UpstreamError> {
        if self.wishes.uris.is_empty() {
            // It has nothing else to offer; of lists the gateway itself tells.
            return Ok(());
        }
        let held = self
            .gateway
            .session_for(upstream, generation, Era::Legacy, self.caller.principal(), &self.client, Shares::Subscriptions)
            .await?;
        let held = Arc::new(held);
        // Heard from the beginning: an update may come before the answer.
        let (number, wanted) = (next_number(), Arc::new(self.wishes.uris.clone()));
        let listens = self.gateway.hear(upstream, &held, number, wanted, &self.sink);
        let mut uris = BTreeSet::new();
        for (at, uri) in self.wishes.uris.iter().enumerate() {
            // The first was admitted with the client's request. To come back after a loss is the gateway's own doing.
            if at > 0 && told.is_some() && !self.is_admitted().await {
                break;
            }
            let answer = generation.subscribe_to(&held.session, uri, number).await;
            if let Err(error @ UpstreamError::SessionLost) = answer {
                held.forget(upstream).await;
                return Err(error);
            }
            if answer?.kind() == Kind::Response {
                uris.insert(uri.clone());
            }
        }
        listens.narrow(uris.clone());
        self.agreed(Wishes { uris, ..Wishes::default() }, told);
        held.session.gone().await;
        Ok(())
    }

    /// Tells what was agreed to at first, or that what was missed since is not known.
    fn agreed(&mut self, honoured: Wishes, told: &mut Option<oneshot::Sender<Wishes>>) {
        match told.take() {
            Some(told) => {
                self.wishes = honoured.clone();
                let tasks = honoured.tasks.iter().filter_map(|own| self.tasks.get(own).cloned()).collect();
                // Nobody waits when the client has gone.
                let _ = told.send(Wishes { tasks, ..honoured });
            }
            None => {
                for uri in &honoured.uris {
                    self.sink.put_maybe_updated(uri);
                }
            }
        }
    }

    fn bring(&self, message: &Message) {
        let mut splices = Splices::new();
        match Method::parse(message.method()) {
            Some(Method::ResourceUpdated) => {
                let Some(updated) = message.uri() else { return };
                if !self.wishes.uris.iter().any(|uri| covers(uri, &updated)) {
                    return;
                }
            }
            Some(Method::TaskChanged) => {
                let shown = message.task_id().and_then(|own| self.tasks.get(&*own));
                let (Some(shown), Some(span)) = (shown, message.span(Field::TaskId)) else { return };
                splices.replace(span, quote(shown));
            }
            _ => {}
        }
        self.sink.put(message, splices);
    }
}
