//! Buckets in this process: bounded, and locked in parts.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    demand::{Demand, Demands, MOST, Refused, Whose},
    digest::{Digest, Seeds},
};

/// Parts that are locked by themselves.
const SHARDS: usize = 64;
/// Buckets of addresses and clients that are kept; together with what finds the fullest, 47 MB (docs/benchmarks.md).
const KEPT: usize = 1 << 19;
/// Full buckets, which are as good as unknown ones, that are looked for when one is added.
const LOOKS: usize = 4;

/// The buckets that are not full, by digest.
#[derive(Debug)]
pub struct Memory {
    seeds: Seeds,
    shards: Box<[Mutex<Shard>]>,
    /// Most evictable buckets in one shard.
    room: usize,
}

/// Of a key that is a digest already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

/// When each bucket will be full, in microseconds.
type Buckets = HashMap<Digest, u64, BuildHasherDefault<AsItIs>>;

#[derive(Debug, Default)]
struct Shard {
    /// Those that all share: as many as the configuration has, and never evicted.
    shared: Buckets,
    /// Those of addresses and clients.
    single: Buckets,
    /// Each of `single` once, with a time at which it cannot be full yet or is just full: later takings are not noted here but
    /// when it comes up.
    fullest: BinaryHeap<Reverse<(u64, Digest)>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    pub fn new() -> Self {
        Self::with_room(SHARDS, KEPT / SHARDS)
    }

    fn with_room(shards: usize, room: usize) -> Self {
        Self { seeds: Seeds::new(), shards: (0..shards).map(|_| Mutex::default()).collect(), room }
    }

