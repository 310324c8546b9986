//! Keeps the connections: opens them, follows the files that they were made from, and tells when they are lost.

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fred::{
    clients::{Client, Pool},
    error::Error,
    interfaces::{ClientLike as _, EventInterface as _},
    types::config::{
        ClusterDiscoveryPolicy, Config, ConnectionConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig, TlsConfig, TlsConnector,
        UnresponsiveConfig,
    },
};
use futures_util::future::select_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    RedisConfig, Surroundings,
    client::{Live, Shared},
    explain::explain,
    url::Kind,
};
use crate::{
    outbound::system_cas,
    reason::{Explanation, Reason},
    sources::{Files, Fingerprint, Noted},
    tls::TlsPolicy,
};

/// Longest wait for the TLS files.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before files that cannot be used are read again, and before connections are opened that nobody opens any more.
const RETRY: Duration = Duration::from_secs(5);
/// How often the connections are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a connection that stays away is told of.
const TELL: Duration = Duration::from_secs(60);
/// Between two attempts to connect: from the first to the longest.
const ATTEMPTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// After so long without a connection, everything is made anew: the Sentinels that were found are asked alone otherwise, although
/// they may be gone, and those of the URL be there.
const STALE: Duration = Duration::from_secs(10);
/// How often connections to a copy are made anew, which may lead to the primary then.
const COPY: Duration = Duration::from_secs(5);
/// A connection on which nothing comes back for so long is closed, whatever waits on it.
const DEAD: Duration = Duration::from_secs(10);
/// Most commands that wait for one connection.
const QUEUE: usize = 4096;

/// Ends when it is told to, with the connections.
pub(super) async fn keep(shared: Arc<Shared>, around: Surroundings, end: CancellationToken) {
    tokio::select! {
        () = run(&shared, &around) => {}
        () = end.cancelled() => {}
    }
    shared.is_connected.send_replace(false);
    if let Some(live) = shared.live.swap(None) {
        live.end().await;
    }
}

/// Never ends.
async fn run(shared: &Shared, around: &Surroundings) {
    let files = Files::new(Arc::clone(&around.sources), &around.watcher);
    let mut told = None;
    loop {
        let serving = async { serve(shared, around, &files, load(shared, around, &files).await?, &mut told).await };
        if let Err(why) = serving.await {
            tell(shared, why, &mut told);
            tokio::select! {
                () = files.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
    }
}

/// Why there was none, and when that was told last, since there was a connection.
type Told = Option<(Instant, String)>;

/// The same again not as often as it is tried.
fn tell(shared: &Shared, why: Explanation, told: &mut Told) {
    let redis = &shared.config.url;
    if shared.tells && told.as_ref().is_none_or(|(at, detail)| at.elapsed() >= TELL || *detail != why.detail) {
        *told = Some((Instant::now(), why.detail.clone()));
        tracing::warn!(%redis, reason = why.reason.code(), detail = why.detail, fix = why.remedy, "Redis is not reachable");
    }
    shared.trouble.send_replace(Some(why));
}

/// Reads the TLS files, beside the runtime.
async fn load(shared: &Shared, around: &Surroundings, files: &Files) -> Result<Option<TlsPolicy>, Explanation> {
    let Some(settings) = shared.config.tls.clone() else { return Ok(None) };
    let host = shared.config.url.host().to_owned();
    let (sources, clock) = (Arc::clone(&around.sources), Arc::clone(&around.clock));
    let reading = tokio::task::spawn_blocking(move || {
        let noted = Noted::new(&*sources);
        let outcome = settings.load(&host, &noted, &system_cas, clock.now());
        (outcome, noted.fingerprint())
    });
    let (outcome, read): (_, Fingerprint) = match timeout(PATIENCE, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => return Err(Explanation::new(Reason::LocalInvalid, "reading the TLS files broke off", "report this as a bug")),
        Err(_) => {
            let detail = format!("the TLS files for {} were not read within {PATIENCE:?}", shared.config.url);
            return Err(Explanation::new(Reason::LocalUnreadable, detail, "look at the file system that they are on"));
        }
    };
    match outcome {
        Ok(policy) => {
            files.all_were(read);
            for warning in policy.warnings() {
                tracing::warn!(redis = %shared.config.url, "{warning}");
            }
            Ok(Some(policy))
        }
        Err(why) => {
            files.some_were(read);
            Err(why)
        }
    }
}

/// Opens connections, lets them take the place of others, and stays with them until they have to be made anew.
async fn serve(
    shared: &Shared,
    around: &Surroundings,
    files: &Files,
    policy: Option<TlsPolicy>,
    told: &mut Told,
) -> Result<(), Explanation> {
    let config = &shared.config;
    let fred = fred_config(config, policy.as_ref())?;
    let (connection, policy_of_attempts) = (connection_config(config), attempts());
    let client = || Client::new(fred.clone(), None, Some(connection.clone()), Some(policy_of_attempts.clone()));
    let pool = Pool::from_clients((0..config.connections.max(1)).map(|_| client()).collect()).map_err(|error| unusable(config, &error))?;
    let mut errors = pool.clients().first().map(EventErrors::of);
    let handles = pool.connect_pool();
    let tasks = handles.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    let waiting = client();
    let next = Arc::new(Live::new(pool, waiting, tasks));
    let in_time = timeout(config.connection_timeout, next.pool.wait_for_connect()).await;
    let is_good = matches!(in_time, Ok(Ok(())));
    if !is_good && shared.live.load().as_ref().is_some_and(|live| is_connected(live)) {
        // What works stays: these files may be half of a change.
        let said = errors.as_mut().and_then(EventErrors::last);
        next.end().await;
        return Err(explain(config, policy.as_ref(), said.as_deref()).await);
    }
    if let Some(before) = shared.live.swap(Some(Arc::clone(&next))) {
        // Commands that were sent there get their answers.
        sleep(config.response_timeout).await;
        before.end().await;
    }
    let lapse = lapse(policy.as_ref(), around);
    tokio::select! {
        () = look(shared, &next, policy.as_ref(), errors, told) => {}
        // The client does not try again what it takes for a fault of ours.
        (ended, ..) = select_all(handles) => {
            let said = ended.ok().and_then(Result::err).map(|error| error.details().to_owned());
            return Err(explain(config, policy.as_ref(), said.as_deref()).await);
        }
        () = files.changed() => tracing::info!(redis = %config.url, "the TLS files for Redis have changed"),
        () = lapse => {}
    }
    Ok(())
}

/// Waits until expired certificates are not excused any more: open connections end then, too.
async fn lapse(policy: Option<&TlsPolicy>, around: &Surroundings) {
    match policy.and_then(TlsPolicy::excused_until) {
        Some(until) => sleep(until.saturating_sub(around.clock.now())).await,
        None => pending().await,
    }
}

/// Tells of connections that are lost and found. Ends when they have to be made anew.
async fn look(shared: &Shared, live: &Live, policy: Option<&TlsPolicy>, mut errors: Option<EventErrors>, told: &mut Told) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was, mut away, mut anew) = (None, None, None::<Instant>);
    loop {
        tick.tick().await;
        let is = is_connected(live);
        if is && was != Some(true) {
            if shared.tells {
                tracing::info!(redis = %shared.config.url, "connected to Redis");
            }
            shared.trouble.send_replace(None);
            (*told, away) = (None, None);
        }
        shared.is_connected.send_if_modified(|known| std::mem::replace(known, is) != is);
        if !is && told.as_ref().is_none_or(|(at, _)| at.elapsed() >= TELL) {
            let said = errors.as_mut().and_then(EventErrors::last);
            tell(shared, explain(&shared.config, policy, said.as_deref()).await, told);
        }
        if !is && away.get_or_insert_with(Instant::now).elapsed() >= STALE {
            return;
        }
        if is && anew.is_none_or(|anew| anew.elapsed() >= COPY) && shared.is_copy.swap(false, Ordering::Relaxed) {
            tracing::warn!(redis = %shared.config.url, "this Redis takes no writes, as a copy does (READONLY); connecting anew");
            anew = Some(Instant::now());
            live.connect_anew(shared.config.connection_timeout).await;
        }
        was = Some(is);
    }
}

