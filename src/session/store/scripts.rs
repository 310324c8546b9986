//! What is done in Redis in one piece. Each script has one key, so that each also runs in a cluster.
//!
//! A session is a hash: `r` its record, `l` its log level, `w:…` what it subscribed to, `u:NAME` its session with an
//! upstream, `k:NAME` who opens one right now, `at:REPLICA` when a replica last said that it holds it, `end` that it is over.
//! Without `r` there is no session, whatever else is written there.

use crate::redis::Script;

/// Milliseconds by the server's own clock.
macro_rules! with_now {
    ($($rest:literal),+) => {
        concat!("local time = redis.call('TIME') local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) ", $($rest),+)
    };
}

/// `now` and the marks of the replicas.
macro_rules! with_marks {
    ($($rest:literal),+) => {
        concat!(
            with_now!("local function marks() local all = redis.call('HGETALL', KEYS[1]) local found = {now} "),
            "for i = 1, #all, 2 do if string.sub(all[i], 1, 3) == 'at:' then found[#found + 1] = all[i] found[#found + 1] = all[i + 1] end end ",
            "return found end ",
            $($rest),+
        )
    };
}

/// Lifetime, replica, then fields and values, which take the place of none.
const WRITE: &str = with_now!(
    "if redis.call('HEXISTS', KEYS[1], 'end') == 1 then return 0 end ",
    "for i = 3, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end ",
    "redis.call('HSET', KEYS[1], 'at:' .. ARGV[2], now) redis.call('PEXPIRE', KEYS[1], ARGV[1]) return 1"
);

/// Lifetime, replica. Everything.
const LOAD: &str = with_now!(
    "local all = redis.call('HGETALL', KEYS[1]) ",
    "if redis.call('HEXISTS', KEYS[1], 'r') == 1 and redis.call('HEXISTS', KEYS[1], 'end') == 0 then ",
    "redis.call('HSET', KEYS[1], 'at:' .. ARGV[2], now) redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return all"
);

/// Lifetime, replica, how long a mark counts. 0: there is none, 1: done, 2: it is over. Takes out what dead replicas left.
const RENEW: &str = with_now!(
    "if redis.call('HEXISTS', KEYS[1], 'end') == 1 then return 2 end ",
    "if redis.call('HEXISTS', KEYS[1], 'r') == 0 then return 0 end ",
    "for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do if string.sub(field, 1, 3) == 'at:' and ",
    "now - (tonumber(redis.call('HGET', KEYS[1], field)) or 0) >= tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], field) end end ",
    "redis.call('HSET', KEYS[1], 'at:' .. ARGV[2], now) redis.call('PEXPIRE', KEYS[1], ARGV[1]) return 1"
);

/// Field, value; an empty value takes the field out. The marks; nothing where there is no session.
const PUT: &str = with_marks!(
    "if redis.call('HEXISTS', KEYS[1], 'r') == 0 then return {now} end ",
    "if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end return marks()"
);

const MARKS: &str = with_marks!("return marks()");

/// How long it is remembered that it is over. `now`, then everything that there was.
const END: &str = with_now!(
    "local all = redis.call('HGETALL', KEYS[1]) if #all == 0 then return {now} end ",
    "redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[1], 'end', '1') redis.call('PEXPIRE', KEYS[1], ARGV[1]) ",
    "table.insert(all, 1, now) return all"
);

/// Replica, how long a mark counts. 0: others hold it, or it was ended by others; else everything that there was.
const LEAVE: &str = with_now!(
    "local all = redis.call('HGETALL', KEYS[1]) ",
    "for i = 1, #all, 2 do local field = all[i] ",
    "if field == 'end' then return 0 end ",
    "if string.sub(field, 1, 3) == 'at:' and field ~= 'at:' .. ARGV[1] and now - (tonumber(all[i + 1]) or 0) < tonumber(ARGV[2]) then ",
    "redis.call('HDEL', KEYS[1], 'at:' .. ARGV[1]) return 0 end end ",
    "redis.call('DEL', KEYS[1]) return all"
);

/// Field of the upstream session, field of the claim, token, how long it holds, the tag of a value that is of no use.
/// A value: that is kept. 0: there is no session, 1: ours now, 2: another's.
const CLAIM: &str = with_now!(
    "if redis.call('HEXISTS', KEYS[1], 'r') == 0 then return 0 end ",
    "local held = redis.call('HGET', KEYS[1], ARGV[1]) ",
    "if held and (ARGV[5] == '' or string.sub(held, 1, #ARGV[5]) ~= ARGV[5]) then return held end ",
    "local claim = redis.call('HGET', KEYS[1], ARGV[2]) ",
    "if claim and (tonumber(string.sub(claim, #ARGV[3] + 1)) or 0) > tonumber(now) then return 2 end ",
    "redis.call('HSET', KEYS[1], ARGV[2], ARGV[3] .. string.format('%.0f', now + ARGV[4])) return 1"
);

/// Field of the upstream session, field of the claim, token, value. The marks; nothing where the claim is not ours any more.
const SETTLE: &str = with_marks!(
    "local claim = redis.call('HGET', KEYS[1], ARGV[2]) ",
    "if not claim or string.sub(claim, 1, #ARGV[3]) ~= ARGV[3] then return {} end ",
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) redis.call('HDEL', KEYS[1], ARGV[2]) return marks()"
);

/// Field of the claim, token.
const RELEASE: &str = "local claim = redis.call('HGET', KEYS[1], ARGV[1]) \
     if claim and string.sub(claim, 1, #ARGV[2]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1";

/// Field, the tag of the value that is meant.
const FORGET: &str = "local held = redis.call('HGET', KEYS[1], ARGV[1]) \
     if held and string.sub(held, 1, #ARGV[2]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1";

/// What is there already, or this.
const EPOCH: &str = "local known = redis.call('GET', KEYS[1]) \
     if not known then redis.call('SET', KEYS[1], ARGV[1]) known = ARGV[1] end return known";

/// A notice, how long the list lives after it, how many wait at most. 0: it is full.
const PUSH: &str = "if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end \
     redis.call('RPUSH', KEYS[1], ARGV[1]) redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1";

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) write: Script,
    pub(super) load: Script,
    pub(super) renew: Script,
    pub(super) put: Script,
    pub(super) marks: Script,
    pub(super) end: Script,
    pub(super) leave: Script,
    pub(super) claim: Script,
    pub(super) settle: Script,
    pub(super) release: Script,
    pub(super) forget: Script,
    pub(super) epoch: Script,
    pub(super) push: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            write: Script::new(WRITE),
            load: Script::new(LOAD),
            renew: Script::new(RENEW),
            put: Script::new(PUT),
            marks: Script::new(MARKS),
            end: Script::new(END),
            leave: Script::new(LEAVE),
            claim: Script::new(CLAIM),
            settle: Script::new(SETTLE),
            release: Script::new(RELEASE),
            forget: Script::new(FORGET),
            epoch: Script::new(EPOCH),
            push: Script::new(PUSH),
        }
    }
}
