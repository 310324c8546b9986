//! Which of several replicas sends an alert: the one that has claimed it in the Redis of `[state]`.
//!
//! A matter is a hash for each channel. Its fields are what is told of it: `firing:RANK`, `resolved`, `notice`. A field is
//! `by REPLICA UNTIL` while that one sends, in milliseconds of Redis's own clock, and `sent REPLICA` then. Without Redis
//! everybody sends: twice is better than never.

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{
    alert::{Alert, Stage, Topic},
    deliver::ATTEMPT,
};
use crate::{
    mcp::digest::digest_of_parts,
    redis::{Redis, RedisError, Reply, Script},
};

/// How long a claim keeps others away: longer than an attempt takes, and renewed by each. Who fails for so long that his pauses
/// are longer lets others try, whose way to the receiver may be open.
const CLAIM: Duration = ATTEMPT.saturating_add(Duration::from_secs(10));
/// How often it is looked what became of another's claim.
const LOOK: Duration = Duration::from_secs(1);
/// A certificate that was told of is the same for all its life, which the CA/Browser Forum's Baseline Requirements §6.3.2
/// keep below 398 days.
const LONG: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// What comes and goes, such as an upstream, is another matter when nobody has seen it hold for so long: all that knew of it
/// may have been restarted before it was over.
const SHORT: Duration = Duration::from_secs(60 * 60);
/// How often it is said that it holds.
const KEEPING: Duration = Duration::from_secs(15 * 60);
/// How often a Redis that does not answer is told of.
const COMPLAINTS: Duration = Duration::from_secs(60);

/// Field, replica, milliseconds of a claim. -1: it is ours now, 0: another has sent it, else for how long another has it.
/// What this replica itself has sent was over since, so that it is another one.
const TAKE: &str = concat!(
    "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000) ",
    "local word, who, till = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%a+) (%S+) ?(%d*)$') ",
    "if who and who ~= ARGV[2] then if word == 'sent' then return 0 end ",
    "local left = (tonumber(till) or 0) - now if left > 0 and left <= tonumber(ARGV[3]) then return left end end ",
    "redis.call('HSET', KEYS[1], ARGV[1], 'by ' .. ARGV[2] .. ' ' .. string.format('%.0f', now + ARGV[3])) ",
    "if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end return -1"
);

/// Field, replica, lifetime in milliseconds. With its end everything that was told is forgotten, and it may begin again.
const SENT: &str = concat!(
    "if ARGV[1] == 'resolved' then redis.call('DEL', KEYS[1]) else redis.call('HDEL', KEYS[1], 'resolved') end ",
    "redis.call('HSET', KEYS[1], ARGV[1], 'sent ' .. ARGV[2]) return redis.call('PEXPIRE', KEYS[1], ARGV[3])"
);

/// The Redis that replicas claim alerts in.
#[derive(Debug)]
pub(super) struct Claims {
    redis: Redis,
    /// Another after each start.
    replica: Bytes,
    take: Script,
    sent: Script,
    began: Instant,
    complained: Mutex<Option<Instant>>,
}

/// Whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ours,
    /// Nobody's any more: another replica has sent it.
    Sent,
    /// Another's; to be asked again after that.
    Later(Duration),
}

/// One channel's alerts among the replicas; without Redis all of them are ours.
#[derive(Debug)]
pub(super) struct Turns {
    claims: Option<Arc<Claims>>,
    /// Who is told, as all replicas call it.
    channel: String,
    /// The keys of what holds on and would be forgotten soon.
    open: Mutex<BTreeSet<Bytes>>,
}

impl Claims {
    pub(super) fn new(redis: Redis, replica: &str) -> Arc<Self> {
        Arc::new(Self {
            redis,
            replica: Bytes::copy_from_slice(replica.as_bytes()),
            take: Script::new(TAKE),
            sent: Script::new(SENT),
            began: Instant::now(),
            complained: Mutex::default(),
        })
    }

