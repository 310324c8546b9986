//! The gateway under test: a real configuration text, real listeners, fake upstreams.

#![allow(clippy::unwrap_used, reason = "a gateway that cannot start has failed its test")]

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, path::Path, sync::Arc};

use nexus::{
    admin::{self, Admin, AdminConfig},
    clock::{Clock, SystemClock},
    config,
    downstream::{Bound, ListenerTls, LiveServer, Server, Stop},
    gateway::Gateway,
    health::{Board, OwnAddress, Watch, WatchParts},
    outbound::probe::Prober,
    sources::{MemorySources, Sources, SystemSources},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    child::{ChildSpec, Notes},
    client::Client,
    fake::{Fake, FakeSpec},
    operator::Operator,
    soon, until,
};

/// An upstream of the gateway to be.
pub(crate) enum Upstream {
    Http(Box<FakeSpec>),
    Child(ChildSpec),
    /// The lines of its table.
    Lines(String),
}

impl From<FakeSpec> for Upstream {
    fn from(spec: FakeSpec) -> Self {
        Self::Http(Box::new(spec))
    }
}

impl From<ChildSpec> for Upstream {
    fn from(spec: ChildSpec) -> Self {
        Self::Child(spec)
    }
}

impl From<&str> for Upstream {
    fn from(lines: &str) -> Self {
        Self::Lines(lines.to_owned())
    }
}

impl From<String> for Upstream {
    fn from(lines: String) -> Self {
        Self::Lines(lines)
    }
}

/// A gateway to be.
pub(crate) struct GatewaySpec {
    upstreams: Vec<(String, Upstream)>,
    server: String,
    mcp: String,
    bounds: String,
    further: String,
    /// The lines of `[admin]`, if there is one.
    admin: Option<String>,
    reload: Option<Arc<dyn admin::Reload>>,
    watched: bool,
    sources: MemorySources,
    reads_disk: bool,
    clock: Arc<dyn Clock>,
}

pub(crate) fn gateway() -> GatewaySpec {
    let path = std::env::var("PATH").unwrap_or_default();
    let sources = MemorySources::default().with_env("PATH", &path);
    GatewaySpec {
        upstreams: Vec::new(),
        server: String::new(),
        mcp: String::new(),
        bounds: String::new(),
        further: String::new(),
        admin: None,
        reload: None,
        watched: false,
        sources,
        clock: Arc::new(SystemClock),
        reads_disk: false,
    }
}

impl GatewaySpec {
    pub(crate) fn upstream(mut self, name: &str, upstream: impl Into<Upstream>) -> Self {
        self.upstreams.push((name.to_owned(), upstream.into()));
        self
    }

