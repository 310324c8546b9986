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
    debts::Debts,
    demand::{Demand, Demands, Refused, Whose},
};
use crate::{
    auth::{Caller, Toll},
    meter::Counter,
    redis::{Redis, RedisError, Surroundings},
};

/// How long whoever is refused without a reason of its own waits.
const WITHOUT_STORAGE: Duration = Duration::from_secs(1);
/// The same for whom nobody tells any more.
const AFTER_HANGING_UP: Duration = Duration::from_secs(1);
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
    pub stage: Stage,
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request, whatever is in it.
    Door,
    /// What it asks for.
    Call,
}

/// Who is charged for what one request becomes at several upstreams, beside these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    ClientToo,
    /// What is no request of the client's own, or belongs to one that was charged.
    UpstreamsAlone,
}

/// Counts tokens, for all requests of a gateway.
#[derive(Debug)]
pub struct Limiter {
    live: ArcSwap<Live>,
    memory: Memory,
    debts: Debts,
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
            debts: Debts::new(),
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

    /// Lets a request over HTTP in, of which nothing is known but where it comes from. What it owes for that is paid with its
    /// call, so that one question is enough; here is seen only whether it would be refused now. `None`: there is nothing to owe.
    ///
    /// # Errors
    /// [`Limited`] by everything together, or by what comes from that address; nothing is charged then.
    pub async fn knock(&self, address: Option<IpAddr>) -> Result<Option<Arc<Toll>>, Limited> {
        let toll = {
            let live = self.live.load();
            let demands = live.config.at_door(address);
            if !live.config.enabled || demands.iter().all(Option::is_none) {
                return Ok(live.shared.as_ref().map(|_| Arc::new(Toll::free())));
            }
            let refused = match &live.shared {
                None => self.memory.peek(&demands, self.now()).err(),
                Some(shared) => shared.known(&demands),
            };
            if let Some(refused) = refused {
                return Err(self.refused(&demands, refused));
            }
            Arc::new(Toll::owed(address))
        };
        if self.debts.one_more(address) {
            self.pay(&toll).await?;
        }
        Ok(Some(toll))
    }

    /// Pays what is owed alone: for a request that goes nowhere, or would do something before it could be refused.
    ///
    /// # Errors
    /// [`Limited`] by everything together, or by what comes from that address.
    pub async fn pay(&self, toll: &Toll) -> Result<(), Limited> {
        if !toll.is_owed() {
            return Ok(());
        }
        let live = self.live.load_full();
        let owed = self.owed(&live, Some(toll));
        let paid = self.take(&live, Some(toll), &owed).await;
        paid.inspect_err(|_| toll.refuse())
    }

    /// The same for a request that broke off, about which nobody is told. `false`: that takes waiting.
    pub fn pay_at_once(&self, toll: &Toll) -> bool {
        let live = self.live.load();
        if live.shared.is_some() {
            return !toll.is_owed();
        }
        let owed = self.owed(&live, Some(toll));
        if let Err(refused) = self.memory.take(&owed, self.now()) {
            self.refused(&owed, refused);
            toll.refuse();
        }
        true
    }

    /// Admits a caller's call of an upstream with these limits, and what its request owes for its way in. `tool`: what is called,
    /// if a tool is. Charged once, whatever comes of the call.
    ///
    /// # Errors
    /// [`Limited`] by what this client, this upstream or this tool may, or at the door; nothing is charged then.
    pub async fn admit(&self, caller: &Caller, limits: Option<&UpstreamLimits>, tool: Option<&str>) -> Result<Admission, Limited> {
        let (admission, toll) = (Admission { _private: () }, self.toll_of(caller)?);
        {
            let live = self.live.load();
            let is_asked = live.config.per_client.is_some() || limits.is_some() || toll.is_some_and(Toll::is_owed);
            if !live.config.enabled || !is_asked {
                return Ok(admission);
            }
        }
        let live = self.live.load_full();
        let [global, per_ip] = self.owed(&live, toll);
        let upstream = limits.and_then(|limits| limits.demand(caller, tool));
        self.take(&live, toll, &[global, per_ip, live.config.of_client(caller), upstream]).await?;
        Ok(admission)
    }

    /// For what belongs to a call that was admitted, and goes nowhere by itself.
    pub fn admitted_before(&self) -> Admission {
        Admission { _private: () }
    }

