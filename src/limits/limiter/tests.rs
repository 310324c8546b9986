use std::num::NonZeroU32;

use super::{
    super::{Per, Quota, Rule},
    *,
};
use crate::{
    auth::PrincipalKey,
    clock::SystemClock,
    sources::{MemorySources, Watcher},
};

fn rule(scope: Scope, name: &str, limit: u32) -> Rule {
    let limit = NonZeroU32::new(limit).unwrap();
    Rule { scope, name: name.into(), quota: Quota::new(limit, Duration::from_secs(u64::from(limit.get())), limit).unwrap() }
}

fn limiter(config: LimitsConfig) -> Limiter {
    let sources = Arc::new(MemorySources::default());
    Limiter::new(config, Surroundings { clock: Arc::new(SystemClock), sources, watcher: Watcher::default() })
}

fn upstream(per: Per) -> UpstreamLimits {
    UpstreamLimits { server: Some(rule(Scope::Server, "server:up", 2)), per, tools: std::collections::HashMap::new() }
}

async fn admitted(limiter: &Limiter, caller: &Caller, limits: Option<&UpstreamLimits>) -> usize {
    let mut admitted = 0;
    for _ in 0..10 {
        admitted += usize::from(limiter.admit(caller, limits, None).await.is_ok());
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn a_client_is_its_name_and_without_one_its_principal() {
    let limiter = limiter(LimitsConfig { per_client: Some(rule(Scope::Client, "client", 3)), ..LimitsConfig::default() });
    let ada = |n| PrincipalKey::of("jwt", "https://idp.test", n);
    for (caller, expected) in [
        (Caller::of_test_named(Some("acme"), ada("1")), 3),
        (Caller::of_test_named(Some("acme"), ada("2")), 0),
        (Caller::of_test_named(Some("other"), ada("1")), 3),
        (Caller::of_test_named(None, ada("1")), 3),
        (Caller::of_test_named(None, ada("2")), 3),
        (Caller::of_test_named(None, ada("1")), 0),
        (Caller::local(), 3),
    ] {
        assert_eq!(admitted(&limiter, &caller, None).await, expected, "{caller:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_outlives_a_request_that_could_not_pay_goes_nowhere() {
    let limiter = limiter(LimitsConfig { global: Some(rule(Scope::Global, "global", 1)), ..LimitsConfig::default() });
    let (first, second) = (limiter.knock(None).await.unwrap().unwrap(), limiter.knock(None).await.unwrap().unwrap());
    limiter.pay(&first).await.unwrap();
    // Its client hangs up, and the call would go on by itself.
    assert!(limiter.pay_at_once(&second));
    let survivor = Caller::local().asking(None, Some(second));
    assert!(limiter.admit(&survivor, None, None).await.is_err());
    assert!(limiter.admit_all(&survivor, Charged::ClientToo, std::iter::empty()).await.is_err());
    assert!(limiter.admit(&Caller::local().asking(None, Some(first)), None, None).await.is_ok(), "it has paid");
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_tokens_are_everybodys_or_each_clients_own() {
    let (one, other) = (Caller::of_test_named(Some("a"), PrincipalKey::Local), Caller::of_test_named(Some("b"), PrincipalKey::Local));
    for (per, expected) in [(Per::Gateway, [2, 0]), (Per::Client, [2, 2])] {
        let (limiter, limits) = (limiter(LimitsConfig::default()), upstream(per));
        assert_eq!([admitted(&limiter, &one, Some(&limits)).await, admitted(&limiter, &other, Some(&limits)).await], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_as_long_as_was_said_is_admitted() {
    let (limiter, limits) = (limiter(LimitsConfig::default()), upstream(Per::Gateway));
    assert_eq!(admitted(&limiter, &Caller::local(), Some(&limits)).await, 2);
    let limited = limiter.admit(&Caller::local(), Some(&limits), None).await.unwrap_err();
    assert_eq!(limited, Limited { scope: Scope::Server, retry_after: Duration::from_secs(1), stage: Stage::Call });
    tokio::time::advance(limited.retry_after - Duration::from_millis(1)).await;
    assert!(limiter.admit(&Caller::local(), Some(&limits), None).await.is_err());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(limiter.admit(&Caller::local(), Some(&limits), None).await.is_ok());
}

fn guarded(global: u32, per_ip: u32) -> Limiter {
    let (global, per_ip) = (rule(Scope::Global, "global", global), rule(Scope::Ip, "ip", per_ip));
    limiter(LimitsConfig { global: Some(global), per_ip: Some(per_ip), ..LimitsConfig::default() })
}

fn from(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

async fn knocked(limiter: &Limiter, last: u8) -> Option<Arc<Toll>> {
    limiter.knock(from(last)).await.unwrap()
}

fn refused_at_door<T: std::fmt::Debug>(outcome: Result<T, Limited>, scope: Scope) {
    let limited = outcome.unwrap_err();
    assert_eq!((limited.scope, limited.stage), (scope, Stage::Door));
}

#[tokio::test(start_paused = true)]
async fn a_call_and_its_way_in_are_paid_together_or_not_at_all() {
    let (limiter, limits) = (guarded(3, 3), upstream(Per::Gateway));
    let call = async || {
        let toll = knocked(&limiter, 1).await;
        limiter.admit(&Caller::local().asking(None, toll), Some(&limits), None).await.map(drop)
    };
    assert_eq!([call().await, call().await], [Ok(()), Ok(())]);
    for _ in 0..10 {
        assert_eq!(call().await.map_err(|limited| (limited.scope, limited.stage)), Err((Scope::Server, Stage::Call)));
    }
    // The one token that is left at the door, whatever was refused.
    limiter.pay(&knocked(&limiter, 1).await.unwrap()).await.unwrap();
    refused_at_door(limiter.knock(from(1)).await, Scope::Global);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_at_the_call_is_still_of_the_door() {
    let (limiter, limits) = (guarded(9, 1), upstream(Per::Gateway));
    let (first, second) = (knocked(&limiter, 1).await, knocked(&limiter, 1).await);
    let caller = |toll| Caller::local().asking(None, toll);
    assert!(limiter.admit(&caller(first), Some(&limits), None).await.is_ok());
    refused_at_door(limiter.admit(&caller(second), Some(&limits), None).await, Scope::Ip);
    let third = knocked(&limiter, 2).await;
    assert!(limiter.admit(&caller(third), Some(&limits), None).await.is_ok(), "the refused one has cost the server nothing");
}

#[tokio::test(start_paused = true)]
async fn who_only_knocks_spends_nothing_and_who_breaks_off_pays() {
    let limiter = guarded(2, 2);
    for _ in 0..50 {
        assert!(knocked(&limiter, 1).await.unwrap().is_owed());
    }
    for _ in 0..2 {
        let toll = knocked(&limiter, 1).await.unwrap();
        assert!(limiter.pay_at_once(&toll) && limiter.pay_at_once(&toll), "once, however often");
    }
    refused_at_door(limiter.knock(from(1)).await, Scope::Global);
}

#[tokio::test(start_paused = true)]
async fn of_a_flood_only_so_many_are_let_in_before_they_pay() {
    let limiter = guarded(10_000, 100);
    let mut waiting = Vec::new();
    let refused = loop {
        match limiter.knock(from(1)).await {
            Ok(toll) => waiting.push(toll.unwrap()),
            Err(limited) => break limited,
        }
        assert!(waiting.len() < 1000, "a flood is let in");
    };
    let owing = waiting.iter().filter(|toll| toll.is_owed()).count();
    assert_eq!((refused.scope, waiting.len() - owing), (Scope::Ip, 100), "whoever paid had a token");
    assert!(owing < 100, "{owing}");
    assert!(knocked(&limiter, 2).await.unwrap().is_owed(), "nobody else is concerned");
    for toll in waiting {
        assert!(limiter.pay_at_once(&toll));
    }
    tokio::time::advance(Duration::from_secs(200)).await;
    assert!(knocked(&limiter, 1).await.unwrap().is_owed(), "who has settled may owe again");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_several_requests_is_admitted_whole_or_not_at_all() {
    let limiter = guarded(9, 9);
    let of = |name: &str, limit| UpstreamLimits { server: Some(rule(Scope::Server, name, limit)), ..upstream(Per::Gateway) };
    let servers: Vec<_> = (0..20).map(|n| of(&format!("server:{n}"), if n == 19 { 1 } else { 3 })).collect();
    let admit = async |toll| limiter.admit_all(&Caller::local().asking(None, toll), Charged::ClientToo, servers.iter()).await;
    assert!(admit(knocked(&limiter, 1).await).await.is_ok());
    for _ in 0..20 {
        assert_eq!(admit(knocked(&limiter, 1).await).await.unwrap_err().scope, Scope::Server);
    }
    for server in &servers[..19] {
        assert_eq!(admitted(&limiter, &Caller::local(), Some(server)).await, 2);
    }
    let left = async || usize::from(limiter.pay(&Toll::owed(from(1))).await.is_ok());
    assert_eq!([left().await, left().await, left().await], [1; 3], "one of nine was spent");
}

/// Prints nanoseconds; `cargo test --release -p nexus --lib -- --ignored what_an_admission_costs --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_an_admission_costs() {
    const ROUNDS: u32 = 2_000_000;
    let never = |scope: Scope, name: &str| {
        let quota = Quota::new(NonZeroU32::new(1_000_000).unwrap(), Duration::from_secs(1), NonZeroU32::MAX).unwrap();
        Some(Rule { quota, ..rule(scope, name, 1) })
    };
    let (global, per_ip) = (never(Scope::Global, "global"), never(Scope::Ip, "ip"));
    let per_client = never(Scope::Client, "client");
    let limits = UpstreamLimits { server: never(Scope::Server, "server:up"), ..upstream(Per::Gateway) };
    let caller = Caller::of_test_named(Some("a-client-with-a-name"), PrincipalKey::of("jwt", "https://idp.test", "ada"));
    let measure = async |what: &str, limiter: &Limiter, limits: Option<&UpstreamLimits>, knocks: bool| {
        let began = std::time::Instant::now();
        for n in 0..ROUNDS {
            let toll = if knocks { limiter.knock(Some(IpAddr::from((n % 1000).to_be_bytes()))).await.unwrap() } else { None };
            limiter.admit(&caller.clone().asking(None, toll), limits, Some("work")).await.unwrap();
        }
        let nanos = began.elapsed().as_nanos() / u128::from(ROUNDS);
        #[allow(clippy::print_stdout, reason = "a measurement is for reading")]
        {
            println!("{what}: {nanos} ns");
        }
    };
    measure("no limit", &limiter(LimitsConfig::default()), None, true).await;
    let two = LimitsConfig { per_client: per_client.clone(), ..LimitsConfig::default() };
    measure("client and server", &limiter(two), Some(&limits), false).await;
    let three = LimitsConfig { per_ip: per_ip.clone(), per_client: per_client.clone(), ..LimitsConfig::default() };
    measure("address, client and server", &limiter(three), Some(&limits), true).await;
    let four = LimitsConfig { global, per_ip, per_client, ..LimitsConfig::default() };
    measure("everybody, address, client and server", &limiter(four), Some(&limits), true).await;
}