    /// A line of `[server]`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        writeln!(self.server, "{line}").unwrap();
        self
    }

    /// A line of `[mcp]`.
    pub(crate) fn mcp(mut self, line: &str) -> Self {
        writeln!(self.mcp, "{line}").unwrap();
        self
    }

    /// A line of `[mcp.bounds]`.
    pub(crate) fn bounds(mut self, line: &str) -> Self {
        writeln!(self.bounds, "{line}").unwrap();
        self
    }

    /// Further tables.
    pub(crate) fn tables(mut self, lines: &str) -> Self {
        writeln!(self.further, "{lines}").unwrap();
        self
    }

    /// An admin listener on loopback, with these lines.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin = Some(lines.to_owned());
        self
    }

    /// What `POST /api/v1/reload` does.
    pub(crate) fn reload(mut self, reload: Arc<dyn admin::Reload>) -> Self {
        self.reload = Some(reload);
        self
    }

    /// The watch runs beside the gateway.
    pub(crate) fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    /// Reads the real disk and the real environment.
    pub(crate) fn on_disk(mut self) -> Self {
        self.reads_disk = true;
        self
    }

    /// Another clock than the machine's; handshakes keep the machine's.
    pub(crate) fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources = self.sources.with_env(name, value);
        self
    }

    /// A file of the operator's, by its absolute path.
    pub(crate) fn file(mut self, path: &str, text: impl Into<Vec<u8>>) -> Self {
        self.sources = self.sources.with_file(path, text);
        self
    }

    /// Writes the configuration with its fakes running, but starts no gateway.
    pub(crate) async fn write(self) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let mut toml = format!("[server]\nlisten_address = \"127.0.0.1:0\"\n{}[mcp]\n{}", self.server, self.mcp);
        write!(toml, "[mcp.bounds]\n{}\n{}", self.bounds, self.further).unwrap();
        if let Some(lines) = &self.admin {
            write!(toml, "[admin]\nlisten_address = \"127.0.0.1:0\"\n{lines}\n").unwrap();
        }
        let (mut fakes, mut notes) = (BTreeMap::new(), BTreeMap::new());
        for (name, upstream) in self.upstreams {
            let lines = match upstream {
                Upstream::Http(spec) => {
                    let lines = spec.toml.clone();
                    let fake = spec.start(&name).await;
                    let lines = format!("url = {:?}\n{lines}", fake.url());
                    fakes.insert(name.clone(), fake);
                    lines
                }
                Upstream::Child(spec) => {
                    let (lines, noted) = spec.write(&name, folder.path());
                    notes.insert(name.clone(), noted);
                    lines
                }
                Upstream::Lines(lines) => lines,
            };
            // Sub-tables in an upstream's own lines are written with a dot: `[.tls]`.
            let lines = lines.replace("[.", &format!("[mcp.servers.{name}."));
            writeln!(toml, "[mcp.servers.{name}]\n{lines}").unwrap();
        }
        let sources: Arc<dyn Sources> = if self.reads_disk { Arc::new(SystemSources) } else { Arc::new(self.sources) };
        Written { toml, folder, fakes, notes, sources }
    }

    /// Starts everything and waits until every upstream was tried.
    pub(crate) async fn start(self) -> Nexus {
        let nexus = self.start_at_once().await;
        soon("every upstream's first try", nexus.gateway.tried()).await;
        nexus
    }

    pub(crate) async fn start_at_once(mut self) -> Nexus {
        let (watched, self_reload, clock) = (self.watched, self.reload.take(), Arc::clone(&self.clock));
        let Written { toml, folder, fakes, notes, sources } = self.write().await;
        let loaded = config::load_text(&toml, Path::new("/etc/nexus.toml"), None, &*sources);
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        let config = loaded.config.unwrap_or_else(|| panic!("{}\n{toml}", problems.join("\n")));
        let bound = Bound::bind(&config.server, &*sources, clock.now()).await.unwrap();
        let (address, tls) = (bound.address(), bound.tls().cloned());
        let gateway = Gateway::start(config.mcp, &clock, &sources);
        gateway.audit().begin(config.telemetry.audit.as_ref()).unwrap();
        let stop = Stop::default();
        let mut operators = None;
        if let Some(admin) = &config.admin {
            let bound = admin::Bound::bind(admin, &*sources, clock.now()).await.unwrap();
            let address = bound.address();
            let (events, board, prober) = (gateway.events().clone(), Board::default(), Prober::new(8));
            let watch = watched.then(|| {
                Watch::start(WatchParts {
                    gateway: Arc::clone(&gateway),
                    certificates: tokio::sync::watch::Sender::new(config.certificates.clone()).subscribe(),
                    directory: config.state.directory.clone(),
                    events: events.clone(),
                    board: board.clone(),
                    prober: prober.clone(),
                    clock: Arc::clone(&clock),
                    sources: Arc::clone(&sources),
                    address: OwnAddress::new("test", || None),
                    listeners: Vec::new(),
                })
            });
            let recorder = tokio::spawn(admin::record(Arc::clone(&gateway), events.clone()));
            let parts = admin::Parts {
                gateway: Arc::clone(&gateway),
                events,
                board: board.clone(),
                prober: prober.clone(),
                clock: Arc::clone(&clock),
                reload: self_reload,
                reloads: Vec::new(),
            };
            let serving = tokio::spawn(Admin::new(bound, admin, &config.server.clone().into(), parts).run(stop.clone()));
            let config = AdminConfig { listen_address: address, ..admin.clone() };
            operators = Some(Operators { config, board, serving, recorder, _watch: watch });
        }
        let server = LiveServer::from(config.server);
        let serving = tokio::spawn(Server::new(bound, server.clone(), Arc::clone(&gateway)).run(stop.clone()));
        Nexus { address, tls, server, gateway, toml, sources, stop, serving, operators, fakes, notes, _folder: folder }
    }
}

