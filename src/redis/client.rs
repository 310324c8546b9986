//! The handle by which commands are sent.

use std::{
    future::Future,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fred::{
    clients::{Client, Pool, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike as _, KeysInterface as _, ListInterface as _},
    types::{ClusterHash, CustomCommand, Expiration, Key, SetOptions, Value, config::Options},
};
use futures_util::future::join_all;
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{RedisConfig, RedisError, Reply, Script, explain::refused, keeper, patience::Patience};
use crate::{
    clock::Clock,
    reason::Explanation,
    sources::{Sources, Watcher},
};

/// Puts an element at the end of a list that vanishes by itself.
const PUSH: &str = "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Pauses before a key is looked for again that a cluster is moving.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long what is written for a trial stays.
const MOMENT: Duration = Duration::from_secs(1);
/// Longest wait for a connection to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the client needs of the rest.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub sources: Arc<dyn Sources>,
    pub watcher: Watcher,
}

/// A Redis or Valkey. Cheap to clone; its connections end with the last clone, or with [`Redis::shut_down`].
///
/// Every command is one round trip and takes at most `response_timeout`. None is repeated that may have run; what a node of a
/// cluster did not take, because it does not have the key any more, is sent again.
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    push: Arc<Script>,
    keeper: Arc<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    tasks: TaskTracker,
    end: CancellationToken,
    _end: DropGuard,
}

/// What the handle and its keeper both know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: RedisConfig,
    /// Absent until the TLS files were read for the first time.
    pub(super) live: ArcSwapOption<Live>,
    pub(super) is_connected: watch::Sender<bool>,
    /// Why there is no connection, while that is known.
    pub(super) trouble: watch::Sender<Option<Explanation>>,
    /// A server that takes no writes was asked for one: it is a copy, and the primary is elsewhere now.
    pub(super) is_copy: AtomicBool,
    /// Whether the log is told.
    pub(super) tells: bool,
    patience: Patience,
    options: Options,
}

/// One set of connections.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) pool: Pool,
    /// For commands that keep their connection waiting; connects with the first of them.
    waiting: Mutex<Waiting>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Waiting {
    client: Client,
    task: Option<AbortHandle>,
}

/// Its task would connect for ever, with what was configured when it began.
impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Live {
    pub(super) fn new(pool: Pool, waiting: Client, tasks: Vec<AbortHandle>) -> Self {
        Self { pool, waiting: Mutex::new(Waiting { client: waiting, task: None }), tasks }
    }

    /// Closes the connections and opens others, to wherever the name leads now.
    pub(super) async fn connect_anew(&self, longest: Duration) {
        let pooled = self.pool.clients().iter().map(|client| timeout(longest, client.force_reconnection()));
        // What cannot be opened now is tried again by itself.
        let _ = join_all(pooled).await;
        // Whoever waits on it waits at a copy.
        let Ok(waiting) = timeout(longest, self.waiting.lock()).await else { return };
        if waiting.task.is_some() {
            let _ = timeout(longest, waiting.client.force_reconnection()).await;
        }
    }

    /// Closes the connections.
    pub(super) async fn end(&self) {
        let _ = timeout(GOODBYE, self.pool.quit()).await;
        for task in &self.tasks {
            task.abort();
        }
        // Where somebody waits on it still, it ends with him.
        let Ok(waiting) = timeout(GOODBYE, self.waiting.lock()).await else { return };
        if let Some(task) = &waiting.task {
            let _ = timeout(GOODBYE, waiting.client.quit()).await;
            task.abort();
        }
    }
}

impl Redis {
    /// Connects in the background, and goes on doing so: also when there is nobody yet, and when the connection is lost.
    /// Follows the files of its TLS table. Needs a tokio runtime.
    pub fn start(config: RedisConfig, surroundings: Surroundings) -> Self {
        Self::begin(config, surroundings, true)
    }

    /// Connects once, and writes a key that vanishes at once: whether replicas could share it.
    ///
    /// # Errors
    /// Why not, in the words and codes that upstreams have, too.
    pub async fn try_out(config: RedisConfig, surroundings: Surroundings) -> Result<(), Explanation> {
        let redis = Self::begin(config, surroundings, false);
        let (mut is_connected, mut trouble) = (redis.is_connected(), redis.shared.trouble.subscribe());
        // Of nobody else, whatever else is there.
        let key = redis.key(&format!("check:{:016x}", RandomState::new().hash_one(MOMENT)));
        let outcome = tokio::select! {
            biased;
            Ok(_) = is_connected.wait_for(|is| *is) => redis.push(key, Bytes::from_static(b"1"), MOMENT).await.map_err(|error| refused(redis.config(), &error)),
            Ok(why) = trouble.wait_for(Option::is_some) => why.clone().map_or(Ok(()), Err),
        };
        redis.shut_down().await;
        outcome
    }

