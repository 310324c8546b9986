//! Counts every request by method and outcome, and splits its time between the gateway and the upstream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{GatewayError, LegacySession, audit::Draft, route::Route};
use crate::{
    mcp::{Message, Method},
    meter::Counter,
    upstream::{Upstream, UpstreamError},
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, be it with an error of the upstream's own.
    Ok,
    /// Not for any upstream: an unknown name or method, parameters that are wrong.
    Refused,
    /// The upstream is down, or failed.
    Failed,
    /// A limit said no.
    Limited,
    /// The client went away, or cancelled.
    Abandoned,
}

impl Outcome {
    pub const ALL: [Self; 5] = [Self::Ok, Self::Refused, Self::Failed, Self::Limited, Self::Abandoned];

    /// The stable word, as in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Limited => "limited",
            Self::Abandoned => "abandoned",
        }
    }

    pub(super) fn of(error: &GatewayError) -> Self {
        match error {
            GatewayError::Upstream { .. } | GatewayError::SearchFailed | GatewayError::NoStore(_) => Self::Failed,
            GatewayError::Limited(_) | GatewayError::TooManySessions => Self::Limited,
            GatewayError::Unknown { .. }
            | GatewayError::UnknownToExecute { .. }
            | GatewayError::Ambiguous { .. }
            | GatewayError::MethodNotFound(_)
            | GatewayError::HeaderMismatch(_)
            | GatewayError::MissingExtension(_)
            | GatewayError::InvalidState
            | GatewayError::InvalidParams(_) => Self::Refused,
        }
    }
}

/// All requests of clients, by method and outcome.
#[derive(Debug)]
pub struct Tally {
    /// A row for each method, and one for those we do not know.
    rows: [[Counter; Outcome::ALL.len()]; Method::ALL.len() + 1],
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { rows: [const { [const { Counter::new() }; Outcome::ALL.len()] }; Method::ALL.len() + 1] }
    }

    pub(super) fn count(&self, method: Option<Method>, outcome: Outcome) {
        let row = method.map_or(Method::ALL.len(), |method| method as usize);
        if let Some(counter) = self.rows.get(row).and_then(|row| row.get(outcome as usize)) {
            counter.add_one();
        }
    }

    /// What was counted at all. `None` stands for every method that we do not know: a client chooses its text.
    pub fn read(&self) -> impl Iterator<Item = (Option<Method>, Outcome, u64)> {
        let methods = Method::ALL.iter().copied().map(Some).chain([None]);
        methods.zip(&self.rows).flat_map(|(method, row)| {
            let counted = Outcome::ALL.into_iter().zip(row).map(move |(outcome, counter)| (method, outcome, counter.read()));
            counted.filter(|(.., count)| *count > 0)
        })
    }
}

/// Where the time of one request goes.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    /// Nanoseconds from the beginning until the request was sent; 0: it was not.
    sent: AtomicU64,
    /// Nanoseconds before that in which the upstream was waited for.
    waited: AtomicU64,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), sent: AtomicU64::new(0), waited: AtomicU64::new(0) }
    }

    /// Waits for the upstream, on its time.
    pub(super) async fn waiting<T>(&self, work: impl Future<Output = T>) -> T {
        let before = self.nanos();
        let done = work.await;
        self.waited.fetch_add(self.nanos().saturating_sub(before), Ordering::Relaxed);
        done
    }

    /// From here on the time is the upstream's. Of two attempts the last one counts.
    pub(super) fn sent(&self) {
        self.sent.store(self.nanos().max(1), Ordering::Relaxed);
    }

    /// What the gateway added and what the upstream took; `None` if the upstream never got the request.
    fn split(&self) -> Option<(Duration, Duration)> {
        let (sent, waited) = (self.sent.load(Ordering::Relaxed), self.waited.load(Ordering::Relaxed));
        let gateway = sent.saturating_sub(waited);
        (sent > 0).then(|| (Duration::from_nanos(gateway), Duration::from_nanos(self.nanos().saturating_sub(gateway))))
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One request on its way through the gateway. Counted once, at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    tally: Arc<Tally>,
    method: Option<Method>,
    upstream: Option<Arc<Upstream>>,
    watch: Stopwatch,
    outcome: Option<Outcome>,
    /// Its line of the audit trail, where there is one.
    draft: Option<Box<Draft>>,
}

