//! `nexus stdio`: the same gateway for a client that launched us. Binds no port and holds no lock.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::{
    FAILURE, USAGE, World, fail,
    reload::{FileConfiguration, at_signal, stdout_is_taken},
    start,
};
use crate::{
    audit::{Sink, Target},
    downstream::{serve_stdio, serve_stdio_refusal},
    gateway::Reloader,
};

/// Time for child processes to end after the client is gone.
const LAST_STEPS: Duration = Duration::from_secs(5);

pub(super) async fn run(world: &World) -> u8 {
    // Before anything is started: a signal that comes early must not end the process.
    let hang_ups = match signal(SignalKind::hangup()) {
        Ok(hang_ups) => hang_ups,
        Err(error) => return fail(FAILURE, &format!("error: signals cannot be awaited: {error}")),
    };
    let (path, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => {
            // The client shows its user the first reply, and hardly ever our stderr.
            let words =
                format!("the gateway's configuration was refused; run `nexus check` to see every problem; the first: {}", refused.first);
            let _ = serve_stdio_refusal(tokio::io::stdin(), tokio::io::stdout(), &words).await;
            return refused.code;
        }
    };
    let max_line = config.server.max_body_size;
    let refused = match config.telemetry.audit.as_ref().map(|audit| &audit.target) {
        Some(Target::Stdout) => Some(Box::new(stdout_is_taken())),
        Some(target) => Sink::look(target).err(),
        None => None,
    };
    if let Some(problem) = refused {
        let words = format!("the gateway's configuration was refused: {}: {}", problem.key, problem.what);
        let code = fail(USAGE, &problem.to_string());
        let _ = serve_stdio_refusal(tokio::io::stdin(), tokio::io::stdout(), &words).await;
        return code;
    }
    let gateway = start::gateway_alone(world, &config);
    if let Err(code) = start::audit(&gateway, &config) {
        return code;
    }
    let file = Arc::new(FileConfiguration::new(world, path, &config, Vec::new(), gateway.audit()).over_stdio());
    let reloader = Reloader::new(Arc::clone(&gateway), file, Arc::clone(&world.clock), Arc::clone(&world.sources));
    let served = tokio::select! {
        served = serve_stdio(Arc::clone(&gateway), tokio::io::stdin(), tokio::io::stdout(), max_line) => served,
        () = reloader.watch() => Ok(()),
        () = reload_at(hang_ups, &reloader) => Ok(()),
    };
    gateway.begin_drain();
    let _ = timeout(LAST_STEPS, gateway.shut_down()).await;
    start::audit_is_written(&gateway).await;
    match served {
        Ok(()) => 0,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => fail(FAILURE, &format!("error: {error}")),
    }
}

/// Reads the file again at each signal, as `nexus serve` does. Never ends; what came of it is logged.
async fn reload_at(mut hang_ups: Signal, reloader: &Reloader) {
    while hang_ups.recv().await.is_some() {
        let _ = at_signal(reloader).await;
    }
    std::future::pending::<()>().await;
}
