//! The small language of the tests.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod fake;
pub(crate) mod https;
pub(crate) mod nexus;
pub(crate) mod offer;
pub(crate) mod operator;
pub(crate) mod pki;
pub(crate) mod program;
pub(crate) mod tls_peer;
pub(crate) mod wire;

use std::time::Duration;

/// Longest wait for anything that is bound to happen; no test waits for it in vain but one that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, poll).await;
}

/// Waits for what is bound to happen.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Time that stands still until the test moves it with `tokio::time::advance`.
///
/// Paused time alone runs ahead whenever the runtime waits for a socket; it does not while a blocking task is at work.
pub(crate) struct StillTime {
    _ends: std::sync::mpsc::Sender<()>,
}

impl StillTime {
    /// Needs a runtime of one thread.
    pub(crate) fn begin() -> Self {
        let (ends, ended) = std::sync::mpsc::channel::<()>();
        tokio::time::pause();
        // Ends with the test, whatever its outcome. The limit is for one that hangs: time that ran ahead of a test which is merely
        // slow would make it fail.
        tokio::task::spawn_blocking(move || ended.recv_timeout(20 * PATIENCE));
        Self { _ends: ends }
    }
}
