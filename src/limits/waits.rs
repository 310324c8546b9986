//! What Redis has refused just now, so that whoever comes again too soon costs no round trip.

use parking_lot::Mutex;

use super::{
    demand::{Demand, Demands, Refused},
    digest::{Digest, Seeds},
};

/// Parts that are locked by themselves.
const SHARDS: usize = 64;
/// Buckets that each remembers; together some 400 KB. One that comes later takes the place of one before, which is asked for
/// again then.
const PLACES: usize = 256;
/// A refusal is believed for so long, in microseconds; then Redis is asked again. Its clock may have been set, its memory been
/// emptied, and another gateway may have told it another quota.
const BELIEVED: u64 = 1_000_000;
/// The part of a wait by which two clocks may differ: more than the 500 ppm that NTP makes of it (RFC 5905 §11.3).
const DRIFT: u64 = 1000;

/// Buckets without a token, and until when. Times are microseconds of one clock.
#[derive(Debug)]
pub struct Waits {
    seeds: Seeds,
    shards: Box<[Mutex<Box<[Place]>>]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    of: Digest,
    believed: u64,
    until: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { seeds: Seeds::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Waits {
    /// Who asked at `asked` was told to wait so long. A question takes time, so that the wait began later, and none is believed
    /// too long.
    pub fn note(&self, demand: &Demand<'_>, asked: u64, wait: u64) {
        let of = self.digest(demand);
        let believed = wait.min(BELIEVED);
        let place = Place { of, believed: asked + believed - believed.div_ceil(DRIFT), until: asked.saturating_add(wait) };
        self.at(of, |found| *found = place);
    }

    /// The longest that one of these is known to have to be waited for.
    pub fn known(&self, demands: &Demands<'_>, now: u64) -> Option<Refused> {
        let mut refused = None;
        for (at, demand) in demands.iter().enumerate() {
            let Some(demand) = demand else { continue };
            let of = self.digest(demand);
            let mut found = Place::default();
            self.at(of, |place| found = *place);
            if found.of == of && now < found.believed {
                Refused::keep_longest(&mut refused, at, found.until.saturating_sub(now));
            }
        }
        refused
    }

    /// With another quota there may be a token sooner.
    fn digest(&self, demand: &Demand<'_>) -> Digest {
        self.seeds.digest(&(demand, demand.rule.quota))
    }

    fn at(&self, of: Digest, look: impl FnOnce(&mut Place)) {
        let place = of.place(SHARDS * PLACES);
        let Some(shard) = self.shards.get(place / PLACES) else { return };
        let mut places = shard.lock();
        if places.is_empty() {
            *places = vec![Place::default(); PLACES].into();
        }
        if let Some(place) = places.get_mut(place % PLACES) {
            look(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, num::NonZeroU32, time::Duration};

    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{Memory, Quota, Rule, Scope, Whose},
        *,
    };

    fn rule(limit: u32, millis: u64, burst: u32) -> Rule {
        let number = |number| NonZeroU32::new(number).unwrap();
        Rule {
            scope: Scope::Ip,
            name: "ip".into(),
            quota: Quota::new(number(limit), Duration::from_millis(millis), number(burst)).unwrap(),
        }
    }

    fn of(rule: &Rule, address: u32) -> [Option<Demand<'_>>; 1] {
        [Some(Demand { rule, whose: Whose::Address(IpAddr::from(address.to_be_bytes()).into()) })]
    }

    fn note(waits: &Waits, demands: [Option<Demand<'_>>; 1], asked: u64, wait: u64) {
        waits.note(&demands[0].unwrap(), asked, wait);
    }

    #[test]
    fn a_refusal_is_known_until_it_ends_and_believed_for_a_second() {
        let (waits, rule) = (Waits::default(), rule(1, 60_000, 1));
        assert_eq!(waits.known(&of(&rule, 1), 5), None);
        note(&waits, of(&rule, 1), 0, 500_000);
        assert_eq!(waits.known(&of(&rule, 1), 100_000), Some(Refused { at: 0, wait: 400_000 }));
        assert_eq!((waits.known(&of(&rule, 2), 100_000), waits.known(&of(&rule, 1), 500_000)), (None, None));
        note(&waits, of(&rule, 1), 0, 60_000_000);
        assert_eq!(waits.known(&of(&rule, 1), 900_000), Some(Refused { at: 0, wait: 59_100_000 }));
        assert_eq!(waits.known(&of(&rule, 1), 1_000_000), None, "Redis is asked again");
    }

    #[test]
    fn a_limit_that_a_reload_has_changed_is_asked_for_again() {
        let (waits, before, after) = (Waits::default(), rule(1, 60_000, 1), rule(100, 60_000, 1));
        note(&waits, of(&before, 1), 0, 60_000_000);
        assert_eq!(waits.known(&of(&after, 1), 1), None);
    }

    #[test]
    fn a_million_addresses_take_no_more_room_than_a_few() {
        let (waits, rule) = (Waits::default(), rule(1, 60_000, 1));
        for address in 0..1_000_000 {
            note(&waits, of(&rule, address), 0, 60_000_000);
        }
        let known = (0..1_000_000).filter(|address| waits.known(&of(&rule, *address), 1).is_some()).count();
        assert!((SHARDS * PLACES / 2..=SHARDS * PLACES).contains(&known), "{known}");
    }

    proptest! {
        /// The store's answer comes a while after it was asked, and its clock is a little faster.
        #[test]
        fn what_is_known_to_be_refused_the_store_refuses(
            limit in 1_u32..50,
            millis in 1_u64..20_000,
            burst in 1_u32..5,
            requests in vec((0_u64..400_000, 0_u64..3_000, 0_u32..3), 1..200),
        ) {
            let (store, waits, rule) = (Memory::new(), Waits::default(), rule(limit, millis, burst));
            let mut now = 0_u64;
            for (since, delay, address) in requests {
                now += since;
                let (demands, of_store) = (of(&rule, address), |now: u64| now + now / 2000);
                if waits.known(&demands, now).is_some() {
                    prop_assert!(store.peek(&demands, of_store(now)).is_err(), "{now}");
                    continue;
                }
                let asked = now;
                now += delay;
                if let Err(refused) = store.take(&demands, of_store(now)) {
                    note(&waits, demands, asked, refused.wait);
                }
            }
        }
    }
}
