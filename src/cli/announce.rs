//! The lines that an operator sees: listeners, and the state of each upstream whenever it changes.

use std::{collections::HashMap, io::Write as _, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, interval},
};

use crate::{
    gateway::Gateway,
    problem::Problem,
    reason::Explanation,
    telemetry::{Stderr, Style},
    upstream::{State, Status, Upstream, UpstreamId},
};

/// How often the live line of a terminal is drawn anew.
const FRAME: Duration = Duration::from_millis(200);

/// Prints to stderr: logs go there too, and stdout is for data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcer {
    style: Style,
}

/// What was said last of each upstream.
#[derive(Debug, Default)]
struct Said {
    lines: Mutex<HashMap<UpstreamId, String>>,
    more: Notify,
}

impl Said {
    /// There is something to say of it, and nothing was said yet.
    fn is_awaited(&self, upstream: &Upstream) -> bool {
        upstream.status().borrow().state != State::Starting && !self.lines.lock().contains_key(&upstream.id())
    }
}

impl Announcer {
    pub(super) fn new(style: Style) -> Self {
        Self { style }
    }

    /// One line about the gateway itself.
    pub(super) fn say(self, words: &str) {
        match self.style {
            Style::Json => tracing::info!("{words}"),
            Style::Text | Style::Color => print(&format!("nexus: {words}")),
        }
    }

    /// Something that an operator should look at.
    pub(super) fn warn(self, problem: &Problem) {
        match self.style {
            Style::Json => tracing::warn!(key = %problem.key, why = problem.why, fix = problem.remedy, "{}", problem.what),
            Style::Text | Style::Color => print(&format!("{problem}\n")),
        }
    }

    /// Follows every upstream until the gateway ends. Cancel-safe.
    pub(super) async fn follow(self, gateway: &Arc<Gateway>) {
        let said = Said::default();
        tokio::join!(self.follow_all(gateway, &said), self.follow_bring_up(gateway, &said));
    }

    /// Those of now; after a reload, those of then. Never ends.
    async fn follow_all(self, gateway: &Arc<Gateway>, said: &Said) {
        let mut rebuilds = gateway.rebuilds();
        loop {
            let upstreams = gateway.upstreams();
            said.lines.lock().retain(|id, _| upstreams.iter().any(|upstream| upstream.id() == *id));
            let others = async { while Arc::ptr_eq(&gateway.upstreams(), &upstreams) && rebuilds.changed().await.is_ok() {} };
            let watches = upstreams.iter().map(|upstream| self.follow_one(upstream, said));
            let all = async {
                futures_util::future::join_all(watches).await;
                // Without upstreams there is nothing to say until there are some.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = all => {}
                () = others => {}
            }
        }
    }

