//! What upstreams say in a legacy session without being asked, brought to the client's GET stream.
//!
//! An upstream's own GET stream is open only while the client's is (MCP 2025-11-25, basic/transports, listening for
//! messages from the server).

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Gateway, LegacySession,
    legacy::{Asked, Outbox},
};
use crate::{
    mcp::{Kind, Message, Method, Splices, build, errors},
    upstream::{Generation, Session, Upstream},
};

impl Gateway {
    /// Opens the client's stream of messages that answer no request, and those of the upstreams it has sessions with.
    pub fn open_stream(self: &Arc<Self>, session: &Arc<LegacySession>) -> Outbox {
        let outbox = session.open_outbox();
        for (index, generation) in self.reached(session) {
            if let (Some(upstream), Some(up)) = (self.upstreams.get(index), session.upstream_session(index)) {
                self.follow(session, upstream, &generation, &up);
            }
        }
        outbox
    }

    /// Brings what the upstream says in `up` to the client, as long as the client has a stream for it.
    pub(super) fn follow(
        self: &Arc<Self>,
        session: &Arc<LegacySession>,
        upstream: &Arc<Upstream>,
        generation: &Arc<Generation>,
        up: &Arc<Session>,
    ) {
        if up.is_process() || !session.begin_following(upstream.index(), up) {
            return;
        }
        let follower = Follower {
            session: Arc::clone(session),
            upstream: Arc::clone(upstream),
            generation: Arc::clone(generation),
            up: Arc::clone(up),
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = follower.run() => {}
                () = follower.session.stream_closed() => {}
                () = shutdown.cancelled() => {}
            }
            follower.session.end_following(follower.upstream.index(), &follower.up);
        });
    }
}

struct Follower {
    session: Arc<LegacySession>,
    upstream: Arc<Upstream>,
    generation: Arc<Generation>,
    up: Arc<Session>,
}

impl Follower {
    async fn run(&self) {
        let mut messages = match self.generation.listen(&self.up).await {
            Ok(Some(messages)) => messages,
            Ok(None) => return tracing::debug!(upstream = %self.upstream.name(), "the upstream offers no stream of its own"),
            Err(error) => return tracing::debug!(upstream = %self.upstream.name(), %error, "the upstream's stream could not be opened"),
        };
        while let Some(Ok(bytes)) = messages.next().await {
            match Message::parse(bytes) {
                Ok(message) => self.take(&message).await,
                Err(error) => tracing::warn!(upstream = %self.upstream.name(), %error, "a message is not JSON-RPC; dropped"),
            }
        }
        tracing::debug!(upstream = %self.upstream.name(), "the upstream ended its stream");
    }

    async fn take(&self, message: &Message) {
        match message.kind() {
            // The gateway says itself that a list changed, once it has read it.
            Kind::Notification => match Method::parse(message.method()) {
                Some(Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged) => {}
                _ => self.session.tell(message.bytes().clone()),
            },
            Kind::Request => {
                if let Some(answer) = self.ask(message)
                    && let Err(error) = self.generation.notify(&self.up, answer).await
                {
                    tracing::debug!(%error, "an answer to a server's request could not be sent");
                }
            }
            // No response belongs on this stream.
            Kind::Response | Kind::ErrorResponse => {}
        }
    }

    /// Brings a server's request to the client, or gives the answer to it.
    fn ask(&self, message: &Message) -> Option<Bytes> {
        let (id, span) = (message.id()?, message.id_span()?);
        if message.method() == Method::Ping.as_str() {
            return Some(build::response(id, b"{}"));
        }
        let asked = Asked { generation: Arc::clone(&self.generation), session: Arc::clone(&self.up), id: id.clone() };
        let Some(granted) = self.session.ask(asked) else {
            return Some(errors::error_response(Some(id), errors::code::METHOD_NOT_FOUND, "this client cannot be asked", None));
        };
        let mut splices = Splices::new();
        splices.replace(span, granted.into_json());
        self.session.tell(splices.apply(message.bytes()));
        None
    }
}
