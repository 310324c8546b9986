//! The watch, with real upstreams and real receivers.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod certificates;
mod checks;
mod delivery;
mod mail;
mod own;
mod replicas;

use std::{path::Path, sync::Arc, time::Duration};

use nexus::{
    clock::SystemClock,
    config::{self, Config},
    events::Events,
    health::{Board, CertificatesConfig, OwnAddress, Watch, WatchParts},
    outbound::probe::Prober,
    sources::MemorySources,
};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde_json::Value;

use crate::support::{nexus::Nexus, pki::Chain, tls_peer::Peer, until};

const TRUSTING: &str = "[.tls]\nroot_ca_cert_path = \"/ca.pem\"";

/// A watch over a gateway; ends with its owner.
struct Watched {
    watch: Watch,
    board: Board,
    prober: Prober,
    events: Events,
    settings: tokio::sync::watch::Sender<CertificatesConfig>,
}

/// Watches at a pace for tests. `toml` holds channels and what else belongs to them.
fn watch(nexus: &Nexus, toml: &str) -> Watched {
    watch_with(nexus, toml, |_| ())
}

/// The same with other parts.
fn watch_with(nexus: &Nexus, toml: &str, change: impl FnOnce(&mut WatchParts)) -> Watched {
    let config = read(toml);
    let settings = tokio::sync::watch::Sender::new(config.certificates);
    let (board, prober) = (Board::default(), Prober::new(8));
    let events = Events::new(Arc::new(SystemClock));
    let mut parts = WatchParts {
        gateway: Arc::clone(&nexus.gateway),
        certificates: settings.subscribe(),
        directory: config.state.directory,
        events: events.clone(),
        board: board.clone(),
        prober: prober.clone(),
        clock: Arc::new(SystemClock),
        sources: Arc::clone(&nexus.sources),
        address: OwnAddress::new("the-gateway", || None),
        listeners: Vec::new(),
    };
    change(&mut parts);
    let watch = Watch::start(parts);
    Watched { watch, board, prober, events, settings }
}

/// Tables beside the upstreams', at a pace for tests.
fn read(toml: &str) -> Config {
    let loaded = config::load_text(toml, Path::new("/etc/nexus.toml"), None, &MemorySources::default());
    let mut config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems));
    config.certificates.probe_interval = Duration::from_millis(20);
    config
}

impl Watched {
    /// Goes on with the channels and settings of another `toml`.
    fn set_up(&self, toml: &str) {
        self.settings.send_replace(read(toml).certificates);
    }

    /// Waits for some more checks of an upstream, whatever they say.
    async fn checks(&self, upstream: &str, more: u64) {
        let count = || self.board.checkup(upstream).map_or(0, |checkup| checkup.passed + checkup.failed.values().sum::<u64>());
        let before = count();
        until("further checks", || count() >= before + more).await;
    }
}

/// The lines of a webhook channel to a receiver.
fn webhook(receiver: &Peer) -> String {
    format!("[[certificates.alerts]]\ntype = \"webhook\"\nmin_severity = \"warning\"\nurl = \"http://{}/alerts\"\n", receiver.address)
}

/// What a receiver was told, in order.
fn told(receiver: &Peer) -> Vec<Value> {
    receiver.arrived().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

/// Waits until a receiver was told so much.
async fn hears(receiver: &Peer, count: usize) -> Vec<Value> {
    until("an alert", || told(receiver).len() >= count).await;
    told(receiver)
}

/// A server's certificate that is renewed while it serves.
#[derive(Debug)]
struct Renewable(Mutex<Arc<CertifiedKey>>);

impl Renewable {
    fn new(chain: &Chain) -> (Arc<Self>, ServerConfig) {
        let renewable = Arc::new(Self(Mutex::new(key(chain))));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&renewable) as Arc<dyn ResolvesServerCert>);
        (renewable, config)
    }

    fn renew(&self, chain: &Chain) {
        *self.0.lock() = key(chain);
    }
}

fn key(chain: &Chain) -> Arc<CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&chain.clone_key()).unwrap();
    Arc::new(CertifiedKey::new(chain.certificates.clone(), key))
}

impl ResolvesServerCert for Renewable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock()))
    }
}
