//! `nexus serve`: build, announce, serve, drain.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, timeout, timeout_at},
};

use super::{FAILURE, World, announce::Announcer, fail, operators::Operators, reload::FileConfiguration, start, watch};
use crate::{
    admin::{self, Parts},
    config::Config,
    downstream::{Bound, Server, Stop},
    gateway::{Gateway, Reloader},
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
    let bound = match Bound::bind(&config.server).await {
        Ok(bound) => bound,
        Err(error) => return fail(FAILURE, &format!("error: {error}\n  fix: stop what uses the address, or set server.listen_address")),
    };
    let operators = match Operators::bind(&config).await {
        Ok(operators) => operators,
        Err(error) => return fail(FAILURE, &format!("error: {error}\n  fix: stop what uses the address, or set admin.listen_address")),
    };
    let announcer = Announcer::new(world.global.log_style);
    let address = bound.address();
    let health = bound.health_address();
    let gateway = start::gateway(world, &config);
    announce(announcer, path, &config, address, health, &gateway);
    let shared = watch::Shared::new(&gateway);
    let watch = watch::start(world, &config, &gateway, &shared, address, Vec::new());
    if let Some(address) = operators.address() {
        announcer.say(&format!("admin on http://{address}"));
    }
    let watch::Shared { events, board, prober } = shared;
    let parts = Parts { gateway: Arc::clone(&gateway), events: events.clone(), board, prober, clock: Arc::clone(&world.clock) };
    let file = Arc::new(FileConfiguration::new(world, path.to_owned(), &config));
    let reloader = Reloader::new(Arc::clone(&gateway), file, Arc::clone(&world.clock), Arc::clone(&world.sources));
    let attended = operators.attend(&config, parts);
    ready(address);

    let stop = Stop::default();
    let server = Server::new(bound, config.server.clone(), Arc::clone(&gateway)).run(stop.clone());
    let mut serving = tokio::spawn(server);
    tokio::select! {
        () = announcer.follow(&gateway) => {}
        () = admin::record(Arc::clone(&gateway), events) => {}
        () = reloader.watch() => {}
        () = signals.first(&announcer, &reloader) => {}
    }
    drain(announcer, &config, &gateway, &stop, &mut serving).await;
    attended.end().await;
    // Last, because it tells what the rest did, and writes what was told.
    watch.end().await;
    announcer.say("stopped");
    0
}

fn announce(announcer: Announcer, path: &Path, config: &Config, address: SocketAddr, health: Option<SocketAddr>, gateway: &Gateway) {
    announcer.say(&format!("configuration {}", path.display()));
    if config.mcp.enabled {
        announcer.say(&format!("listening on http://{address}{}", config.mcp.path));
    } else {
        announcer.say(&format!("listening on http://{address} · MCP is off (mcp.enabled = false)"));
    }
    if let Some(health) = health {
        announcer.say(&format!("health on http://{health}{}", config.server.health.path));
    }
    match gateway.upstreams().len() {
        0 => announcer.say("no upstream is configured; add [mcp.servers.NAME], or run `nexus import` on a desktop client's file"),
        1 => announcer.say("bringing up 1 upstream"),
        n => announcer.say(&format!("bringing up {n} upstreams")),
    }
}

/// No new connections, an end for streams, time for open calls; then sessions and processes end.
async fn drain(announcer: Announcer, config: &Config, gateway: &Gateway, stop: &Stop, serving: &mut tokio::task::JoinHandle<()>) {
    announcer.say(&format!("draining, at most {} s", config.server.shutdown_grace.as_secs()));
    let deadline = Instant::now() + config.server.shutdown_grace;
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
                _ = self.hang_up.recv() => match reloader.reload().await {
                    Ok(_) => announcer.say("the configuration was reloaded"),
                    Err(rejected) => announcer.say(&rejected.to_string()),
                },
            }
        }
    }
}
