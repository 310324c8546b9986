//! A real `redis-server`, on a port that the system gave, in a folder of its own.

#![allow(clippy::unwrap_used, reason = "a server that does not start has failed its test")]

use std::{net::TcpListener, path::Path, process::Stdio, sync::Arc, time::Duration};

use nexus::{
    clock::SystemClock,
    reason::Explanation,
    redis::{Redis, RedisConfig, RedisUrl, Surroundings},
    sources::{SystemSources, Watcher},
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{pki::Chain, soon, write};

/// Ports are given to others, too, between asking for one and using it.
const TRIES: usize = 5;

/// The lines that a server printed.
type Log = Arc<Mutex<Vec<String>>>;

/// A server that ends with the test.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    tls: bool,
    arguments: Vec<String>,
    log: Log,
    _folder: TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| Vec::new()).await
    }

    /// With TLS alone, and a client certificate of `clients` where that is given.
    pub(crate) async fn start_tls(chain: &Chain, clients: Option<&str>) -> Self {
        let prepare = |folder: &Path| {
            let path = |name: &str| folder.join(name).display().to_string();
            write(&folder.join("cert.pem"), &chain.pem());
            write(&folder.join("key.pem"), &chain.key_pem());
            write(&folder.join("ca.pem"), clients.unwrap_or(&chain.pem()));
            let demand = if clients.is_some() { "yes" } else { "no" };
            let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
            ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca, "--tls-auth-clients", demand]
                .map(str::to_owned)
                .to_vec()
        };
        Self::start_with(prepare).await
    }

    /// With further arguments, and whatever files they name in the server's folder.
    pub(crate) async fn start_with(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let further = prepare(folder.path());
        let tls = further.iter().any(|argument| argument == "--tls-cert-file");
        for _ in 0..TRIES {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let ports = if tls { ["0".to_owned(), port.to_string()] } else { [port.to_string(), "0".to_owned()] };
            let [plain, secure] = ports;
            let folder_of_server = folder.path().display().to_string();
            let mut arguments: Vec<String> = [
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                &folder_of_server,
                "--port",
                &plain,
                "--tls-port",
                &secure,
            ]
            .map(str::to_owned)
            .to_vec();
            arguments.extend(further.iter().cloned());
            let log = Log::default();
            if let Some(child) = spawn(&arguments, &log).await {
                return Self { child, port, tls, arguments, log, _folder: folder };
            }
        }
        panic!("redis-server did not start; scripts/test installs it");
    }

    /// Another process on the same port: everything in the first is forgotten.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.child = soon("a restart of redis-server", async {
            loop {
                if let Some(child) = spawn(&self.arguments, &self.log).await {
                    return child;
                }
            }
        })
        .await;
    }

    /// As a crash ends it.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// It keeps its connections, and answers nothing until [`Self::wake`].
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn wake(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://localhost:{}", self.port)
    }

    pub(crate) fn config(&self) -> RedisConfig {
        config(&self.url())
    }

    /// A client that is connected.
    pub(crate) async fn client(&self) -> Redis {
        connected(self.config()).await
    }

    /// How many connections were given up in the handshake.
    pub(crate) fn failed_handshakes(&self) -> usize {
        self.log.lock().iter().filter(|line| line.contains("Error accepting a client connection")).count()
    }

    /// What `redis-cli` prints.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// As the file's defaults are, but less patient.
pub(crate) fn config(url: &str) -> RedisConfig {
    let url = RedisUrl::parse(url).unwrap();
    let tls = url.uses_tls().then(Default::default);
    RedisConfig {
        url,
        key_prefix: "test:".to_owned(),
        response_timeout: Duration::from_secs(1),
        connection_timeout: Duration::from_secs(2),
        connections: 2,
        tls,
    }
}

/// A client that may not be connected yet.
pub(crate) fn start(config: RedisConfig) -> Redis {
    Redis::start(config, surroundings())
}

/// As `nexus check --connect` does.
pub(crate) async fn try_out(config: RedisConfig) -> Result<(), Explanation> {
    soon("the end of a trial", Redis::try_out(config, surroundings())).await
}

fn surroundings() -> Surroundings {
    Surroundings { clock: Arc::new(SystemClock), sources: Arc::new(SystemSources), watcher: Watcher::default() }
}

pub(crate) async fn connected(config: RedisConfig) -> Redis {
    let redis = start(config);
    soon("a connection to redis-server", redis.is_connected().wait_for(|is| *is)).await.unwrap();
    redis
}

/// `None` when the port was taken.
async fn spawn(arguments: &[String], log: &Log) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("redis-server is installed; scripts/test does that");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("Ready to accept connections") {
                let log = Arc::clone(log);
                tokio::spawn(async move {
                    while let Ok(Some(line)) = lines.next_line().await {
                        log.lock().push(line);
                    }
                });
                return true;
            }
        }
        false
    };
    soon("the start of redis-server", ready).await.then_some(child)
}
