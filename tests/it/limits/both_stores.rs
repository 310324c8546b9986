//! Memory and Redis decide the same on the same clock.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use nexus::limits::{Demand, Memory, Network, Quota, Rule, Scope, Shared, Whose};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

use super::LONG;
use crate::support::redis::RedisServer;

/// Some day in 2026, so that the numbers are as long as real ones.
const BEGIN: u64 = 1_795_000_000_123_456;

fn rule(name: &str, limit: u32, interval: Duration, burst: u32) -> Rule {
    let number = |number| NonZeroU32::new(number).unwrap();
    Rule { scope: Scope::Global, name: name.into(), quota: Quota::new(number(limit), interval, number(burst)).unwrap() }
}

fn of(rule: &Rule, address: u8) -> Demand<'_> {
    match address {
        0 => Demand { rule, whose: Whose::Everyone },
        address => Demand { rule, whose: Whose::Address(Network::from(IpAddr::from([192, 0, 2, address]))) },
    }
}

/// One limit: how many, in how many milliseconds, how many at once.
type Said = (u32, u64, u32);

fn quota() -> impl Strategy<Value = Said> {
    (1_u32..50, prop_oneof![1_u64..50, 1_000_u64..100_000], 1_u32..12)
}

/// Limits that there are: more than one call asks for, as what becomes several calls does.
const LIMITS: usize = 6;

/// A request: microseconds since the one before, and of each limit nothing or somebody's token.
fn request() -> impl Strategy<Value = (u64, [Option<u8>; LIMITS])> {
    let since = prop_oneof![Just(0), 0_u64..2_000, 0_u64..3_000_000, 0_u64..200_000_000];
    (since, prop::array::uniform6(prop::option::of(0_u8..3)))
}

#[test]
fn memory_and_redis_decide_the_same() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let shared = Shared::new(runtime.block_on(server.client()));
    let case = AtomicU64::new(0);
    // A reload in the middle changes the quotas, and buckets go on.
    let cases = (prop::array::uniform6((quota(), quota())), vec(request(), 1..60), any::<prop::sample::Index>());
    let outcome = TestRunner::new(ProptestConfig { cases: 96, ..ProptestConfig::default() }).run(&cases, |(quotas, requests, reload)| {
        let case = case.fetch_add(1, Ordering::Relaxed);
        let rules = |of: fn(&(Said, Said)) -> Said| {
            let mut at = 0;
            quotas.map(|both| {
                at += 1;
                let (limit, millis, burst) = of(&both);
                rule(&format!("case {case}:limit {at}"), limit, Duration::from_millis(millis), burst)
            })
        };
        let (before, after) = (rules(|both| both.0), rules(|both| both.1));
        let (memory, reload, mut now) = (Memory::new(), reload.index(requests.len()), BEGIN);
        for (at, (since, whose)) in requests.iter().enumerate() {
            now += since;
            let rules = if at < reload { &before } else { &after };
            let asked = rules.iter().zip(whose);
            let demands: Vec<_> = asked.map(|(rule, whose)| whose.map(|address| of(rule, address))).collect();
            // Nobody is refused at the door who would be admitted to it, nor the other way round.
            let seen = memory.peek(&demands[..2], now);
            let in_redis = runtime.block_on(shared.take(&demands, Some(now), LONG)).unwrap();
            prop_assert!(seen.is_ok() || in_redis.is_err(), "request {} at {}", at, now);
            prop_assert_eq!(memory.peek(&demands, now), in_redis, "request {} at {}", at, now);
            prop_assert_eq!(memory.take(&demands, now), in_redis, "request {} at {}", at, now);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// A minute on a clock of its own: the formula, to within one.
#[test]
fn both_admit_what_the_formula_says_at_any_interval() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let shared = Shared::new(runtime.block_on(server.client()));
    for (limit, interval, burst) in [(10, 60, 10), (1, 1, 1), (100, 1, 20), (7, 11, 3), (1, 59, 2), (1000, 3600, 1)] {
        let rule = rule(&format!("{limit} per {interval}"), limit, Duration::from_secs(interval), burst);
        let (memory, mut counts) = (Memory::new(), [0_u64; 2]);
        // Who comes back when it is told to.
        let mut now = 0;
        while now <= 60_000_000 {
            let demands = [Some(of(&rule, 0)), None, None];
            let taken = [memory.take(&demands, now), runtime.block_on(shared.take(&demands, Some(BEGIN + now), LONG)).unwrap()];
            for (count, taken) in counts.iter_mut().zip(taken) {
                *count += u64::from(taken.is_ok());
            }
            now += taken.iter().filter_map(|taken| taken.err()).map(|refused| refused.wait).min().unwrap_or_default();
        }
        let formula = u64::from(burst) + 60 * u64::from(limit) / interval;
        for count in counts {
            assert!(count.abs_diff(formula) <= 1, "{limit} per {interval} s, burst {burst}: {count}, not {formula}");
        }
    }
}

#[tokio::test]
async fn replicas_that_ask_at_once_get_no_more_than_there_is() {
    let server = RedisServer::start().await;
    let rule = rule("all", 50, LONG, 50);
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let (shared, rule) = (Shared::new(server.client().await), rule.clone());
        replicas.spawn(async move {
            let mut admitted = 0;
            for _ in 0..50 {
                admitted += usize::from(shared.take(&[Some(of(&rule, 0)), None, None], None, LONG).await.unwrap().is_ok());
            }
            admitted
        });
    }
    assert_eq!(replicas.join_all().await.iter().sum::<usize>(), 50);
}

#[tokio::test]
async fn redis_tells_the_time_and_forgets_buckets_that_are_full() {
    let server = RedisServer::start().await;
    let shared = Shared::new(server.client().await);
    let (short, long) = (rule("short", 1, Duration::from_millis(200), 1), rule("long", 1, LONG, 1));
    let both = [Some(of(&short, 1)), Some(of(&long, 0)), None];
    let began = Instant::now();
    assert_eq!(shared.take(&both, None, LONG).await.unwrap(), Ok(()));
    let refused = shared.take(&both, None, LONG).await.unwrap().unwrap_err();
    assert_eq!(refused.at, 1, "the longest wait is told");
    assert!(Duration::from_micros(refused.wait) <= LONG && Duration::from_micros(refused.wait) + began.elapsed() >= LONG);
    let left: i64 = server.cli(&["PTTL", "test:{limits}:all:long"]).await.parse().unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    while shared.take(&[Some(of(&short, 1)), None, None], None, LONG).await.unwrap().is_err() {}
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    while server.cli(&["EXISTS", "test:{limits}:192.0.2.1:short"]).await != "0" {}
}