/// A configuration and what it speaks of.
pub(crate) struct Written {
    pub(crate) toml: String,
    pub(crate) folder: TempDir,
    pub(crate) fakes: BTreeMap<String, Fake>,
    pub(crate) notes: BTreeMap<String, Notes>,
    sources: Arc<dyn Sources>,
}

/// A running gateway; ends with its owner.
pub(crate) struct Nexus {
    pub(crate) address: SocketAddr,
    tls: Option<Arc<ListenerTls>>,
    /// `[server]`, as a reload would replace it.
    pub(crate) server: LiveServer,
    pub(crate) gateway: Arc<Gateway>,
    /// What it was started with.
    pub(crate) toml: String,
    pub(crate) sources: Arc<dyn Sources>,
    stop: Stop,
    serving: tokio::task::JoinHandle<()>,
    operators: Option<Operators>,
    fakes: BTreeMap<String, Fake>,
    notes: BTreeMap<String, Notes>,
    _folder: TempDir,
}

/// The admin listener beside it.
struct Operators {
    /// With the real port.
    config: AdminConfig,
    board: Board,
    serving: tokio::task::JoinHandle<()>,
    recorder: tokio::task::JoinHandle<()>,
    _watch: Option<Watch>,
}

impl Drop for Nexus {
    fn drop(&mut self) {
        self.stop.drain.cancel();
        self.serving.abort();
        if let Some(operators) = &self.operators {
            operators.serving.abort();
            operators.recorder.abort();
        }
    }
}

impl Nexus {
    pub(crate) fn fake(&self, name: &str) -> &Fake {
        &self.fakes[name]
    }

    /// TLS of the listener, where it has one.
    pub(crate) fn tls(&self) -> &Arc<ListenerTls> {
        self.tls.as_ref().unwrap()
    }

    pub(crate) fn notes(&self, name: &str) -> &Notes {
        &self.notes[name]
    }

    /// Somebody who asks the admin listener.
    pub(crate) fn operator(&self) -> Operator {
        Operator::new(self.admin_config().listen_address)
    }

    /// Waits until the watch has looked at an upstream.
    pub(crate) async fn checked(&self, upstream: &str) {
        let board = &self.operators.as_ref().unwrap().board;
        until("the first check", || board.checkup(upstream).is_some()).await;
    }

    /// The admin listener as the file has it, with its real port.
    pub(crate) fn admin_config(&self) -> AdminConfig {
        self.operators.as_ref().unwrap().config.clone()
    }

    /// A legacy client that can be asked for everything.
    pub(crate) async fn legacy(&self) -> Client {
        Client::legacy(self.address, json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}})).await
    }

    /// A client of this era with a token of its own.
    pub(crate) async fn bearing(&self, is_modern: bool, token: &str) -> Client {
        match is_modern {
            true => self.modern().bearing(token),
            false => Client::stranger(self.address).bearing(token).begin(json!({})).await,
        }
    }

    pub(crate) async fn legacy_with(&self, capabilities: Value) -> Client {
        Client::legacy(self.address, capabilities).await
    }

    pub(crate) fn modern(&self) -> Client {
        Client::modern(self.address)
    }

    /// Takes another configuration.
    pub(crate) fn reload(&self, toml: &str) -> nexus::gateway::Changes {
        let loaded = config::load_text(toml, Path::new("/etc/nexus.toml"), None, &*self.sources);
        let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        self.gateway.reload(loaded.config.unwrap_or_else(|| panic!("{}\n{toml}", problems.join("\n"))).mcp)
    }

    pub(crate) fn upstream(&self, name: &str) -> Arc<nexus::upstream::Upstream> {
        self.gateway.upstreams().iter().find(|found| found.name().as_str() == name).map(Arc::clone).unwrap()
    }

    /// Waits until an upstream's state has this word.
    pub(crate) async fn state(&self, upstream: &str, word: &str) {
        let upstreams = self.gateway.upstreams();
        let upstream = upstreams.iter().find(|found| found.name().as_str() == upstream).unwrap();
        until(word, || upstream.status().borrow().state.word() == word).await;
    }

    /// The gateway still does its work, for a client of either era.
    pub(crate) async fn is_unharmed(&self, tool: &str) {
        for client in [self.legacy().await, self.modern()] {
            let answer = client.call(tool).await;
            assert!(answer["result"]["content"].is_array(), "{answer}");
        }
    }
}
