//! `nexus demo`: three real MCP upstreams with three kinds of trust, and the configuration that reaches them.
//!
//! - `notes`: a child process over stdio.
//! - `calendar`: HTTPS behind a private CA.
//! - `inventory`: HTTPS behind another private CA, for holders of a client certificate only.
//!
//! `server` speaks MCP in both eras and knows no transport; `stdio` and `http` carry it.

mod calendar;
mod folder;
mod http;
mod inventory;
mod notes;
mod server;
pub mod stdio;
mod tls;
mod tools;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::{net::TcpListener, task::JoinSet};
use url::Url;

use self::{
    calendar::Calendar,
    folder::{Facts, Folder},
    inventory::Inventory,
    tls::Clients,
};
use crate::{sources::Sources, tls::dev};

/// The ports of a demo's endpoint and of its admin listener where they are free, so that a pasted block still fits at the next
/// start.
const PORTS: [u16; 2] = [8000, 8001];

/// What a demo needs to know.
#[derive(Clone, Debug)]
pub struct DemoOptions<'a> {
    /// Where the files go; `None`: a private temporary folder, removed at the end.
    pub dir: Option<&'a Path>,
    /// Our own program, absolute, which the gateway starts for `notes`.
    pub exe: &'a Path,
    /// The gateway's own address, for `nexus.toml`.
    pub listen: SocketAddr,
    /// The address of its admin listener, which `nexus status` asks.
    pub admin: SocketAddr,
    /// The span since 1970, from which the certificates are valid.
    pub now: Duration,
}

/// Why a demo does not start.
#[derive(Debug, Error)]
pub enum DemoError {
    #[error("cannot write \"{}\": {source}", .path.display())]
    Files { path: PathBuf, source: io::Error },
    #[error("\"{}\" was not written by `nexus demo` and is left alone; give another folder with --dir", .path.display())]
    NotOurs { path: PathBuf },
    #[error("no development certificates: {0}")]
    Certificates(String),
    #[error("cannot listen on 127.0.0.1: {0}")]
    Listen(#[source] io::Error),
}

impl DemoError {
    fn files(path: &Path, source: io::Error) -> Self {
        Self::Files { path: path.to_owned(), source }
    }
}

/// The running upstreams and their files; dropping it stops the one and removes a temporary folder.
#[derive(Debug)]
pub struct Demo {
    /// The `nexus.toml` to serve.
    pub config_path: PathBuf,
    pub upstreams: DemoUpstreams,
    folder: Folder,
}

/// The HTTPS upstreams of a demo, served by tasks that end with this value. `notes` is started by the gateway.
#[derive(Debug)]
pub struct DemoUpstreams {
    pub calendar: SocketAddr,
    pub inventory: SocketAddr,
    _tasks: JoinSet<()>,
}

/// Mints certificates, starts the HTTPS upstreams on free ports of 127.0.0.1, and writes the files.
///
/// Keys of the two servers never touch the disk.
///
/// # Errors
/// [`DemoError`].
pub async fn start(options: &DemoOptions<'_>, sources: &dyn Sources) -> Result<Demo, DemoError> {
    let folder = match options.dir {
        Some(path) => Folder::at(path)?,
        None => Folder::fleeting(sources)?,
    };
    let mint = || dev::mint(&[], options.now).map_err(DemoError::Certificates);
    let (private, mutual) = (mint()?, mint()?);
    let calendar = tls::acceptor(&private, Clients::Anyone).map_err(DemoError::Certificates)?;
    let inventory = tls::acceptor(&mutual, Clients::WithCertificate).map_err(DemoError::Certificates)?;

    let mut tasks = JoinSet::new();
    let calendar = http::serve(Calendar, calendar, &mut tasks).await.map_err(DemoError::Listen)?;
    let inventory = http::serve(Inventory::default(), inventory, &mut tasks).await.map_err(DemoError::Listen)?;
    folder.write(&private, &mutual, &Facts { exe: options.exe, listen: options.listen, admin: options.admin, calendar, inventory })?;
    let upstreams = DemoUpstreams { calendar, inventory, _tasks: tasks };
    Ok(Demo { config_path: folder.config_path(), upstreams, folder })
}

/// Free loopback addresses for the gateway of a demo and for its admin listener, ports 8000 and 8001 if possible.
///
/// `taken` is an address that will be in use.
///
/// # Errors
/// The system gives no port.
pub async fn free_addresses(taken: Option<SocketAddr>) -> Result<[SocketAddr; 2], DemoError> {
    let bind = async |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let free = async |port| match bind(port).await {
        Ok(listener) if taken.is_none_or(|taken| taken.port() != port) => Ok(listener),
        _ => bind(0).await,
    };
    let [endpoint, admin] = PORTS;
    // The first is held until the second is found, or the system could give one port twice.
    let endpoint = free(endpoint).await.map_err(DemoError::Listen)?;
    let admin = free(admin).await.map_err(DemoError::Listen)?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(DemoError::Listen);
    Ok([address(&endpoint)?, address(&admin)?])
}

impl Demo {
    /// What to print once the gateway serves at `endpoint`: what is behind it, and `blocks`, ready to paste into clients.
    pub fn banner(&self, endpoint: &Url, blocks: &str) -> String {
        format!(
            "MCP endpoint   {endpoint}\n\
             configuration  {config}{fleeting}\n\
             \n\
             notes          a child process (stdio): add_note, search_notes, list_notes\n\
             calendar       https://{calendar}, private CA: days_between, next_weekday, convert_time_zone\n\
             inventory      https://{inventory}, private CA and client certificate: stock_level, reserve_item, low_stock\n\
             \n\
             {blocks}\n\
             The blocks work while this runs. Stop it with Ctrl-C.\n",
            config = self.config_path.display(),
            fleeting = if self.folder.is_fleeting() { " (removed at the end; keep it with --dir FOLDER)" } else { "" },
            calendar = self.upstreams.calendar,
            inventory = self.upstreams.inventory,
        )
    }
}
