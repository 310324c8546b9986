//! `nexus stdio`: the same gateway for a client that launched us. Binds no port and holds no lock.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{FAILURE, World, fail, start};
use crate::downstream::{serve_stdio, serve_stdio_refusal};

/// Time for child processes to end after the client is gone.
const LAST_STEPS: Duration = Duration::from_secs(5);

pub(super) async fn run(world: &World) -> u8 {
    let (_, config) = match start::load(world) {
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
    let gateway = start::gateway(world, &config);
    let served = serve_stdio(Arc::clone(&gateway), tokio::io::stdin(), tokio::io::stdout(), max_line).await;
    gateway.begin_drain();
    let _ = timeout(LAST_STEPS, gateway.shut_down()).await;
    match served {
        Ok(()) => 0,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => fail(FAILURE, &format!("error: {error}")),
    }
}
