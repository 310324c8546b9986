//! Tokens that were verified, until they end or the keys that signed them go.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use crate::auth::Caller;

/// Locks, so that calls of different tokens seldom meet at one.
const SHARDS: usize = 64;
/// Tokens under one lock.
const MAX_IN_SHARD: usize = 1024;

/// SHA-256 of a token: no token is kept for finding it again.
pub(super) type TokenDigest = [u8; 32];

/// Who came with which token.
#[derive(Debug)]
pub(super) struct Verified(Box<[Mutex<HashMap<TokenDigest, Entry>>]>);

#[derive(Debug)]
struct Entry {
    caller: Caller,
    /// Since 1970.
    until: Duration,
    /// Of the key set that verified it.
    epoch: u64,
}

impl Verified {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    pub(super) fn digest(token: &str) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        bytes
    }

    /// The holder of a token that is still good under the keys of `epoch`.
    pub(super) fn find(&self, token: &TokenDigest, epoch: u64, now: Duration) -> Option<Caller> {
        let shard = self.shard(token).lock();
        shard.get(token).filter(|entry| entry.epoch == epoch && now < entry.until).map(|entry| entry.caller.clone())
    }

    /// Keeps a token. Where there is no room, one that is no good any more goes, or else any other.
    pub(super) fn keep(&self, token: TokenDigest, caller: Caller, until: Duration, epoch: u64, now: Duration) {
        let mut shard = self.shard(&token).lock();
        if shard.len() >= MAX_IN_SHARD && !shard.contains_key(&token) {
            shard.retain(|_, entry| entry.epoch == epoch && now < entry.until);
            if shard.len() >= MAX_IN_SHARD
                && let Some(any) = shard.keys().next().copied()
            {
                shard.remove(&any);
            }
        }
        shard.insert(token, Entry { caller, until, epoch });
    }

    fn shard(&self, token: &TokenDigest) -> &Mutex<HashMap<TokenDigest, Entry>> {
        let index = usize::from(token.first().copied().unwrap_or_default()) % SHARDS;
        self.0.get(index).expect("there are as many shards as the remainder is of")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_token_is_known_until_its_end_and_under_its_keys() {
        let verified = Verified::new();
        let token = Verified::digest("a.b.c");
        verified.keep(token, Caller::local(), NOW, 7, Duration::ZERO);
        assert!(verified.find(&token, 7, NOW - Duration::from_millis(1)).is_some());
        assert!(verified.find(&token, 7, NOW).is_none(), "it ended");
        assert!(verified.find(&token, 8, Duration::ZERO).is_none(), "a key went");
        assert!(verified.find(&Verified::digest("a.b.d"), 7, Duration::ZERO).is_none());
    }

    #[test]
    fn a_flood_of_tokens_takes_a_bounded_room() {
        let verified = Verified::new();
        let most = SHARDS * MAX_IN_SHARD;
        for number in 0..most + 10_000 {
            verified.keep(Verified::digest(&number.to_string()), Caller::local(), NOW, 0, Duration::ZERO);
        }
        assert!(verified.0.iter().map(|shard| shard.lock().len()).sum::<usize>() <= most);
        let last = Verified::digest(&(most + 9_999).to_string());
        assert!(verified.find(&last, 0, Duration::ZERO).is_some(), "the newest is kept");
    }
}
