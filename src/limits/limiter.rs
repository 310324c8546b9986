//! The limits of the running gateway.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::time::Instant;

use super::{
    LimitsConfig, Memory, OnError, Scope, Shared, StorageConfig, UpstreamLimits,
    demand::{Demand, Demands, Whose},
};
use crate::{
    auth::Caller,
    meter::Counter,
    redis::{Redis, Surroundings},
};

/// How long whoever is refused without a reason of its own waits.
const WITHOUT_STORAGE: Duration = Duration::from_secs(1);
/// Redis is complained about at most this often.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Proof that a request was admitted; required to reach an upstream. Only [`Limiter::admit`] makes one.
#[derive(Debug)]
pub struct Admission {
    _private: (),
}

/// A request that may not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("limited ({}): again in {retry_after:?}", scope.word())]
pub struct Limited {
    pub scope: Scope,
    /// Until then nothing is admitted; then, if nobody else is faster.
    pub retry_after: Duration,
}

/// Counts tokens, for all requests of a gateway.
#[derive(Debug)]
pub struct Limiter {
    live: ArcSwap<Live>,
    memory: Memory,
    began: Instant,
    limited: [Counter; Scope::ALL.len()],
    unanswered: Counter,
    /// Milliseconds since `began` from which on Redis may be complained about again.
    quiet_until: AtomicU64,
    surroundings: Surroundings,
}

/// The configuration of this moment.
#[derive(Debug)]
struct Live {
    config: LimitsConfig,
    shared: Option<Arc<Shared>>,
}

impl Limiter {
    /// Connects to Redis in the background, if that is configured. Needs a tokio runtime.
    pub fn new(config: LimitsConfig, surroundings: Surroundings) -> Self {
        let shared = connect(&config, &surroundings);
        Self {
            live: ArcSwap::from_pointee(Live { config, shared }),
            memory: Memory::new(),
            began: Instant::now(),
            limited: [const { Counter::new() }; Scope::ALL.len()],
            unanswered: Counter::new(),
            quiet_until: AtomicU64::new(0),
            surroundings,
        }
    }