    fn begin(config: RedisConfig, surroundings: Surroundings, tells: bool) -> Self {
        let options = Options { timeout: Some(config.response_timeout), max_attempts: Some(1), fail_fast: true, ..Options::default() };
        let shared = Arc::new(Shared {
            config,
            live: ArcSwapOption::empty(),
            is_connected: watch::Sender::new(false),
            trouble: watch::Sender::new(None),
            is_copy: AtomicBool::new(false),
            tells,
            patience: Patience::new(),
            options,
        });
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(keeper::keep(Arc::clone(&shared), surroundings, end.clone()));
        tasks.close();
        let keeper = Keeper { tasks, end: end.clone(), _end: end.drop_guard() };
        Self { shared, push: Arc::new(Script::new(PUSH)), keeper: Arc::new(keeper) }
    }

    pub fn config(&self) -> &RedisConfig {
        &self.shared.config
    }

    /// What the key is called in the server.
    pub fn key(&self, name: &str) -> Bytes {
        Bytes::from([self.shared.config.key_prefix.as_str(), name].concat())
    }

    /// Whether there is a connection now; looked at every second.
    pub fn is_connected(&self) -> watch::Receiver<bool> {
        self.shared.is_connected.subscribe()
    }

    /// Closes all connections and waits for that.
    pub async fn shut_down(&self) {
        self.keeper.end.cancel();
        self.keeper.tasks.wait().await;
    }

    /// Whether it was shut down here.
    pub fn is_shut_down(&self) -> bool {
        self.keeper.end.is_cancelled()
    }

    /// # Errors
    /// As all commands: [`RedisError`].
    pub async fn get(&self, key: Bytes) -> Result<Option<Bytes>, RedisError> {
        self.ask(|client| {
            let key = key.clone();
            async move { client.get::<Option<Bytes>, _>(key).await }
        })
        .await
    }