    /// Admits what a caller's request becomes at several upstreams with these limits: all of it, or nothing.
    ///
    /// # Errors
    /// [`Limited`], as of [`Limiter::admit`]; nothing is charged then.
    pub async fn admit_all<'a>(
        &self,
        caller: &'a Caller,
        charged: Charged,
        upstreams: impl Iterator<Item = &'a UpstreamLimits>,
    ) -> Result<(), Limited> {
        let live = self.live.load_full();
        if !live.config.enabled {
            return Ok(());
        }
        let toll = self.toll_of(caller)?;
        let client = match charged {
            Charged::ClientToo => live.config.of_client(caller),
            Charged::UpstreamsAlone => None,
        };
        let mut demands = Vec::from(self.owed(&live, toll));
        demands.push(client);
        demands.extend(upstreams.map(|limits| limits.demand(caller, None)));
        self.take(&live, toll, &demands).await
    }

    /// Refuses a caller's request because the upstream itself asked to wait. So it owes nothing.
    pub fn refuse_for_upstream(&self, caller: &Caller, retry_after: Duration) -> Limited {
        if let Some(toll) = caller.toll() {
            self.settles(toll);
        }
        self.refuse(Scope::Upstream, retry_after, Stage::Call)
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

    /// # Errors
    /// The way in was not paid when the client hung up, and what is left of its request goes no further.
    fn toll_of<'a>(&self, caller: &'a Caller) -> Result<Option<&'a Toll>, Limited> {
        match caller.toll() {
            Some(toll) if toll.is_refused() => Err(self.refuse(Scope::Global, AFTER_HANGING_UP, Stage::Door)),
            toll => Ok(toll),
        }
    }

    /// `true` for the one who has to see to it, if somebody has to.
    fn settles(&self, toll: &Toll) -> bool {
        let settles = toll.settle();
        if settles {
            self.debts.one_less(toll.address());
        }
        settles
    }

    /// The tokens that a request owes for its way in, which are the asker's to take then.
    fn owed<'a>(&self, live: &'a Live, toll: Option<&Toll>) -> [Option<Demand<'a>>; 2] {
        match toll.filter(|toll| self.settles(toll)) {
            Some(toll) if live.config.enabled => live.config.at_door(toll.address()),
            _ => [None; 2],
        }
    }

    /// The waits in vain of one request are no longer than one, all together.
    async fn take(&self, live: &Live, toll: Option<&Toll>, demands: &Demands<'_>) -> Result<(), Limited> {
        if demands.iter().all(Option::is_none) {
            return Ok(());
        }
        let taken = match &live.shared {
            None => self.memory.take(demands, self.now()),
            Some(shared) => {
                let (began, waited) = (Instant::now(), toll.map_or(Duration::ZERO, Toll::waited));
                // Kept small for those who have no Redis.
                let taken = Box::pin(shared.take(demands, None, shared.patience_after(waited))).await;
                match taken {
                    Ok(taken) => taken,
                    Err(error) => {
                        if let Some(toll) = toll {
                            toll.has_waited(began.elapsed());
                        }
                        return self.without_storage(&live.config.storage, demands, &error);
                    }
                }
            }
        };
        taken.map_err(|refused| self.refused(demands, refused))
    }

    fn refused(&self, demands: &Demands<'_>, refused: Refused) -> Limited {
        let demand = demands.get(refused.at).copied().flatten();
        let scope = demand.map_or(Scope::Global, |demand| demand.rule.scope);
        let stage = if scope.is_of_door() { Stage::Door } else { Stage::Call };
        self.refuse(scope, Duration::from_micros(refused.wait), stage)
    }

    fn without_storage(&self, storage: &StorageConfig, demands: &Demands<'_>, error: &RedisError) -> Result<(), Limited> {
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
        let is_of_door = demands.iter().flatten().any(|demand| demand.rule.scope.is_of_door());
        match on_error {
            OnError::Allow => Ok(()),
            OnError::Deny => Err(self.refuse(Scope::Storage, WITHOUT_STORAGE, if is_of_door { Stage::Door } else { Stage::Call })),
        }
    }

    fn refuse(&self, scope: Scope, retry_after: Duration, stage: Stage) -> Limited {
        if let Some(counter) = self.limited.get(scope as usize) {
            counter.add_one();
        }
        tracing::debug!(scope = scope.word(), ?retry_after, "a request was limited");
        Limited { scope, retry_after, stage }
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
mod tests;