    /// Takes a token of each bucket at `now`, in microseconds of a clock that only this store has; or none of any.
    ///
    /// # Errors
    /// [`Refused`] by the one that must be waited for longest.
    pub fn take(&self, demands: &Demands<'_>, now: u64) -> Result<(), Refused> {
        let (mut few, mut many) = ([None; MOST], Vec::new());
        let asked = few_or_many(&mut few, &mut many, demands.len(), || None);
        for (asked, demand) in asked.iter_mut().zip(demands) {
            *asked = demand.map(|demand| Asked { key: self.seeds.digest(&demand), demand, full_at: now });
        }
        let (mut few, mut many) = ([const { None }; MOST], Vec::new());
        let locked = few_or_many(&mut few, &mut many, demands.len(), || None);
        self.lock(asked, locked);
        let mut refused: Option<Refused> = None;
        for (at, asked) in asked.iter_mut().enumerate() {
            let Some(asked) = asked else { continue };
            let full_at = self.find(locked, asked.key).and_then(|shard| shard.full_at(asked.key, &asked.demand)).unwrap_or(now);
            match asked.demand.rule.quota.take(full_at, now) {
                Ok(full_at) => asked.full_at = full_at,
                Err(wait) => Refused::keep_longest(&mut refused, at, wait),
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for asked in asked.iter().flatten() {
            if let Some(shard) = self.find(locked, asked.key) {
                shard.put(asked.key, &asked.demand, asked.full_at, now, self.room);
            }
        }
        Ok(())
    }

    /// Whether [`Memory::take`] would say no at `now`; takes nothing.
    ///
    /// # Errors
    /// As [`Memory::take`].
    pub fn peek(&self, demands: &Demands<'_>, now: u64) -> Result<(), Refused> {
        let mut refused = None;
        for (at, demand) in demands.iter().enumerate() {
            let Some(demand) = demand else { continue };
            let key = self.seeds.digest(demand);
            let known = self.shards.get(self.shard(key)).and_then(|shard| shard.lock().full_at(key, demand));
            if let Some(Err(wait)) = known.map(|full_at| demand.rule.quota.take(full_at, now)) {
                Refused::keep_longest(&mut refused, at, wait);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Forgets the shared buckets of all but these.
    pub(super) fn keep_shared(&self, kept: &[Demand<'_>]) {
        let kept: HashSet<Digest> = kept.iter().map(|demand| self.seeds.digest(demand)).collect();
        for shard in &self.shards {
            shard.lock().shared.retain(|key, _| kept.contains(key));
        }
    }

    fn shard(&self, key: Digest) -> usize {
        key.place(self.shards.len())
    }

    /// Locks each shard that is needed once, always in one order, so that no two callers wait for each other.
    fn lock<'a>(&'a self, asked: &[Option<Asked<'_>>], locked: &mut [Option<Locked<'a>>]) {
        let mut before = None;
        for place in locked {
            let needed = asked.iter().flatten().map(|asked| self.shard(asked.key));
            let Some(next) = needed.filter(|shard| before.is_none_or(|before| *shard > before)).min() else { return };
            *place = self.shards.get(next).map(|shard| Locked { number: next, shard: shard.lock() });
            before = Some(next);
        }
    }

    fn find<'l>(&self, locked: &'l mut [Option<Locked<'_>>], key: Digest) -> Option<&'l mut Shard> {
        let number = self.shard(key);
        locked.iter_mut().flatten().find(|locked| locked.number == number).map(|locked| &mut *locked.shard)
    }
}

/// One demand, while its bucket is locked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    key: Digest,
    demand: Demand<'a>,
    /// What becomes of the bucket if none refuses.
    full_at: u64,
}

struct Locked<'a> {
    number: usize,
    shard: MutexGuard<'a, Shard>,
}

/// Places for `count` things: the few of nearly every request, or as many as are needed.
fn few_or_many<'a, T>(few: &'a mut [T; MOST], many: &'a mut Vec<T>, count: usize, empty: fn() -> T) -> &'a mut [T] {
    match few.get_mut(..count) {
        Some(few) => few,
        None => {
            many.resize_with(count, empty);
            many
        }
    }
}

impl Shard {
    fn full_at(&self, key: Digest, demand: &Demand<'_>) -> Option<u64> {
        match demand.whose {
            Whose::Everyone => self.shared.get(&key).copied(),
            Whose::Address(_) | Whose::Caller(_) => self.single.get(&key).copied(),
        }
    }

    fn put(&mut self, key: Digest, demand: &Demand<'_>, full_at: u64, now: u64, room: usize) {
        if matches!(demand.whose, Whose::Everyone) {
            self.shared.insert(key, full_at);
            return;
        }
        if let Some(known) = self.single.get_mut(&key) {
            *known = full_at;
            return;
        }
        self.make_room(now, room);
        self.single.insert(key, full_at);
        self.fullest.push(Reverse((full_at, key)));
    }

    /// Drops a few buckets that are full; and when there is no room, the one that is nearest to it, which gives its owner the
    /// least.
    fn make_room(&mut self, now: u64, room: usize) {
        let mut looks = LOOKS;
        while let Some(Reverse((noted, key))) = self.fullest.peek().copied() {
            let is_crowded = self.single.len() >= room;
            if !is_crowded && (noted > now || looks == 0) {
                break;
            }
            looks = looks.saturating_sub(1);
            self.fullest.pop();
            match self.single.get(&key) {
                Some(full_at) if *full_at > noted => self.fullest.push(Reverse((*full_at, key))),
                Some(_) | None => drop(self.single.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU32, time::Duration};

    use super::{
        super::{Quota, Rule, Scope},
        *,
    };

    const SECOND: u64 = 1_000_000;

    fn rule(name: &str, limit: u32, seconds: u64) -> Rule {
        let limit = NonZeroU32::new(limit).unwrap();
        Rule { scope: Scope::Ip, name: name.into(), quota: Quota::new(limit, Duration::from_secs(seconds), limit).unwrap() }
    }

    fn of(rule: &Rule, address: u32) -> Demand<'_> {
        Demand { rule, whose: Whose::Address(IpAddr::from(address.to_be_bytes()).into()) }
    }

    fn of_all(rule: &Rule) -> Demand<'_> {
        Demand { rule, whose: Whose::Everyone }
    }

    fn kept(memory: &Memory) -> usize {
        let shards = memory.shards.iter().map(|shard| shard.lock());
        shards.map(|shard| shard.single.len().max(shard.fullest.len())).sum()
    }

    #[test]
    fn all_buckets_give_a_token_or_none_does() {
        let memory = Memory::new();
        let (wide, narrow) = (rule("wide", 10, 100), rule("narrow", 1, 1));
        let both = [Some(of_all(&wide)), Some(of(&narrow, 1)), None];
        assert_eq!(memory.take(&both, 0), Ok(()));
        for _ in 0..100 {
            assert_eq!(memory.take(&both, 0), Err(Refused { at: 1, wait: SECOND }));
        }
        // Nine are left of ten, whatever was refused.
        for _ in 0..9 {
            assert_eq!(memory.take(&[Some(of_all(&wide)), None, None], 0), Ok(()));
        }
        // The longest wait is told: then both have a token.
        assert_eq!(memory.take(&both, 0), Err(Refused { at: 0, wait: 10 * SECOND }));
        assert_eq!(memory.take(&both, 10 * SECOND), Ok(()));
    }

    #[test]
    fn buckets_in_one_shard_are_locked_once() {
        let memory = Memory::with_room(1, 8);
        let (a, b, c) = (rule("a", 1, 1), rule("b", 1, 1), rule("c", 1, 1));
        let all = [Some(of_all(&a)), Some(of(&b, 1)), Some(of(&c, 1))];
        assert_eq!(memory.take(&all, 0), Ok(()));
        assert_eq!(memory.take(&[None, None, Some(of(&c, 1))], 0), Err(Refused { at: 2, wait: SECOND }));
    }

    #[test]
    fn a_full_map_evicts_the_bucket_nearest_to_full() {
        let memory = Memory::with_room(1, 4);
        let rule = rule("ip", 10, 10);
        // Address n has taken n tokens.
        for (address, count) in [(1, 1), (2, 2), (3, 3), (4, 10)] {
            for _ in 0..count {
                memory.take(&[Some(of(&rule, address)), None, None], 0).unwrap();
            }
        }
        for stranger in 100..103 {
            memory.take(&[Some(of(&rule, stranger)), None, None], 0).unwrap();
            // Uses its tokens, so that it is not nearest to full itself.
            for _ in 0..8 {
                memory.take(&[Some(of(&rule, stranger)), None, None], 0).unwrap();
            }
            assert_eq!(kept(&memory), 4);
        }
        // Three have gone, and the one that was empty is still empty.
        assert_eq!(memory.take(&[Some(of(&rule, 4)), None, None], 0), Err(Refused { at: 0, wait: SECOND }));
        assert_eq!((0..10).filter(|_| memory.take(&[Some(of(&rule, 3)), None, None], 0).is_ok()).count(), 10);
    }

    /// Each takes one of its ten tokens, and one of those of all.
    fn a_million(memory: &Memory, global: &Rule, ip: &Rule) {
        for address in 0..1_000_000 {
            memory.take(&[Some(of_all(global)), Some(of(ip, address))], 0).unwrap();
        }
    }

    #[test]
    fn a_million_addresses_take_bounded_memory_and_what_all_share_is_not_evicted() {
        let memory = Memory::new();
        let (global, ip) = (rule("global", 1_000_003, 1_000_003), rule("ip", 10, 10));
        a_million(&memory, &global, &ip);
        assert_eq!(kept(&memory), KEPT, "every shard is full, and none beyond that");
        let left = (0..10).filter(|_| memory.take(&[Some(of_all(&global))], 0).is_ok()).count();
        assert_eq!(left, 3);
    }

    /// Prints bytes; `cargo test --lib -- --ignored what_a_full_map_takes --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn what_a_full_map_takes() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
        };
        let (memory, before) = (Memory::new(), resident());
        a_million(&memory, &rule("global", 1_000_003, 1_000_003), &rule("ip", 10, 10));
        let taken = resident() - before;
        #[allow(clippy::print_stdout, reason = "a measurement is for reading")]
        {
            println!("{} buckets: {taken} bytes, {} each", kept(&memory), taken / kept(&memory));
        }
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let memory = Memory::with_room(1, 100);
        let rule = rule("ip", 1, 1);
        for address in 0..100 {
            memory.take(&[Some(of(&rule, address)), None, None], 0).unwrap();
        }
        for address in 100..200 {
            memory.take(&[Some(of(&rule, address)), None, None], u64::from(address) * SECOND).unwrap();
        }
        assert!(kept(&memory) < 10, "{}", kept(&memory));
    }

    #[test]
    fn what_a_reload_removes_is_forgotten_and_what_it_keeps_is_not() {
        let memory = Memory::new();
        let (kept, gone) = (rule("kept", 1, 1), rule("gone", 1, 1));
        memory.take(&[Some(of_all(&kept)), Some(of_all(&gone)), None], 0).unwrap();
        memory.keep_shared(&[of_all(&kept)]);
        assert!(memory.take(&[Some(of_all(&kept)), None, None], 0).is_err());
        assert!(memory.take(&[Some(of_all(&gone)), None, None], 0).is_ok());
    }

    #[test]
    fn callers_at_once_get_exactly_what_there_is() {
        let memory = Memory::new();
        let (one, other) = (rule("one", 1000, 1000), rule("other", 1500, 1000));
        let (memory, one, other) = (&memory, &one, &other);
        let take = move |first: &Rule, second: &Rule| {
            let demands = [Some(of_all(first)), Some(of_all(second)), None];
            (0..2000).filter(|_| memory.take(&demands, 0).is_ok()).count()
        };
        // In both orders, so that a wrong order of locks would stop here for ever.
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|n| scope.spawn(move || if n % 2 == 0 { take(one, other) } else { take(other, one) })).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
        let left = (0..1000).filter(|_| memory.take(&[Some(of_all(other)), None, None], 0).is_ok()).count();
        assert_eq!(left, 500);
    }
}
