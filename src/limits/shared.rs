//! Buckets in Redis, which all replicas share.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    demand::{Demands, Refused},
    quota::LONGEST_FILL,
    waits::Waits,
};
use crate::redis::{Redis, RedisError, Script};

/// What [`Quota::take`](super::Quota) does, for all buckets of a request in one piece.
///
/// `ARGV[1]` is the time in microseconds, or empty for the server's own; then period and fill of each key. Answers
/// `{0, 0}`, or the number of the key that must be waited for longest and for how long. A key is kept until its bucket is
/// full; with a time that is given, an hour longer, because the server's own time then says nothing about it.
const TAKE: &str = "
local now, linger = tonumber(ARGV[1]), 3600000
if not now then
  local time = redis.call('TIME')
  now, linger = tonumber(time[1]) * 1000000 + tonumber(time[2]), 0
end
local full, longest, wait = {}, 0, 0
for i = 1, #KEYS do
  local period, fill = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local before = tonumber(redis.call('GET', KEYS[i]) or now) or now
  full[i] = math.min(math.max(before, now), now + fill) + period
  local over = full[i] - now - fill
  if over > wait then longest, wait = i, over end
end
if wait > 0 then return {longest, wait} end
for i = 1, #KEYS do
  local kept = math.ceil((full[i] - now) / 1000) + linger
  redis.call('SET', KEYS[i], string.format('%.0f', full[i]), 'PX', string.format('%.0f', kept))
end
return {0, 0}
";

/// What keeps all keys in one slot of a cluster, since one script uses several of them.
const HASH_TAG: &str = "{limits}:";

/// The buckets of all gateways that have the same Redis and prefix.
#[derive(Debug)]
pub struct Shared {
    redis: Redis,
    script: Script,
    waits: Waits,
    began: Instant,
}

impl Shared {
    pub fn new(redis: Redis) -> Self {
        Self { redis, script: Script::new(TAKE), waits: Waits::default(), began: Instant::now() }
    }

    pub(super) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// How long a request may wait that has waited so long.
    pub fn patience_after(&self, waited: Duration) -> Duration {
        self.redis.config().response_timeout.saturating_sub(waited)
    }

    /// What is known without asking: that one of these was refused just now, and has to be waited for still.
    pub fn known(&self, demands: &Demands<'_>) -> Option<Refused> {
        self.waits.known(demands, self.now())
    }

    /// Takes a token of each bucket, or none of any, and asks nobody where [`Shared::known`] says enough. `now`: microseconds, instead of the server's own time. Waits no longer than
    /// `patience`, whatever has to be waited for.
    ///
    /// # Errors
    /// [`RedisError`]; whether tokens were taken is not known then.
    pub async fn take(&self, demands: &Demands<'_>, now: Option<u64>, patience: Duration) -> Result<Result<(), Refused>, RedisError> {
        let until = Instant::now() + patience;
        if now.is_none()
            && let Some(refused) = self.known(demands)
        {
            return Ok(Err(refused));
        }
        self.begun(patience).await;
        let asked_at = self.now();
        let mut keys = Vec::with_capacity(demands.len());
        let mut arguments = vec![now.map_or_else(Bytes::new, number)];
        for demand in demands.iter().flatten() {
            keys.push(self.redis.key(&[HASH_TAG, &demand.name()].concat()));
            let quota = demand.rule.quota;
            arguments.extend([number(quota.period_micros()), number(quota.fill_micros())]);
        }
        let answer = self.redis.run_until(until, &self.script, keys, arguments).await?.numbers()?;
        let [longest, wait] = *answer.as_slice() else { return Err(RedisError::Nonsense) };
        if longest == 0 {
            return Ok(Ok(()));
        }
        let (longest, wait) = (usize::try_from(longest), u64::try_from(wait));
        let (Ok(longest), Ok(wait @ 1..)) = (longest, wait) else { return Err(RedisError::Nonsense) };
        let mut asked = demands.iter().enumerate().filter(|(_, demand)| demand.is_some());
        let (at, refused) = asked.nth(longest - 1).ok_or(RedisError::Nonsense)?;
        let most = u64::try_from(LONGEST_FILL.as_micros()).unwrap_or(u64::MAX);
        let wait = wait.min(most);
        if let Some(refused) = refused.filter(|_| now.is_none()) {
            self.waits.note(&refused, asked_at, wait);
        }
        Ok(Err(Refused { at, wait }))
    }

    /// Microseconds of a clock that nobody sets.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }

    /// Right after the start the connection is on its way. It is waited for as long as for an answer, so that a replica that
    /// was restarted does not begin without limits.
    async fn begun(&self, patience: Duration) {
        let left = self.redis.config().response_timeout.saturating_sub(self.began.elapsed()).min(patience);
        if !left.is_zero() {
            let _ = timeout(left, self.redis.is_connected().wait_for(|is| *is)).await;
        }
    }
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}