    /// Sets a value that vanishes after `lifetime`.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn set(&self, key: Bytes, value: Bytes, lifetime: Duration) -> Result<(), RedisError> {
        let expiry = Some(Expiration::PX(millis(lifetime)));
        let set = |client: WithOptions<Client>| {
            let (key, value, expiry) = (key.clone(), value.clone(), expiry.clone());
            async move { client.set::<(), _, _>(key, value, expiry, None, false).await }
        };
        self.ask(set).await
    }

    /// Sets a value that vanishes after `lifetime`, unless there is one. Whether it was set.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn set_if_absent(&self, key: Bytes, value: Bytes, lifetime: Duration) -> Result<bool, RedisError> {
        let expiry = Some(Expiration::PX(millis(lifetime)));
        let set = |client: WithOptions<Client>| {
            let (key, value, expiry) = (key.clone(), value.clone(), expiry.clone());
            async move { client.set::<Option<String>, _, _>(key, value, expiry, Some(SetOptions::NX), false).await }
        };
        Ok(self.ask(set).await?.is_some())
    }

    /// Lets the value vanish after `lifetime` from now. Whether there is one.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn expire(&self, key: Bytes, lifetime: Duration) -> Result<bool, RedisError> {
        let lifetime = millis(lifetime);
        let expire = |client: WithOptions<Client>| {
            let key = key.clone();
            async move { client.pexpire::<i64, _>(key, lifetime, None).await }
        };
        Ok(self.ask(expire).await? == 1)
    }

    /// Whether there was one.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn delete(&self, key: Bytes) -> Result<bool, RedisError> {
        let delete = |client: WithOptions<Client>| {
            let key = Key::from(key.clone());
            async move { client.del::<i64, _>(key).await }
        };
        Ok(self.ask(delete).await? == 1)
    }

    /// Puts `element` at the end of a list that vanishes `lifetime` after its last one.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn push(&self, list: Bytes, element: Bytes, lifetime: Duration) -> Result<(), RedisError> {
        let lifetime = Bytes::from(millis(lifetime).to_string());
        self.run(&self.push, vec![list], vec![element, lifetime]).await.map(drop)
    }

    /// Takes the first element of the first of these lists that has one, and waits up to `longest` for it. The list, and
    /// the element.
    ///
    /// Uses a connection of its own, on which one of these waits at a time: others wait for their turn first. With a
    /// cluster, all lists must have one hash tag. Cancel-safe: no, an element may be lost; so give it the time it needs.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn pop_first(&self, lists: &[Bytes], longest: Duration) -> Result<Option<(Bytes, Bytes)>, RedisError> {
        let live = self.shared.live.load_full().ok_or(RedisError::NotConnected)?;
        let mut waiting = live.waiting.lock().await;
        if waiting.task.is_none() {
            waiting.task = Some(waiting.client.connect().abort_handle());
        }
        let config = &self.shared.config;
        timeout(config.connection_timeout, waiting.client.wait_for_connect()).await.map_err(|_| RedisError::NotConnected)??;
        let options = Options { timeout: None, ..self.shared.options.clone() };
        let lists: Vec<Key> = lists.iter().cloned().map(Key::from).collect();
        let client = waiting.client.with_options(&options);
        let popped = Box::pin(client.blpop::<(Bytes, Bytes), _>(lists, longest.as_secs_f64()));
        match timeout(longest + config.response_timeout, popped).await.map_err(|_| RedisError::TimedOut)? {
            Ok(popped) => Ok(Some(popped)),
            // This is what the client makes of the answer that there is none.
            Err(error) if *error.kind() == ErrorKind::Timeout => Ok(None),
            Err(error) => Err(self.noticed(error.into())),
        }
    }

    /// Runs a script in one piece. `keys` are all the keys that it uses; with a cluster they must have one hash tag.
    ///
    /// One round trip, and one more when the server does not know the script yet.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn run(&self, script: &Script, keys: Vec<Bytes>, arguments: Vec<Bytes>) -> Result<Reply, RedisError> {
        self.run_until(Instant::now() + self.shared.config.response_timeout, script, keys, arguments).await
    }

    /// The same with an end of its own, which counts where it is sooner.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn run_until(&self, until: Instant, script: &Script, keys: Vec<Bytes>, arguments: Vec<Bytes>) -> Result<Reply, RedisError> {
        // As commands of our own, because the client's for scripts know nothing of time-outs and of failing at once.
        let ask = |name: &'static str, script: Bytes| {
            // The slot itself: of the client's other ways to name it, a command of one's own knows none.
            let place = keys.first().map_or(ClusterHash::Random, |key| ClusterHash::from(&key[..]));
            let command = CustomCommand::new_static(name, place, false);
            let count = Bytes::from(keys.len().to_string());
            let all: Vec<Value> = [script, count].into_iter().chain(keys.iter().chain(&arguments).cloned()).map(Value::Bytes).collect();
            self.ask_until(until, move |client| {
                let (command, all) = (command.clone(), all.clone());
                async move { client.custom::<Value, Value>(command, all).await }
            })
        };
        match ask("EVALSHA", script.sha1.clone()).await {
            Err(error) if error.is_unknown_script() => Reply::of(ask("EVAL", Bytes::from_static(script.text.as_bytes())).await?),
            other => Reply::of(other?),
        }
    }

    /// The same error, by which a copy is recognised.
    fn noticed(&self, error: RedisError) -> RedisError {
        if error.is_of_a_copy() {
            self.shared.is_copy.store(true, Ordering::Relaxed);
        }
        error
    }

    async fn ask<T, F>(&self, command: impl Fn(WithOptions<Client>) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.ask_until(Instant::now() + self.shared.config.response_timeout, command).await
    }

    async fn ask_until<T, F>(&self, until: Instant, command: impl Fn(WithOptions<Client>) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.ask_once(until, &command).await {
                Err(RedisError::Moved) if Instant::now() + pause < until => sleep(pause).await,
                outcome => return outcome,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask_once<T, F>(&self, until: Instant, command: impl Fn(WithOptions<Client>) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let shared = &self.shared;
        let left = until.saturating_duration_since(Instant::now()).min(shared.config.response_timeout);
        if left.is_zero() {
            return Err(RedisError::TimedOut);
        }
        let options = Options { timeout: Some(left), ..shared.options.clone() };
        let live = shared.live.load_full().ok_or(RedisError::NotConnected)?;
        if !shared.patience.may_ask() {
            return Err(RedisError::TimedOut);
        }
        // The futures of commands take kilobytes, which would be kept in every caller's.
        let asked = Box::pin(command(live.pool.next_connected().with_options(&options)));
        let outcome = asked.await.map_err(|error| self.noticed(error.into()));
        match &outcome {
            Err(RedisError::TimedOut) => shared.patience.waited_in_vain(),
            Err(RedisError::NotConnected | RedisError::Busy) => {}
            Ok(_) | Err(RedisError::Refused(_) | RedisError::Nonsense | RedisError::Moved) => shared.patience.answered(),
        }
        outcome
    }
}

/// At least one, because 0 is refused by the server.
fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1)
}
