//! The condition of upstreams, and what they offer.

use std::fmt;

use super::{Kind, Metric, Page, page::Labels};
use crate::gateway::Gateway;

const STATE: Metric = Metric::new(Kind::Gauge, "nexus_upstream_state", "1 for the state that the upstream is in, 0 for the others.");
const TOOLS: Metric = Metric::new(Kind::Gauge, "nexus_tools", "Tools that the upstream offers, or offered last.");
const QUARANTINED: Metric =
    Metric::new(Kind::Gauge, "nexus_quarantined_items", "Items of the upstream that are left out, because they would break clients.");
const CALLS: Metric =
    Metric::new(Kind::Counter, "nexus_upstream_calls", "Requests that went to the upstream, by outcome (ok, failed, limited).");
const BUILD: Metric = Metric::new(Kind::Gauge, "nexus_build_info", "1, with the version of the program.");

pub(super) const ALL: &[Metric] = &[STATE, TOOLS, QUARANTINED, CALLS, BUILD];

/// Every word that a state may have.
const STATES: [&str; 6] = ["starting", "waiting", "up", "degraded", "suspect", "down"];

pub(super) fn write(page: &mut Page<'_>, gateway: &Gateway) -> fmt::Result {
    let (mut states, mut tools, mut quarantined, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for upstream in gateway.upstreams().iter() {
        let named = |more: &[(&'static str, &str)]| -> Labels {
            let mut labels = vec![("upstream", upstream.name().to_string())];
            labels.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
            labels
        };
        let current = upstream.status().borrow().state.word();
        states.extend(STATES.map(|state| (named(&[("state", state)]), i64::from(state == current))));
        if let Some(offer) = upstream.offer() {
            tools.push((named(&[]), count(offer.tools.len())));
            quarantined.push((named(&[]), count(offer.quarantined.len())));
        }
        let traffic = upstream.traffic();
        for (outcome, counter) in [("ok", &traffic.ok), ("failed", &traffic.failed), ("limited", &traffic.limited)] {
            calls.push((named(&[("outcome", outcome)]), counter.read()));
        }
    }
    page.gauge(STATE, states)?;
    page.gauge(TOOLS, tools)?;
    page.gauge(QUARANTINED, quarantined)?;
    page.counter(CALLS, calls)?;
    page.gauge(BUILD, [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)])
}

fn count(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reason::{Explanation, Reason},
        upstream::State,
    };

    #[test]
    fn every_state_has_its_word_among_the_series() {
        let why = || Explanation::new(Reason::Protocol, "", "");
        for state in [State::Starting, State::Waiting(why()), State::Up, State::Degraded(why()), State::Suspect(why()), State::Down(why())]
        {
            assert!(STATES.contains(&state.word()), "{}", state.word());
        }
    }
}