    /// Takes another configuration; `upstreams` are the limits of those that there are now. A limit that keeps its name keeps
    /// its buckets.
    pub fn reload<'a>(&self, config: LimitsConfig, upstreams: impl Iterator<Item = &'a UpstreamLimits>) {
        let before = self.live.load_full();
        let is_same = before.config.enabled == config.enabled && before.config.storage == config.storage;
        let shared = if is_same { before.shared.clone() } else { connect(&config, &self.surroundings) };
        let global = config.global.clone();
        // A Redis that nobody names any more loses its connections with the last request that uses it.
        self.live.store(Arc::new(Live { config, shared }));
        let mut kept: Vec<Demand<'_>> = upstreams.flat_map(UpstreamLimits::shared).collect();
        kept.extend(global.as_ref().map(|rule| Demand { rule, whose: Whose::Everyone }));
        self.memory.keep_shared(&kept);
    }

    /// Admits a request over HTTP, of which nothing is known but where it comes from, and says how long it waited for Redis;
    /// `None`: there is none.
    ///
    /// # Errors
    /// [`Limited`] by everything together, or by what comes from that address.
    pub async fn knock(&self, address: Option<IpAddr>) -> Result<Option<Duration>, Limited> {
        {
            let live = self.live.load();
            if !live.config.enabled || (live.config.global.is_none() && live.config.per_ip.is_none()) {
                return Ok(live.shared.as_ref().map(|_| Duration::ZERO));
            }
        }
        let live = self.live.load_full();
        let global = live.config.global.as_ref().map(|rule| Demand { rule, whose: Whose::Everyone });
        let per_ip = live.config.per_ip.as_ref().zip(address);
        let per_ip = per_ip.map(|(rule, address)| Demand { rule, whose: Whose::Address(address.into()) });
        let began = Instant::now();
        self.take(&live, [global, per_ip, None], Duration::ZERO).await?;
        Ok(live.shared.as_ref().map(|_| began.elapsed()))
    }

    /// Admits a caller's call of an upstream with these limits. `tool`: what is called, if a tool is. Charged once, whatever
    /// comes of the call.
    ///
    /// # Errors
    /// [`Limited`] by what this client, this upstream or this tool may.
    pub async fn admit(&self, caller: &Caller, limits: Option<&UpstreamLimits>, tool: Option<&str>) -> Result<Admission, Limited> {
        let admission = Admission { _private: () };
        {
            let live = self.live.load();
            if !live.config.enabled || (live.config.per_client.is_none() && limits.is_none()) {
                return Ok(admission);
            }
        }
        let live = self.live.load_full();
        let per_client = live.config.per_client.as_ref().map(|rule| Demand { rule, whose: Whose::Caller(caller) });
        let upstream = limits.and_then(|limits| limits.demand(caller, tool));
        self.take_for(&live, caller, [per_client, upstream, None]).await?;
        Ok(admission)
    }

    /// For what belongs to a call that was admitted, and goes nowhere by itself.
    pub fn admitted_before(&self) -> Admission {
        Admission { _private: () }
    }

    /// Admits what else becomes of a caller's request at an upstream with these limits, after the request itself was admitted.
    ///
    /// # Errors
    /// [`Limited`] by what this upstream may.
    pub async fn admit_further(&self, caller: &Caller, limits: &UpstreamLimits) -> Result<(), Limited> {
        let live = self.live.load_full();
        if !live.config.enabled {
            return Ok(());
        }
        self.take_for(&live, caller, [limits.demand(caller, None), None, None]).await
    }

    /// Refuses because the upstream itself asked to wait.
    pub fn refuse_for_upstream(&self, retry_after: Duration) -> Limited {
        self.refuse(Scope::Upstream, retry_after)
    }

    /// Whether there are limits at all.
    pub fn is_enabled(&self) -> bool {
        self.live.load().config.enabled
    }

    /// Whether there is a connection to Redis; `None`: tokens are counted in memory.
    pub fn is_connected(&self) -> Option<bool> {
        self.live.load().shared.as_ref().map(|shared| *shared.redis().is_connected().borrow())
    }

    /// How many were refused, by what refused them.
    pub fn limited(&self) -> impl Iterator<Item = (Scope, u64)> {
        Scope::ALL.into_iter().zip(&self.limited).map(|(scope, counter)| (scope, counter.read()))
    }

    /// How often Redis gave no answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.read()
    }

    /// Closes the connections to Redis.
    pub async fn shut_down(&self) {
        if let Some(shared) = &self.live.load_full().shared {
            shared.redis().shut_down().await;
        }
    }

    /// The waits of one request are no longer than one, all together.
    async fn take_for(&self, live: &Live, caller: &Caller, demands: Demands<'_>) -> Result<(), Limited> {
        if live.shared.is_none() {
            return self.take(live, demands, Duration::ZERO).await;
        }
        let began = Instant::now();
        let taken = self.take(live, demands, caller.waited()).await;
        caller.has_waited(began.elapsed());
        taken
    }

    /// `waited`: how long the request has waited for Redis so far.
    async fn take(&self, live: &Live, demands: Demands<'_>, waited: Duration) -> Result<(), Limited> {
        if demands.iter().all(Option::is_none) {
            return Ok(());
        }
        let taken = match &live.shared {
            None => self.memory.take(&demands, self.now()),
            // Kept small for those who have no Redis.
            Some(shared) => match Box::pin(shared.take(&demands, None, shared.patience_after(waited))).await {
                Ok(taken) => taken,
                Err(error) => return self.without_storage(&live.config.storage, &error),
            },
        };
        let Err(refused) = taken else { return Ok(()) };
        let demand = demands.get(refused.at).copied().flatten();
        let scope = demand.map_or(Scope::Global, |demand| demand.rule.scope);
        Err(self.refuse(scope, Duration::from_micros(refused.wait)))
    }

    fn without_storage(&self, storage: &StorageConfig, error: &dyn std::error::Error) -> Result<(), Limited> {
        self.unanswered.add_one();
        let on_error = match storage {
            StorageConfig::Redis { on_error, .. } => *on_error,
            StorageConfig::Memory => OnError::Allow,
        };
        if self.may_complain() {
            let becomes = match on_error {
                OnError::Allow => "requests go on without limits",
                OnError::Deny => "requests are refused",
            };
            tracing::warn!(%error, unanswered = self.unanswered.read(), "rate limits cannot be checked: {becomes}");
        }
        match on_error {
            OnError::Allow => Ok(()),
            OnError::Deny => Err(self.refuse(Scope::Storage, WITHOUT_STORAGE)),
        }
    }

    fn refuse(&self, scope: Scope, retry_after: Duration) -> Limited {
        if let Some(counter) = self.limited.get(scope as usize) {
            counter.add_one();
        }
        tracing::debug!(scope = scope.word(), ?retry_after, "a request was limited");
        Limited { scope, retry_after }
    }

    /// Of those who ask at once, one may.
    fn may_complain(&self) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = now.saturating_add(u64::try_from(COMPLAINTS.as_millis()).unwrap_or(u64::MAX));
        let until = self.quiet_until.load(Ordering::Relaxed);
        now >= until && self.quiet_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Microseconds of a clock that nobody sets.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }
}

fn connect(config: &LimitsConfig, surroundings: &Surroundings) -> Option<Arc<Shared>> {
    match &config.storage {
        StorageConfig::Redis { redis, .. } if config.enabled => {
            Some(Arc::new(Shared::new(Redis::start((**redis).clone(), surroundings.clone()))))
        }
        StorageConfig::Redis { .. } | StorageConfig::Memory => None,
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(limited, Limited { scope: Scope::Server, retry_after: Duration::from_secs(1) });
        tokio::time::advance(limited.retry_after - Duration::from_millis(1)).await;
        assert!(limiter.admit(&Caller::local(), Some(&limits), None).await.is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(limiter.admit(&Caller::local(), Some(&limits), None).await.is_ok());
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
                if knocks {
                    limiter.knock(Some(IpAddr::from((n % 1000).to_be_bytes()))).await.unwrap();
                }
                limiter.admit(&caller, limits, Some("work")).await.unwrap();
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
}
