//! Probes of many upstreams: one at a time for each, not too often, and not too many at once.

use std::{collections::HashMap, fmt, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use super::{BUDGET, LEAST_INTERVAL, ProbeTarget, probe};
use crate::{
    names::UpstreamName,
    tls::{Report, TlsPolicy},
};

type Flight = Shared<BoxFuture<'static, Arc<Report>>>;

/// Probes upstreams by name. Cheap to share.
///
/// Who asks for an upstream while it is being probed, or within [`LEAST_INTERVAL`] of the last start, gets that probe's
/// report. So nobody can use the gateway to knock on a server faster than that.
#[derive(Clone)]
pub struct Prober(Arc<Inner>);

struct Inner {
    at_once: Arc<Semaphore>,
    flights: Mutex<HashMap<UpstreamName, (Instant, Flight)>>,
}

impl Prober {
    /// `at_once`: most probes that run at the same time; others wait, and their budget begins after the wait.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Inner { at_once: Arc::new(Semaphore::new(at_once.max(1))), flights: Mutex::default() }))
    }

    /// Probes an upstream, or gives the report of a probe that is running or has just run.
    ///
    /// Cancel-safe: it goes on by itself, within its budget. Needs a runtime.
    pub async fn probe(&self, name: &UpstreamName, target: &ProbeTarget, policy: &TlsPolicy) -> Arc<Report> {
        let flight = {
            let mut flights = self.0.flights.lock();
            match flights.get(name) {
                Some((begun, flight)) if begun.elapsed() < LEAST_INTERVAL => flight.clone(),
                _ => {
                    let flight = self.flight(target.clone(), policy.clone());
                    flights.insert(name.clone(), (Instant::now(), flight.clone()));
                    flight
                }
            }
        };
        flight.await
    }

    /// Tries a policy that is not in use yet, such as a new identity before it replaces a working one. Counts against the
    /// number of probes at once, and against nothing else.
    pub async fn try_out(&self, target: &ProbeTarget, policy: &TlsPolicy) -> Arc<Report> {
        self.flight(target.clone(), policy.clone()).await
    }

    /// Forgets what an upstream that is gone, or that has a new policy, has last shown.
    pub fn forget(&self, name: &UpstreamName) {
        self.0.flights.lock().remove(name);
    }

    fn flight(&self, target: ProbeTarget, policy: TlsPolicy) -> Flight {
        let at_once = Arc::clone(&self.0.at_once);
        // A task of its own: one that nobody waits for any more would stand still with its place taken, and be told as a
        // time-out to the next who asks.
        let task = tokio::spawn(async move {
            let _permit = at_once.acquire_owned().await.expect("the semaphore is never closed");
            Arc::new(probe(&target, &policy, BUDGET).await)
        });
        async move {
            match task.await {
                Ok(report) => report,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        .boxed()
        .shared()
    }
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("upstreams", &self.0.flights.lock().len()).finish_non_exhaustive()
    }
}