    async fn run(&self, script: &Script, key: Bytes, alert: &Alert, span: Duration) -> Result<Reply, RedisError> {
        // Right after the start the connection is on its way.
        let left = self.redis.config().connection_timeout.saturating_sub(self.began.elapsed());
        if !left.is_zero() {
            let _ = timeout(left, self.redis.is_connected().wait_for(|is| *is)).await;
        }
        let arguments = vec![field(alert), self.replica.clone(), span.as_millis().to_string().into()];
        self.redis.run(script, vec![key], arguments).await
    }

    fn complain(&self, error: &RedisError) {
        let mut complained = self.complained.lock();
        if complained.is_none_or(|last| last.elapsed() >= COMPLAINTS) {
            *complained = Some(Instant::now());
            tracing::warn!(%error, "alerts are sent without asking the other replicas, and may arrive more than once");
        }
    }
}

impl Turns {
    pub(super) fn new(claims: Option<Arc<Claims>>, channel: String) -> Self {
        Self { claims, channel, open: Mutex::default() }
    }

    /// Claims the alert for one attempt more. It is ours, too, when Redis does not say whose it is.
    pub(super) async fn take(&self, alert: &Alert) -> Turn {
        let Some(claims) = &self.claims else { return Turn::Ours };
        let error = match claims.run(&claims.take, self.key(claims, alert), alert, CLAIM).await {
            Ok(Reply::Number(-1)) => return Turn::Ours,
            Ok(Reply::Number(0)) => {
                self.note(claims, alert);
                return Turn::Sent;
            }
            Ok(Reply::Number(left @ 1..)) => return Turn::Later(LOOK.min(Duration::from_millis(left.unsigned_abs()))),
            // It is our own end that took the connections: the others go on, and so do we after a restart.
            Err(_) if claims.redis.is_shut_down() => return Turn::Later(LOOK),
            Ok(_) => RedisError::Nonsense,
            Err(error) => error,
        };
        claims.complain(&error);
        Turn::Ours
    }

    /// Says that we have sent it.
    pub(super) async fn sent(&self, alert: &Alert) {
        let Some(claims) = &self.claims else { return };
        if let Err(error) = claims.run(&claims.sent, self.key(claims, alert), alert, lifetime(alert)).await {
            claims.complain(&error);
        }
        self.note(claims, alert);
    }

    /// Says now and then of what holds on that it does. Never ends.
    pub(super) async fn keep(&self) {
        let Some(claims) = &self.claims else { return pending().await };
        loop {
            sleep(KEEPING).await;
            let open = self.open.lock().clone();
            for key in open {
                if let Err(error) = claims.redis.expire(key, SHORT).await {
                    // Nothing is lost yet.
                    tracing::debug!(%error, "an alert could not be kept in Redis");
                }
            }
        }
    }

    fn note(&self, claims: &Claims, alert: &Alert) {
        let key = self.key(claims, alert);
        match alert.stage {
            Stage::Firing if lifetime(alert) == SHORT => drop(self.open.lock().insert(key)),
            Stage::Resolved => drop(self.open.lock().remove(&key)),
            Stage::Firing | Stage::Notice => {}
        }
    }

    fn key(&self, claims: &Claims, alert: &Alert) -> Bytes {
        let upstream = alert.upstream.as_deref().unwrap_or_default();
        // Replicas notice at their own time, which is in the key of a notice.
        let matter = if alert.stage == Stage::Notice { [upstream, &alert.summary] } else { ["", &alert.key] };
        let digest = digest_of_parts([&self.channel, alert.topic.word(), matter[0], matter[1]].map(str::as_bytes));
        claims.redis.key(&digest.iter().fold("alert:".to_owned(), |key, byte| format!("{key}{byte:02x}")))
    }
}

fn field(alert: &Alert) -> Bytes {
    match alert.stage {
        Stage::Firing => format!("firing:{}", alert.rank).into(),
        Stage::Resolved | Stage::Notice => Bytes::from_static(alert.stage.word().as_bytes()),
    }
}

fn lifetime(alert: &Alert) -> Duration {
    if alert.topic == Topic::Expiry { LONG } else { SHORT }
}
