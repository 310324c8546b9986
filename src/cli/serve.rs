//! `nexus serve`: build, announce, serve, drain.

use std::{future::pending, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout, timeout_at},
};

use super::{
    FAILURE, USAGE, World,
    announce::Announcer,
    fail,
    operators::Operators,
    reload::{ADMIN_TLS, FileConfiguration, SERVER_TLS, at_signal},
    start, watch,
};
use crate::{
    admin::{self, Parts},
    config::Config,
    downstream::{BindError, Bound, ListenerTls, Renewal, RenewalParts, Server, Stop},
    gateway::{Gateway, Reloader},
    meter::Reloads,
};

/// Time for sessions and child processes to end, after the clients' requests have.
const LAST_STEPS: Duration = Duration::from_secs(5);

pub(super) async fn run(world: &World) -> u8 {
    let (path, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => return refused.code,
    };
    serve(world, &path, config, |_| ()).await
}

/// Serves until a signal. `ready` is told the address once the listener is bound.
pub(super) async fn serve(world: &World, path: &Path, config: Config, ready: impl FnOnce(SocketAddr)) -> u8 {
    // Before anything is started, so that no signal is missed.
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILURE, &format!("error: signals cannot be awaited: {error}")),
    };
    let bound = match Bound::bind(&config.server, &*world.sources, world.clock.now()).await {
        Ok(bound) => bound,
        Err(BindError::Tls(problem)) => return fail(USAGE, &format!("{problem}\n\n{}: nothing was started", path.display())),
        Err(error) => return fail(FAILURE, &format!("error: {error}\n  fix: stop what uses the address, or set server.listen_address")),
    };
    let operators = match Operators::bind(world, &config).await {
        Ok(operators) => operators,
        Err(BindError::Tls(problem)) => return fail(USAGE, &format!("{problem}\n\n{}: nothing was started", path.display())),
        Err(error) => return fail(FAILURE, &format!("error: {error}\n  fix: stop what uses the address, or set admin.listen_address")),
    };
    let announcer = Announcer::new(world.global.log_style);
    let address = bound.address();
    let gateway = start::gateway(world, &config);
    if let Err(code) = start::audit(&gateway, &config) {
        return code;
    }
    announce(announcer, path, &config, &bound, &gateway);
    for warning in operators.tls().map(|tls| tls.warnings()).unwrap_or_default() {
        announcer.warn(&warning);
    }
    let renewals = renewals(world, &gateway, &bound, &operators);
    let listeners = [("server", bound.tls()), ("admin", operators.tls())];
    let listeners = listeners.into_iter().filter_map(|(name, tls)| Some(watch::own(name, tls?))).collect();
    if let Some(url) = operators.url() {
        announcer.say(&format!("admin on {url}"));
    }
    let shared = watch::Shared::new(&gateway);
    let file = Arc::new(FileConfiguration::new(world, path.to_owned(), &config, renewals.clone(), gateway.audit()));
    let (certificates, live) = (file.certificates(), file.server());
    let reloader = Reloader::new(Arc::clone(&gateway), file, Arc::clone(&world.clock), Arc::clone(&world.sources));
    let reloader = Arc::new(reloader);
    let attended = operators.attend(
        &config,
        &live,
        Parts {
            gateway: Arc::clone(&gateway),
            events: shared.events.clone(),
            board: shared.board.clone(),
            prober: shared.prober.clone(),
            clock: Arc::clone(&world.clock),
            reload: Some(Arc::clone(&reloader) as Arc<dyn admin::Reload>),
            reloads: reloads(&reloader, &renewals),
        },
    );
    let watch = watch::start(world, &config, &gateway, &shared, watch::address(&config, address, live.clone()), listeners, certificates);
    ready(address);

    let stop = Stop::default();
    let server = Server::new(bound, live.clone(), Arc::clone(&gateway)).run(stop.clone());
    let mut serving = tokio::spawn(server);
    tokio::select! {
        () = announcer.follow(&gateway) => {}
        () = admin::record(Arc::clone(&gateway), shared.events.clone()) => {}
        () = reloader.watch() => {}
        () = follow(renewals) => {}
        () = signals.first(&announcer, &reloader) => {}
    }
    drain(announcer, live.now().shutdown_grace, &gateway, &stop, &mut serving).await;
    attended.end().await;
    start::audit_is_written(&gateway).await;
    // Last, because it tells what the rest did, and writes what was told.
    watch.end().await;
    announcer.say("stopped");
    0
}

