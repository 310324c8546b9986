//! What went through one upstream: how many calls, with what outcome, and how long they took.

use std::time::Duration;

use crate::{
    mcp::Method,
    meter::{Counter, Histogram},
};

/// The methods that are timed by name; the others are few and rare.
const TIMED: [Method; 4] = [Method::ToolsCall, Method::PromptsGet, Method::ResourcesRead, Method::Complete];

/// Counts of one upstream since it was made.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Answered by the upstream, with whatever answer.
    pub ok: Counter,
    pub failed: Counter,
    /// Refused by a limit.
    pub limited: Counter,
    took: [Took; TIMED.len() + 1],
}

/// How long requests of one method took.
#[derive(Debug, Default)]
pub struct Took {
    /// Until the request was on its way: reading, routing, admission, splicing.
    pub gateway: Histogram,
    /// What the upstream was waited for: for its session where one had to be opened, and for its whole answer.
    pub upstream: Histogram,
}

impl Traffic {
    /// Notes the time of one request that reached the upstream.
    pub fn took(&self, method: Method, gateway: Duration, upstream: Duration) {
        let index = TIMED.iter().position(|timed| *timed == method).unwrap_or(TIMED.len());
        if let Some(took) = self.took.get(index) {
            took.gateway.observe(gateway);
            took.upstream.observe(upstream);
        }
    }

    /// By method; `None` stands for all other methods.
    pub fn times(&self) -> impl Iterator<Item = (Option<Method>, &Took)> {
        TIMED.iter().copied().map(Some).chain([None]).zip(&self.took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_without_a_place_of_its_own_is_counted_with_the_others() {
        let traffic = Traffic::default();
        traffic.took(Method::ToolsCall, Duration::ZERO, Duration::from_secs(1));
        traffic.took(Method::TasksGet, Duration::ZERO, Duration::ZERO);
        let counts: Vec<_> = traffic.times().map(|(method, took)| (method, took.upstream.read().count)).filter(|(_, n)| *n > 0).collect();
        assert_eq!(counts, [(Some(Method::ToolsCall), 1), (None, 1)]);
    }
}
