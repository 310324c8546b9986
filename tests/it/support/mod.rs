//! The small language of the tests.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod fake;
pub(crate) mod https;
pub(crate) mod idp;
pub(crate) mod nexus;
pub(crate) mod offer;
pub(crate) mod old_client;
pub(crate) mod operator;
pub(crate) mod pki;
pub(crate) mod program;
pub(crate) mod redis;
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

/// Moves the clock, so slowly that sockets and threads keep up.
pub(crate) async fn pass(time: Duration) {
    let step = Duration::from_millis(20);
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        tokio::time::advance(step).await;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(1) {
            tokio::task::yield_now().await;
        }
    }
}

/// Moves the clock until it is so.
pub(crate) async fn in_time(what: &str, condition: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        pass(Duration::from_millis(20)).await;
    }
}

/// Moves the clock until `work` is done.
pub(crate) async fn while_time_passes<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = std::time::Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = pass(Duration::from_millis(20)) => assert!(began.elapsed() < PATIENCE, "{what} did not end"),
        }
    }
}

/// As a careful operator writes a key: nobody else can read it.
pub(crate) fn write(path: &std::path::Path, text: &str) {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the test's own folder can be written to");
}
