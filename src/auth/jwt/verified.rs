//! Tokens that were verified, until they end or the keys that signed them go.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use crate::auth::Caller;

/// Locks, so that calls of different tokens seldom meet at one.
const SHARDS: usize = 64;
/// Tokens under one lock.
const MAX_IN_SHARD: usize = 1024;
/// Bytes that are known of them: tokens that are kept for upstreams, and groups.
const MAX_BYTES_IN_SHARD: usize = 2 << 20;

/// SHA-256 of a token: no token is kept for finding it again.
pub(super) type TokenDigest = [u8; 32];

/// Who came with which token.
#[derive(Debug)]
pub(super) struct Verified(Box<[Mutex<Shard>]>);

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<TokenDigest, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    caller: Caller,
    /// Since 1970.
    until: Duration,
    /// Of the key set that verified it.
    epoch: u64,
    bytes: usize,
}

impl Shard {
    fn take(&mut self, token: &TokenDigest) {
        if let Some(gone) = self.entries.remove(token) {
            self.bytes -= gone.bytes;
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.entries.len() < MAX_IN_SHARD && self.bytes + bytes <= MAX_BYTES_IN_SHARD
    }

    fn drop_unless(&mut self, is_good: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entry| is_good(entry));
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }
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
        shard.entries.get(token).filter(|entry| entry.epoch == epoch && now < entry.until).map(|entry| entry.caller.clone())
    }

    /// Keeps a token. Where there is no room, one that is no good any more goes, or else any other.
    pub(super) fn keep(&self, token: TokenDigest, caller: Caller, until: Duration, epoch: u64, now: Duration) {
        let bytes = size(&caller);
        let mut shard = self.shard(&token).lock();
        shard.take(&token);
        if !shard.has_room_for(bytes) {
            shard.drop_unless(|entry| entry.epoch == epoch && now < entry.until);
        }
        while !shard.has_room_for(bytes)
            && let Some(any) = shard.entries.keys().next().copied()
        {
            shard.take(&any);
        }
        shard.bytes += bytes;
        shard.entries.insert(token, Entry { caller, until, epoch, bytes });
    }

    fn shard(&self, token: &TokenDigest) -> &Mutex<Shard> {
        let index = usize::from(token.first().copied().unwrap_or_default()) % SHARDS;
        self.0.get(index).expect("there are as many shards as the remainder is of")
    }
}

/// What is kept of a caller, about.
fn size(caller: &Caller) -> usize {
    let groups: usize = caller.groups().iter().map(|group| group.len() + size_of::<Box<str>>()).sum();
    let client = caller.client().map_or(0, str::len);
    groups + client + caller.bearer().map_or(0, |bearer| bearer.expose().len())
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
        assert!(verified.0.iter().map(|shard| shard.lock().entries.len()).sum::<usize>() <= most);
        let last = Verified::digest(&(most + 9_999).to_string());
        assert!(verified.find(&last, 0, Duration::ZERO).is_some(), "the newest is kept");
    }

    #[test]
    fn large_tokens_take_no_more_room_than_small_ones() {
        let verified = Verified::new();
        for number in 0..20_000 {
            let caller = Caller::local().with_proven_bearer(&"x".repeat(24 << 10));
            verified.keep(Verified::digest(&number.to_string()), caller, NOW, 0, Duration::ZERO);
        }
        for shard in &verified.0 {
            let shard = shard.lock();
            assert!(shard.bytes <= MAX_BYTES_IN_SHARD && shard.bytes == shard.entries.values().map(|entry| entry.bytes).sum::<usize>());
        }
    }
}