impl Counted {
    pub(super) fn begin(tally: &Arc<Tally>, method: Option<Method>) -> Self {
        Self { tally: Arc::clone(tally), method, upstream: None, watch: Stopwatch::start(), outcome: None, draft: None }
    }

    /// The same with a line of the audit trail.
    #[must_use]
    pub(super) fn written_to(mut self, draft: Option<Box<Draft>>) -> Self {
        self.draft = draft;
        self
    }

    /// The session that it opened.
    pub(super) fn opens(&mut self, session: &LegacySession) {
        if let Some(draft) = &mut self.draft {
            draft.opens(session);
        }
    }

    pub(super) fn goes_to(&mut self, route: &Route) {
        self.upstream = Some(Arc::clone(&route.upstream));
        if let Some(draft) = &mut self.draft {
            draft.goes_to(route);
        }
    }

    /// `execute` is to run what this names.
    pub(super) fn executes(&mut self, message: &Message) {
        if let Some(draft) = &mut self.draft {
            draft.executes(message);
        }
    }

    /// A piece of the answer is on its way to the client.
    pub(super) fn passes(&mut self, bytes: &[u8]) {
        if let Some(draft) = &mut self.draft {
            draft.passes(bytes);
        }
    }

    pub(super) fn watch(&self) -> &Stopwatch {
        &self.watch
    }

    /// The error gets the request's name where that stands in the audit trail. `is_withheld`: what is unknown to the caller is
    /// there for others.
    pub(super) fn fails(&mut self, error: &mut GatewayError, is_withheld: impl FnOnce(&GatewayError) -> bool) {
        if let Some(draft) = &mut self.draft {
            draft.fails(error, is_withheld(error));
            if let GatewayError::Upstream { request_id, .. } = error {
                *request_id = Some(draft.request_id());
            }
        }
        self.ends(Outcome::of(error));
    }

    /// The answer had begun.
    pub(super) fn breaks_off(&mut self, error: &UpstreamError) {
        if let Some(draft) = &mut self.draft {
            draft.breaks_off(error);
        }
    }

    /// The line, for a call that goes on when nobody counts it any more.
    pub(super) fn take_draft(&mut self) -> Option<Box<Draft>> {
        let mut draft = self.draft.take()?;
        draft.before_sent = self.watch.split().map(|(gateway, _)| gateway);
        Some(draft)
    }

    /// The first word counts.
    pub(super) fn ends(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
        if let Some(draft) = &mut self.draft {
            draft.ends(outcome);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(self.take_draft());
        let outcome = self.outcome.unwrap_or(Outcome::Abandoned);
        self.tally.count(self.method, outcome);
        let Some(upstream) = &self.upstream else { return };
        let traffic = upstream.traffic();
        match outcome {
            Outcome::Ok => traffic.ok.add_one(),
            Outcome::Failed => traffic.failed.add_one(),
            Outcome::Limited => traffic.limited.add_one(),
            Outcome::Refused | Outcome::Abandoned => {}
        }
        // A subscription takes as long as its client likes.
        let timed = self.method.filter(|method| *method != Method::Listen);
        if let (Some(method), Some((gateway, upstream))) = (timed, self.watch.split()) {
            traffic.took(method, gateway, upstream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_outcome_has_a_counter_of_its_own() {
        let tally = Tally::new();
        for method in Method::ALL.iter().copied().map(Some).chain([None]) {
            for outcome in Outcome::ALL {
                tally.count(method, outcome);
            }
        }
        let counted: Vec<_> = tally.read().collect();
        assert_eq!(counted.len(), (Method::ALL.len() + 1) * Outcome::ALL.len());
        assert!(counted.iter().all(|(.., count)| *count == 1));
    }

    #[test]
    fn a_request_that_nobody_ended_was_abandoned_and_none_is_counted_twice() {
        let tally = Arc::new(Tally::new());
        drop(Counted::begin(&tally, Some(Method::ToolsCall)));
        let mut counted = Counted::begin(&tally, Some(Method::Ping));
        counted.ends(Outcome::Failed);
        counted.ends(Outcome::Ok);
        drop(counted);
        let counted: Vec<_> = tally.read().collect();
        assert_eq!(counted, [(Some(Method::Ping), Outcome::Failed, 1), (Some(Method::ToolsCall), Outcome::Abandoned, 1)]);
    }
}