fn is_connected(live: &Live) -> bool {
    live.pool.clients().iter().any(Client::is_connected)
}

/// What a client says of its connection.
struct EventErrors {
    stream: tokio::sync::broadcast::Receiver<(Error, Option<Server>)>,
    last: Option<String>,
}

impl EventErrors {
    fn of(client: &Client) -> Self {
        Self { stream: client.error_rx(), last: None }
    }

    fn last(&mut self) -> Option<String> {
        use tokio::sync::broadcast::error::TryRecvError;
        loop {
            match self.stream.try_recv() {
                Ok((error, _)) => self.last = Some(error.details().to_owned()),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return self.last.clone(),
            }
        }
    }
}

fn fred_config(config: &RedisConfig, policy: Option<&TlsPolicy>) -> Result<Config, Explanation> {
    let url = &config.url;
    let name = policy.map(|policy| policy.name().to_str().into_owned());
    let server =
        |(host, port): &(String, u16)| Server { host: host.as_str().into(), port: *port, tls_server_name: name.as_deref().map(Into::into) };
    let hosts: Vec<_> = url.nodes.iter().map(server).collect();
    let server = match (&url.kind, hosts) {
        (Kind::Cluster, hosts) => ServerConfig::Clustered { hosts, policy: ClusterDiscoveryPolicy::UseCache },
        (Kind::Sentinel(service_name), hosts) => ServerConfig::Sentinel {
            hosts,
            service_name: service_name.clone(),
            username: url.sentinel_user.clone(),
            password: url.sentinel_password.as_ref().map(|password| password.expose().to_owned()),
        },
        (Kind::Single, hosts) => match hosts.into_iter().next() {
            Some(server) => ServerConfig::Centralized { server },
            None => return Err(Explanation::new(Reason::LocalInvalid, "no node is named", "name one in the URL")),
        },
    };
    let tls = match policy {
        Some(policy) => {
            let (mut client, _) = policy.client_config()?;
            // Redis names no application protocol.
            client.alpn_protocols.clear();
            Some(TlsConfig::from(TlsConnector::from(client)))
        }
        None => None,
    };
    Ok(Config {
        // The first connection is tried as often as all others.
        fail_fast: false,
        username: url.user.clone(),
        password: url.password.as_ref().map(|password| password.expose().to_owned()),
        server,
        database: url.database,
        tls,
        ..Config::default()
    })
}

fn connection_config(config: &RedisConfig) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: config.connection_timeout,
        internal_command_timeout: config.connection_timeout,
        // What was sent may have run, and would be charged twice.
        max_command_attempts: 1,
        // The library follows a cluster's word by attempts of the same count, and only one of its two words. So it learns where
        // the nodes are now, and whoever asked asks again.
        max_redirections: 0,
        max_command_buffer_len: QUEUE,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig { max_timeout: Some(DEAD.max(config.response_timeout * 2)), interval: LOOK },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

fn attempts() -> ReconnectPolicy {
    let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
    ReconnectPolicy::new_exponential(0, millis(ATTEMPTS.0), millis(ATTEMPTS.1), 2)
}

fn unusable(config: &RedisConfig, error: &Error) -> Explanation {
    Explanation::new(Reason::LocalInvalid, format!("{}: {}", config.url, error.details()), "correct the URL")
}
