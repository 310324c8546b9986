//! Sessions of legacy clients in a Redis: any replica serves any of them.
//!
//! Redis is trusted to keep and to forget, and with nothing else: what is in it is sealed.

mod inbox;
mod notice;
mod pack;
mod place;
mod scripts;
mod seals;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

pub use self::{
    inbox::Others,
    notice::Notice,
    place::{Claim, Place, Placed},
    seals::UpstreamRecord,
};
use self::{
    scripts::Scripts,
    seals::{Seals, key_of, subscription_field, upstream_field},
};
use super::{Sealer, SessionId, SessionRecord, Surroundings};
use crate::{
    meter::Counter,
    redis::{Redis, RedisConfig, RedisError, Reply, Script},
    secret::Secret,
};

/// How long it is known that a session is over.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Fields of one session that are looked at.
const MAX_FIELDS: usize = 4096;
/// How often a store that gives no answer is told of.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// The store gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(RedisError);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StoreError {}

/// A session as it is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    pub record: SessionRecord,
    /// A raw JSON string.
    pub log_level: Option<Bytes>,
    /// Resources, each with the upstream that was asked.
    pub subscribed: Vec<(String, String)>,
    /// The upstreams that it has sessions with.
    pub upstreams: Vec<String>,
}

/// What a look for a session found.
#[derive(Debug)]
pub enum Found {
    Session(Box<Stored>),
    /// It was ended.
    Ended,
    Nothing,
}

/// What came of the word that a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    Done,
    /// The store has lost it.
    Lost,
    /// It was ended, here or at another replica.
    Ended,
}

/// What a replica holds of a session, to be written again.
#[derive(Debug, Default)]
pub struct Held {
    pub log_level: Option<Bytes>,
    pub subscribed: Vec<(String, String)>,
    /// By the upstream's name, with the identity of its server.
    pub upstreams: Vec<(String, [u8; 32], UpstreamRecord)>,
}

/// What belonged to a session that is over.
#[derive(Debug, Default)]
pub struct Left {
    pub others: Others,
    pub upstreams: Vec<(String, [u8; 32], UpstreamRecord)>,
}

/// The sessions that replicas share. Ends with [`Store::shut_down`].
pub struct Store {
    redis: Redis,
    sealer: Sealer,
    /// Of this process and no other: unguessable, and another after each start.
    replica: String,
    scripts: Scripts,
    errors: Counter,
    began: Instant,
    /// Milliseconds since then until which nothing is said of errors.
    quiet_until: AtomicU64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("redis", &self.redis.config().url).finish_non_exhaustive()
    }
}

impl Store {
    /// Connects in the background. Needs a tokio runtime.
    pub fn start(config: RedisConfig, secrets: &[Secret], surroundings: Surroundings) -> Arc<Self> {
        Arc::new(Self {
            redis: Redis::start(config, surroundings),
            sealer: Sealer::of_shared_sessions(secrets),
            replica: SessionId::random().to_string(),
            scripts: Scripts::new(),
            errors: Counter::new(),
            began: Instant::now(),
            quiet_until: AtomicU64::new(0),
        })
    }

