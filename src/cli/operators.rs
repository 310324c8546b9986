//! The admin listener beside the gateway: bound before anything starts, and the last to go.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{World, serve::listening};
use crate::{
    admin::{Admin, Bound, Parts},
    config::Config,
    downstream::{BindError, ListenerTls, LiveServer, Stop},
};

/// The admin listener to be, if the file asks for one.
pub(super) struct Operators {
    bound: Option<Bound>,
}

/// A running one. It answers `/readyz` to the end of the drain, so that nobody is sent here any more.
pub(super) struct Attended {
    stop: Stop,
    serving: Option<JoinHandle<()>>,
}

impl Operators {
    /// # Errors
    /// A file of `[admin.tls]` cannot be used; the address is taken, or not one of this machine.
    pub(super) async fn bind(world: &World, config: &Config) -> Result<Self, BindError> {
        let bound = match &config.admin {
            Some(admin) => Some(Bound::bind(admin, &*world.sources, world.clock.now()).await?),
            None => None,
        };
        Ok(Self { bound })
    }

    /// For the start-up line: where it listens, and its TLS in words.
    pub(super) fn url(&self) -> Option<String> {
        self.bound.as_ref().map(|bound| listening(bound.address(), "", bound.tls()))
    }

    pub(super) fn tls(&self) -> Option<&Arc<ListenerTls>> {
        self.bound.as_ref().and_then(Bound::tls)
    }

    pub(super) fn attend(self, config: &Config, server: &LiveServer, parts: Parts) -> Attended {
        let stop = Stop::default();
        let serving = self.bound.zip(config.admin.as_ref()).map(|(bound, admin)| {
            let admin = Admin::new(bound, admin, server, parts);
            tokio::spawn(Box::pin(admin.run(stop.clone())))
        });
        Attended { stop, serving }
    }
}

impl Attended {
    /// Cuts off what is still open: an operator's stream of events has no end of its own.
    pub(super) async fn end(self) {
        self.stop.drain.cancel();
        self.stop.now.cancel();
        if let Some(serving) = self.serving {
            // It ends by itself now; a panic in it was told by the runtime.
            let _ = serving.await;
        }
    }
}