    async fn follow_one(self, upstream: &Upstream, lines: &Said) {
        let mut changes = upstream.status();
        loop {
            let status = changes.borrow_and_update().clone();
            if status.state != State::Starting {
                let line = line(upstream, &status);
                let said = lines.lines.lock().insert(upstream.id(), line.clone());
                if said.as_ref() != Some(&line) {
                    let when = if said.is_some() { stamp(status.since) } else { String::new() };
                    self.report(upstream, &status, &format!("{when}{line}"));
                }
                lines.more.notify_one();
            }
            // Fails only when the upstream is gone, which it is not while we hold it.
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn report(self, upstream: &Upstream, status: &Status, line: &str) {
        if self.style != Style::Json {
            return print(line);
        }
        let name = upstream.name();
        match status.state.explanation() {
            None => tracing::info!(upstream = %name, state = status.state.word(), policy = status.policy, "upstream changed"),
            Some(why) => tracing::warn!(
                upstream = %name, state = status.state.word(), reason = why.reason.code(), detail = why.detail, fix = why.remedy, "upstream changed"
            ),
        }
    }

    /// Until every upstream was tried: on a terminal, a line that says what is still awaited. Cancel-safe.
    pub(super) async fn tried(self, gateway: &Arc<Gateway>) {
        tokio::select! {
            () = self.draw_progress(gateway) => {}
            () = gateway.tried() => {}
        }
        Stderr.clear();
    }

    async fn follow_bring_up(self, gateway: &Arc<Gateway>, said: &Said) {
        if gateway.upstreams().is_empty() {
            return;
        }
        self.tried(gateway).await;
        // The sum comes after the last of its parts, whichever thread brought that about.
        while gateway.upstreams().iter().any(|upstream| said.is_awaited(upstream)) {
            said.more.notified().await;
        }
        self.say(&sum(gateway.upstreams().iter().map(|upstream| upstream.status().borrow().state.serves())));
    }

    /// Never ends.
    async fn draw_progress(self, gateway: &Arc<Gateway>) {
        if self.style == Style::Json || !Stderr.is_terminal() {
            return std::future::pending().await;
        }
        let began = Instant::now();
        let mut frames = interval(FRAME);
        frames.tick().await;
        loop {
            frames.tick().await;
            let upstreams = gateway.upstreams();
            let waiting: Vec<_> =
                upstreams.iter().filter(|upstream| !upstream.status().borrow().tried).map(|upstream| upstream.name().as_str()).collect();
            let total = upstreams.len();
            let tried = total - waiting.len();
            Stderr.draw(&format!(
                "{tried} of {total} upstreams tried, {} s, waiting for {}",
                began.elapsed().as_secs(),
                waiting.join(", ")
            ));
        }
    }
}

/// `1 of 3 upstreams is up`, `all 3 upstreams are up`.
fn sum(serving: impl Iterator<Item = bool>) -> String {
    let serving: Vec<_> = serving.collect();
    let up = serving.iter().filter(|up| **up).count();
    match (up, serving.len()) {
        (1, 1) => "the upstream is up".to_owned(),
        (0, 1) => "the upstream is down; it is tried again, and its tools appear once it is up".to_owned(),
        (0, all) => format!("none of {all} upstreams is up; they are tried again"),
        (up, all) if up == all => format!("all {all} upstreams are up"),
        (up, all) => format!("{up} of {all} upstreams {} up; the others are tried again", if up == 1 { "is" } else { "are" }),
    }
}

/// The time of a change in front of its line, as in a log line; nothing when the clock is out of range.
fn stamp(since_1970: Duration) -> String {
    let at = i64::try_from(since_1970.as_secs()).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let text = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.map(|text| format!("{text} ")).unwrap_or_default()
}

fn line(upstream: &Upstream, status: &Status) -> String {
    let name = upstream.name();
    let state = status.state.word();
    let parts = match &status.state {
        State::Starting => Vec::new(),
        State::Up => described(upstream, status),
        State::Waiting(why) => vec![status.policy.clone(), trouble(why)],
        State::Degraded(why) | State::Suspect(why) => {
            let mut parts = described(upstream, status);
            parts.push(trouble(why));
            parts
        }
        State::Down(why) => vec![trouble(why)],
    };
    format!("upstream {name}: {state} · {}", parts.join(" · "))
}

/// What is wrong, and on a line of its own what to do.
pub(super) fn trouble(why: &Explanation) -> String {
    format!("{} · {}\n  fix: {}", why.reason, why.detail, why.remedy)
}

fn described(upstream: &Upstream, status: &Status) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(offer) = upstream.offer() {
        let counts =
            [(offer.tools.len(), "tool"), (offer.prompts.len(), "prompt"), (offer.resources.len() + offer.templates.len(), "resource")];
        let counted: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}{}", if *n == 1 { "" } else { "s" })).collect();
        parts.push(if counted.is_empty() { "offers nothing".to_owned() } else { counted.join(", ") });
    }
    if let Ok(generation) = upstream.generation() {
        parts.push(format!("MCP {}", generation.version()));
    }
    parts.push(status.policy.clone());
    parts
}

fn print(line: &str) {
    // There is nobody to tell if stderr is closed. One write, so that no log line comes between.
    let _ = Stderr.write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_how_many_serve() {
        let said = |serving: &[bool]| sum(serving.iter().copied());
        assert_eq!(said(&[true]), "the upstream is up");
        assert_eq!(said(&[true, true]), "all 2 upstreams are up");
        assert_eq!(said(&[true, false, false]), "1 of 3 upstreams is up; the others are tried again");
        assert_eq!(said(&[false, false]), "none of 2 upstreams is up; they are tried again");
    }

    #[test]
    fn a_later_change_has_its_time() {
        assert_eq!(stamp(Duration::from_secs(1_700_000_000)), "2023-11-14T22:13:20Z ");
        assert_eq!(stamp(Duration::MAX), "");
    }
}