    /// The name of this replica: 22 characters of base64url.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Where it is, for what else replicas share.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    pub fn is_connected(&self) -> watch::Receiver<bool> {
        self.redis.is_connected()
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        // Fails only when the store is shut down, and then nobody waits any more.
        let _ = self.redis.is_connected().wait_for(|is| *is).await;
    }

    /// How often it gave no answer.
    pub fn errors(&self) -> u64 {
        self.errors.read()
    }

    /// Closes the connections.
    pub async fn shut_down(&self) {
        self.redis.shut_down().await;
    }

    /// Keeps a session that lives for `idle` after its last use; one that is over stays so. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn write(&self, record: &SessionRecord, held: &Held, idle: Duration) -> Result<(), StoreError> {
        let seals = self.seals(record.id);
        let mut arguments = vec![lifetime(idle), self.me(), Bytes::from_static(b"r"), seals.record(record)];
        let mut put = |field: String, value: Bytes| arguments.extend([field.into(), value]);
        if let Some(level) = &held.log_level {
            put("l".to_owned(), seals.seal("l", level));
        }
        for (upstream, uri) in &held.subscribed {
            let (field, value) = seals.subscription(upstream, uri);
            put(field, value);
        }
        for (upstream, identity, record) in &held.upstreams {
            put(upstream_field(upstream), seals.upstream(upstream, identity, record));
        }
        self.run(&self.scripts.write, record.id, arguments).await.map(drop)
    }

    /// Looks for a session and says that this replica holds it. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn load(&self, session: SessionId, idle: Duration) -> Result<Found, StoreError> {
        let fields = fields(self.run(&self.scripts.load, session, vec![lifetime(idle), self.me()]).await?);
        Ok(self.read(session, &fields))
    }

    /// Lets a session live on. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn renew(&self, session: SessionId, idle: Duration) -> Result<Renewed, StoreError> {
        Ok(match self.run(&self.scripts.renew, session, vec![lifetime(idle), self.me(), mark_counts(idle)]).await? {
            Reply::Number(1) => Renewed::Done,
            Reply::Number(2) => Renewed::Ended,
            _ => Renewed::Lost,
        })
    }

    /// What is another after the store has lost everything. One small round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn epoch(&self) -> Result<Bytes, StoreError> {
        let key = self.redis.key("epoch");
        if let Some(known) = self.counted(self.redis.get(key.clone()).await)? {
            return Ok(known);
        }
        let fresh = Bytes::from(SessionId::random().to_string());
        match self.counted(self.redis.run(&self.scripts.epoch, vec![key], vec![fresh]).await)? {
            Reply::Bytes(known) => Ok(known),
            Reply::Nothing | Reply::Number(_) | Reply::List(_) => Err(StoreError(RedisError::Nonsense)),
        }
    }

    /// Keeps the log level, a raw JSON string. Who else holds the session. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_level(&self, session: SessionId, level: &[u8]) -> Result<Others, StoreError> {
        self.put(session, "l".to_owned(), self.seals(session).seal("l", level)).await
    }

    /// Keeps a subscription. Who else holds the session. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn subscribe(&self, session: SessionId, upstream: &str, uri: &str) -> Result<Others, StoreError> {
        let (field, value) = self.seals(session).subscription(upstream, uri);
        self.put(session, field, value).await
    }

    /// Forgets a subscription. Who else holds the session. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unsubscribe(&self, session: SessionId, upstream: &str, uri: &str) -> Result<Others, StoreError> {
        self.put(session, subscription_field(session, upstream, uri), Bytes::new()).await
    }

    async fn put(&self, session: SessionId, field: String, value: Bytes) -> Result<Others, StoreError> {
        Ok(self.others_in(self.run(&self.scripts.put, session, vec![field.into(), value]).await?))
    }

    /// Who else holds the session. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn others(&self, session: SessionId) -> Result<Others, StoreError> {
        Ok(self.others_in(self.run(&self.scripts.marks, session, Vec::new()).await?))
    }

    /// Ends a session for all replicas. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn end(&self, session: SessionId) -> Result<Left, StoreError> {
        let answer = self.run(&self.scripts.end, session, vec![number(REMEMBERED)]).await?;
        let Reply::List(mut entries) = answer else { return Ok(Left::default()) };
        let now = if entries.is_empty() { Reply::Nothing } else { entries.remove(0) };
        let fields = fields(Reply::List(entries));
        let marks = fields.iter().filter(|(field, _)| field.starts_with("at:"));
        let marks = marks.flat_map(|(field, value)| [Reply::Bytes(field.clone().into()), Reply::Bytes(value.clone())]);
        let others = self.others_in(Reply::List([now].into_iter().chain(marks).collect()));
        Ok(Left { others, upstreams: self.upstreams_in(session, &fields) })
    }

    /// Lets go of a session that was not used here for `idle`. `None`: others hold it, or it was ended; else it is over, and
    /// this is what belonged to it. One round trip.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn leave(&self, session: SessionId, idle: Duration) -> Result<Option<Left>, StoreError> {
        Ok(match self.run(&self.scripts.leave, session, vec![self.me(), mark_counts(idle)]).await? {
            entries @ Reply::List(_) => Some(Left { others: Others::default(), upstreams: self.upstreams_in(session, &fields(entries)) }),
            Reply::Nothing | Reply::Number(_) | Reply::Bytes(_) => None,
        })
    }

    fn read(&self, session: SessionId, fields: &[(String, Bytes)]) -> Found {
        let seals = self.seals(session);
        if fields.iter().any(|(field, _)| field == "end") {
            return Found::Ended;
        }
        let value = |wanted: &str| fields.iter().find(|(field, _)| field == wanted).map(|(_, value)| value);
        let Some(record) = value("r").and_then(|value| seals.open_record(value)) else { return Found::Nothing };
        let subscribed = fields.iter().filter(|(field, _)| field.starts_with("w:"));
        let upstreams = fields.iter().filter_map(|(field, _)| field.strip_prefix("u:"));
        Found::Session(Box::new(Stored {
            record,
            log_level: value("l").and_then(|value| seals.open("l", value)).map(Bytes::from),
            subscribed: subscribed.filter_map(|(field, value)| seals.open_subscription(field, value)).collect(),
            upstreams: upstreams.map(str::to_owned).collect(),
        }))
    }

    fn upstreams_in(&self, session: SessionId, fields: &[(String, Bytes)]) -> Vec<(String, [u8; 32], UpstreamRecord)> {
        let seals = self.seals(session);
        let upstreams = fields.iter().filter_map(|(field, value)| field.strip_prefix("u:").map(|name| (name, value)));
        let opened = upstreams.filter_map(|(name, value)| {
            let (identity, record) = seals.open_upstream(name, value)?;
            Some((name.to_owned(), identity, record))
        });
        opened.collect()
    }

    fn seals(&self, session: SessionId) -> Seals<'_> {
        Seals { sealer: &self.sealer, session }
    }

    fn me(&self) -> Bytes {
        Bytes::from(self.replica.clone())
    }

    async fn run(&self, script: &Script, session: SessionId, arguments: Vec<Bytes>) -> Result<Reply, StoreError> {
        self.begun().await;
        self.counted(self.redis.run(script, vec![self.redis.key(&key_of(session))], arguments).await)
    }

    /// Right after the start the connection is on its way; it is waited for as long as for an answer.
    async fn begun(&self) {
        let left = self.redis.config().response_timeout.saturating_sub(self.began.elapsed());
        if !left.is_zero() {
            let _ = timeout(left, self.redis.is_connected().wait_for(|is| *is)).await;
        }
    }

    fn counted<T>(&self, outcome: Result<T, RedisError>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            self.errors.add_one();
            let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let (now, until) = (millis(self.began.elapsed()), self.quiet_until.load(Ordering::Relaxed));
            let next = now.saturating_add(millis(COMPLAINTS));
            if now >= until && self.quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let why = "sessions that are not known here are answered with 503";
                tracing::warn!(%error, errors = self.errors.read(), "the store of sessions gives no answer: {why}");
            }
            StoreError(error)
        })
    }
}

/// How long a session stays in Redis: longer than replicas hold it, which end it then.
fn lives(idle: Duration) -> Duration {
    idle + (idle / 10).max(Duration::from_secs(1))
}

/// A replica that has not said for so long that it holds a session does not live any more.
fn mark_counts(idle: Duration) -> Bytes {
    number(lives(idle) + idle / 10)
}

fn lifetime(idle: Duration) -> Bytes {
    number(lives(idle))
}

/// Whole milliseconds, and at least one.
fn number(span: Duration) -> Bytes {
    Bytes::from(span.as_millis().max(1).to_string())
}

/// The fields of a hash, bounded; what is none is left out.
fn fields(answer: Reply) -> Vec<(String, Bytes)> {
    let Reply::List(entries) = answer else { return Vec::new() };
    let mut entries = entries.into_iter();
    let mut fields = Vec::new();
    while let (Some(Reply::Bytes(field)), Some(Reply::Bytes(value))) = (entries.next(), entries.next()) {
        if fields.len() >= MAX_FIELDS {
            tracing::warn!("a session in Redis has more fields than any of ours; the others are not looked at");
            break;
        }
        if let Ok(field) = String::from_utf8(field.to_vec()) {
            fields.push((field, value));
        }
    }
    fields
}
