//! What the watch knows at the moment, for whoever shows it. Reading it waits for nothing.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use super::{alert::Alert, streak::Standing};
use crate::{
    reason::Explanation,
    tls::{CertificateFacts, Position, Report},
};

/// What the watch knows. Cheap to share; empty until something was looked at.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    checkups: RwLock<BTreeMap<String, Arc<Checkup>>>,
    /// By scope: one thing that is looked at as a whole.
    certificates: RwLock<BTreeMap<String, Arc<[WatchedCertificate]>>>,
    lists: RwLock<BTreeMap<String, Arc<[WatchedList]>>>,
    alerts: RwLock<Arc<[Alert]>>,
    channels: RwLock<Arc<[Arc<ChannelCounts>]>>,
}

/// The last check of one upstream, and what was counted since the start.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// Since 1970.
    pub at: Duration,
    pub standing: Standing,
    /// Why the last check failed; `None` when it passed.
    pub failure: Option<Explanation>,
    pub passed: u64,
    /// Failed checks by machine code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Of the last handshake; `None` for an upstream without TLS, and when its files are not usable.
    pub report: Option<Arc<Report>>,
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// An upstream's server shows it to us.
    Server,
    /// We show it to an upstream.
    Client,
    /// We believe it: a CA of `root_ca_cert_path` or `client_ca`.
    Anchor,
    /// A listener of ours shows it to clients.
    Listener,
    /// It is shown at `public_url`, by us or by whatever stands in front.
    Public,
}

impl Role {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Anchor => "anchor",
            Self::Listener => "downstream",
            Self::Public => "public",
        }
    }
}

/// One certificate that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedCertificate {
    pub role: Role,
    /// Absent when it is the gateway's own.
    pub upstream: Option<String>,
    pub position: Position,
    pub facts: CertificateFacts,
    /// Its end breaks something: it is on the path, or it is what a peer checks.
    pub decides: bool,
    /// Where it was read from; absent for what a server shows.
    pub file: Option<PathBuf>,
}

/// One revocation list that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedList {
    /// Absent for the gateway's own listeners.
    pub upstream: Option<String>,
    pub file: PathBuf,
    pub issuer: String,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970; a list may not say.
    pub next_update: Option<i64>,
}

/// What became of the alerts of one channel.
#[derive(Debug)]
pub struct ChannelCounts {
    /// `slack 2`: its type and its place in the file, counted from 1.
    pub name: String,
    pub(super) sent: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) waiting: AtomicU64,
}

impl ChannelCounts {
    pub(super) fn new(name: String) -> Self {
        Self { name, sent: 0.into(), failed: 0.into(), dropped: 0.into(), waiting: 0.into() }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Attempts that failed; most are repeated.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Alerts that were given up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Alerts in the queue.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Board {
    /// The last check of an upstream; `None` before the first.
    pub fn checkup(&self, upstream: &str) -> Option<Arc<Checkup>> {
        self.0.checkups.read().get(upstream).cloned()
    }

    /// The last checks of all upstreams, by name.
    pub fn checkups(&self) -> Vec<(String, Arc<Checkup>)> {
        self.0.checkups.read().iter().map(|(name, checkup)| (name.clone(), Arc::clone(checkup))).collect()
    }

    /// The report of an upstream's last handshake.
    pub fn report(&self, upstream: &str) -> Option<Arc<Report>> {
        self.checkup(upstream)?.report.clone()
    }

    /// Every certificate that is watched: of upstreams, of our own, and of the CAs that are believed.
    pub fn certificates(&self) -> Vec<WatchedCertificate> {
        self.0.certificates.read().values().flat_map(|of_scope| of_scope.iter().cloned()).collect()
    }

    /// Every certificate that has to do with one upstream.
    pub fn certificates_of(&self, upstream: &str) -> Vec<WatchedCertificate> {
        let is_its = |watched: &&WatchedCertificate| watched.upstream.as_deref() == Some(upstream);
        self.0.certificates.read().values().flat_map(|of_scope| of_scope.iter()).filter(is_its).cloned().collect()
    }

    /// Every revocation list that is watched.
    pub fn lists(&self) -> Vec<WatchedList> {
        self.0.lists.read().values().flat_map(|of_scope| of_scope.iter().cloned()).collect()
    }

    /// What was told and holds on, worst first.
    pub fn alerts(&self) -> Arc<[Alert]> {
        Arc::clone(&self.0.alerts.read())
    }

    /// The channels that alerts go to, in file order.
    pub fn channels(&self) -> Arc<[Arc<ChannelCounts>]> {
        Arc::clone(&self.0.channels.read())
    }

    /// When the first certificate ends that a role of an upstream depends on, in seconds since 1970; `None` for `upstream`:
    /// of the gateway's own.
    pub fn earliest_end(&self, upstream: Option<&str>, role: Role) -> Option<i64> {
        let counts = |watched: &&WatchedCertificate| watched.decides && watched.role == role && watched.upstream.as_deref() == upstream;
        let certificates = self.0.certificates.read();
        certificates.values().flat_map(|of_scope| of_scope.iter()).filter(counts).map(|watched| watched.facts.not_after).min()
    }

    pub(super) fn now_checked(&self, upstream: &str, checkup: Checkup) {
        self.0.checkups.write().insert(upstream.to_owned(), Arc::new(checkup));
    }

    pub(super) fn now_showing(&self, scope: &str, certificates: Vec<WatchedCertificate>) {
        self.0.certificates.write().insert(scope.to_owned(), certificates.into());
    }

    pub(super) fn now_revoking(&self, scope: &str, lists: Vec<WatchedList>) {
        self.0.lists.write().insert(scope.to_owned(), lists.into());
    }

    pub(super) fn now_told(&self, alerts: Vec<Alert>) {
        *self.0.alerts.write() = alerts.into();
    }

    pub(super) fn now_telling(&self, channels: Vec<Arc<ChannelCounts>>) {
        *self.0.channels.write() = channels.into();
    }

    /// Forgets what is not watched any more.
    pub(super) fn keep(&self, upstreams: impl Fn(&str) -> bool, scopes: impl Fn(&str) -> bool) {
        self.0.checkups.write().retain(|name, _| upstreams(name));
        self.0.certificates.write().retain(|scope, _| scopes(scope));
        self.0.lists.write().retain(|scope, _| scopes(scope));
    }
}
