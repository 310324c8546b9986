//! The watch beside the gateway.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;

use super::{World, start};
use crate::{
    config::Config,
    downstream::{ListenerTls, LiveServer},
    events::Events,
    gateway::Gateway,
    health::{Board, CertificatesConfig, OwnAddress, OwnListener, OwnTls, Watch, WatchParts, WatchedList},
    outbound::probe::Prober,
    tls::ServerIdentityFiles,
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

/// The gateway that listens at `bound`.
pub(super) fn address(config: &Config, bound: SocketAddr, server: LiveServer) -> OwnAddress {
    let listens = start::listens(config, bound).origin().ascii_serialization();
    OwnAddress::new(&listens, move || server.now().public_url.clone())
}

/// Starts it. `listeners` are those of ours that speak TLS.
pub(super) fn start(
    world: &World,
    config: &Config,
    gateway: &Arc<Gateway>,
    shared: &Shared,
    address: OwnAddress,
    listeners: Vec<OwnListener>,
    certificates: watch::Receiver<CertificatesConfig>,
) -> Watch {
    Watch::start(WatchParts {
        gateway: Arc::clone(gateway),
        certificates,
        directory: config.state.directory.clone(),
        events: shared.events.clone(),
        board: shared.board.clone(),
        prober: shared.prober.clone(),
        clock: Arc::clone(&world.clock),
        sources: Arc::clone(&world.sources),
        address,
        listeners,
    })
}

/// One of our listeners as the watch looks at it: what it shows at the moment, since its files are swapped while it serves.
pub(super) fn own(name: &'static str, tls: &Arc<ListenerTls>) -> OwnListener {
    let tls = Arc::clone(tls);
    let look = move || {
        let (current, settings) = (tls.current(), tls.settings());
        let crls = settings.clients.map(|clients| clients.crls).unwrap_or_default();
        let lists = crls.into_iter().zip(current.client_lists()).map(|(file, facts)| WatchedList {
            upstream: None,
            file,
            issuer: facts.issuer.clone(),
            this_update: facts.this_update,
            next_update: facts.next_update,
        });
        let file = match settings.identity {
            ServerIdentityFiles::Two { certificate, .. } => certificate,
            ServerIdentityFiles::Archive { path, .. } => path,
        };
        OwnTls { chain: current.chain().to_vec(), client_cas: current.client_cas().to_vec(), lists: lists.collect(), file: Some(file) }
    };
    OwnListener { name, tls: Arc::new(look) }
}