/// Whatever renews the certificates of our listeners.
fn renewals(world: &World, gateway: &Gateway, bound: &Bound, operators: &Operators) -> Vec<Arc<Renewal>> {
    let parts = RenewalParts {
        sources: Arc::clone(&world.sources),
        watcher: gateway.watcher().clone(),
        clock: Arc::clone(&world.clock),
        events: gateway.events().clone(),
    };
    let listeners = [(SERVER_TLS, bound.tls()), (ADMIN_TLS, operators.tls())];
    let renewals = listeners.into_iter().filter_map(|(table, tls)| Some(Renewal::new(table, Arc::clone(tls?), parts.clone())));
    renewals.map(Arc::new).collect()
}

/// What is counted of reloads, beside those of upstreams.
fn reloads(reloader: &Reloader, renewals: &[Arc<Renewal>]) -> Vec<(&'static str, Arc<Reloads>)> {
    let own = renewals.iter().map(|renewal| (renewal.table(), Arc::clone(renewal.reloads())));
    std::iter::once(("nexus.toml", Arc::clone(reloader.reloads()))).chain(own).collect()
}

/// Never ends.
async fn follow(renewals: Vec<Arc<Renewal>>) {
    join_all(renewals.into_iter().map(Renewal::follow)).await;
    // There was none.
    pending::<()>().await;
}

fn announce(announcer: Announcer, path: &Path, config: &Config, bound: &Bound, gateway: &Gateway) {
    let address = bound.address();
    for warning in bound.tls().map(|tls| tls.warnings()).unwrap_or_default() {
        announcer.warn(&warning);
    }
    announcer.say(&format!("configuration {}", path.display()));
    if config.mcp.enabled {
        announcer.say(&format!("listening on {}", listening(address, &config.mcp.path, bound.tls())));
        if let Some(sse_path) = &config.mcp.sse_path {
            announcer.say(&format!("HTTP+SSE for clients of 2024-11-05 on {sse_path}"));
        }
    } else {
        announcer.say(&format!("listening on {} · MCP is off (mcp.enabled = false)", listening(address, "", bound.tls())));
    }
    if let Some(words) = config.server.auth.words() {
        announcer.say(&format!("callers need {words}"));
    }
    if let Some(health) = bound.health_address() {
        announcer.say(&format!("health on http://{health}{}", config.server.health.path));
    }
    match gateway.upstreams().len() {
        0 => announcer.say("no upstream is configured; add [mcp.servers.NAME], or run `nexus import` on a desktop client's file"),
        1 => announcer.say("bringing up 1 upstream"),
        n => announcer.say(&format!("bringing up {n} upstreams")),
    }
}

/// `http://127.0.0.1:8000/mcp`, or `https://0.0.0.0:8443/mcp · TLS 1.2 or newer, client certificates required (ca.pem)`.
pub(super) fn listening(address: SocketAddr, path: &str, tls: Option<&Arc<ListenerTls>>) -> String {
    match tls {
        None => format!("http://{address}{path}"),
        Some(tls) => format!("https://{address}{path} · {}", tls.current().words()),
    }
}

/// No new connections, an end for streams, time for open calls; then sessions and processes end.
async fn drain(announcer: Announcer, grace: Duration, gateway: &Gateway, stop: &Stop, serving: &mut tokio::task::JoinHandle<()>) {
    announcer.say(&format!("draining, at most {} s", grace.as_secs()));
    let deadline = Instant::now() + grace;
    gateway.begin_drain();
    stop.drain.cancel();
    let in_time = timeout_at(deadline, &mut *serving).await.is_ok();
    let last_steps = async {
        if !in_time {
            announcer.say("some requests did not end in time (server.shutdown_grace) and were cut off");
            stop.now.cancel();
            // The connections let go of what they hold before the gateway ends it.
            let _ = serving.await;
        }
        gateway.shut_down().await;
    };
    if timeout(LAST_STEPS, last_steps).await.is_err() {
        announcer.say("some upstream sessions or processes did not end in time");
    }
}

struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the end; a SIGHUP before it is a reload.
    async fn first(mut self, announcer: &Announcer, reloader: &Reloader) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    let reloaded = tokio::select! {
                        reloaded = at_signal(reloader) => reloaded,
                        // A file system that does not answer holds up the reload, not the end.
                        _ = self.terminate.recv() => return,
                        _ = self.interrupt.recv() => return,
                    };
                    match reloaded {
                        Ok(changes) => announcer.say(&changes.summary()),
                        Err(rejected) => announcer.say(&rejected.to_string()),
                    }
                }
            }
        }
    }
}
