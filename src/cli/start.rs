//! What several commands begin with: the runtime, the configuration, the gateway.

use std::{
    future::Future,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use url::Url;

use super::{FAILURE, USAGE, World, fail, snippet::SnippetContext};
use crate::{
    config::{self, Config, Overrides},
    gateway::{Gateway, McpConfig},
    problem::Severity,
    session::StoreConfig,
};

/// Time for the last lines of the audit trail.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs a command on as many threads as there are processors for it.
pub(super) fn block_on(command: impl Future<Output = u8>) -> u8 {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A blocked read of stdin must not keep the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(FAILURE, &format!("error: the runtime cannot be started: {error}")),
    }
}

/// The configuration has problems, which were printed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: u8,
    /// The first problem in a few words, for a client that sees nothing else.
    pub(super) first: String,
}

/// Finds, reads and checks the file; every problem is printed.
///
/// # Errors
/// [`Refused`]
pub(super) fn load(world: &World) -> Result<(PathBuf, Config), Refused> {
    let path = config::find(world.global.config.clone(), &*world.sources)
        .map_err(|error| Refused { code: fail(USAGE, &error.to_string()), first: "no configuration file was found".into() })?;
    let overrides = Overrides { listen_address: world.global.listen_address };
    let loaded = config::load_with(&path, &*world.sources, &overrides);
    let mut err = std::io::stderr().lock();
    for problem in &loaded.problems {
        let _ = writeln!(err, "{problem}\n");
    }
    let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    match loaded.config {
        Some(config) => Ok((path, config)),
        None => {
            let _ = writeln!(err, "{}: {errors} problem{}; nothing was started", path.display(), if errors == 1 { "" } else { "s" });
            let first = loaded.problems.iter().find(|problem| problem.severity == Severity::Error);
            let first = first.map_or_else(String::new, |problem| format!("{}: {}", problem.key, problem.what));
            Err(Refused { code: USAGE, first })
        }
    }
}

/// Starts the gateway of a configuration.
pub(super) fn gateway(world: &World, config: &Config) -> Arc<Gateway> {
    Gateway::start(config.mcp.clone(), &world.clock, &world.sources)
}

/// The same without other replicas: what it begins ends with it.
pub(super) fn gateway_alone(world: &World, config: &Config) -> Arc<Gateway> {
    Gateway::start(McpConfig { store: StoreConfig::Memory, ..config.mcp.clone() }, &world.clock, &world.sources)
}

/// Begins the audit trail that the file asks for. An exit code where it cannot be written.
pub(super) fn audit(gateway: &Gateway, config: &Config) -> Result<(), u8> {
    let begun = gateway.audit().begin(config.telemetry.audit.as_ref());
    begun.map_err(|problem| fail(USAGE, &format!("{problem}\n\nnothing was started")))
}

/// Waits until the audit trail was written, but not for a disk that does not answer.
pub(super) async fn audit_is_written(gateway: &Gateway) {
    if tokio::time::timeout(LAST_LINES, gateway.audit().written()).await.is_err() {
        tracing::error!("the last lines of the audit trail were not written in time");
    }
}

/// Where the gateway listens, as a client on this machine reaches it.
pub(super) fn listens(config: &Config, bound: SocketAddr) -> Url {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{}", SocketAddr::new(ip, bound.port()))).expect("a socket address makes a URL")
}

/// The endpoint as clients reach it.
pub(super) fn endpoint(config: &Config, bound: SocketAddr) -> Url {
    let mut url = config.server.public_url.clone().unwrap_or_else(|| listens(config, bound));
    url.set_path(&config.mcp.path);
    url
}

/// What a client's block needs to know.
///
/// # Errors
/// In words: our own program or the file cannot be named absolutely.
pub(super) fn snippet_context(path: &Path, config: &Config, bound: Option<SocketAddr>) -> Result<SnippetContext, String> {
    let exe = std::env::current_exe().map_err(|error| format!("error: the program's own path is not known: {error}"))?;
    let absolute = std::path::absolute(path).map_err(|error| format!("error: {}: {error}", path.display()))?;
    let endpoint = endpoint(config, bound.unwrap_or(config.server.listen_address));
    Ok(SnippetContext { exe, config: absolute, endpoint, name: "nexus".into() })
}
