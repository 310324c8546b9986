//! The watch beside the gateway.

use std::{net::SocketAddr, sync::Arc};

use super::{World, start};
use crate::{
    config::Config,
    events::Events,
    gateway::Gateway,
    health::{Board, OwnListener, Watch, WatchParts},
    outbound::probe::Prober,
};

/// Most handshakes of the prober at a time.
pub(super) const PROBES_AT_ONCE: usize = 8;

/// What the watch shares with whoever shows it.
pub(super) struct Shared {
    pub(super) events: Events,
    pub(super) board: Board,
    pub(super) prober: Prober,
}

impl Shared {
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self { events: gateway.events().clone(), board: Board::default(), prober: Prober::new(PROBES_AT_ONCE) }
    }
}

/// Starts it. `listeners` are those of ours that speak TLS.
pub(super) fn start(
    world: &World,
    config: &Config,
    gateway: &Arc<Gateway>,
    shared: &Shared,
    bound: SocketAddr,
    listeners: Vec<OwnListener>,
) -> Watch {
    let public_url = config.server.public_url.clone();
    Watch::start(WatchParts {
        gateway: Arc::clone(gateway),
        certificates: config.certificates.clone(),
        state: config.state.clone(),
        events: shared.events.clone(),
        board: shared.board.clone(),
        prober: shared.prober.clone(),
        clock: Arc::clone(&world.clock),
        sources: Arc::clone(&world.sources),
        name: public_url.as_ref().map_or_else(|| start::endpoint(config, bound).origin().ascii_serialization(), ToString::to_string),
        public_url,
        listeners,
    })
}
