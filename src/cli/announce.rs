//! The lines that an operator sees: listeners, and the state of each upstream whenever it changes.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, interval};

use crate::{
    gateway::Gateway,
    telemetry::Style,
    upstream::{State, Status, Upstream},
};

/// How often the live line of a terminal is drawn anew.
const FRAME: Duration = Duration::from_millis(200);

/// Prints to stderr: logs go there too, and stdout is for data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcer {
    style: Style,
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

    /// Follows every upstream until the gateway ends. Cancel-safe.
    pub(super) async fn follow(self, gateway: &Arc<Gateway>) {
        let watches = gateway.upstreams().iter().map(|upstream| self.follow_one(upstream));
        let all = futures_util::future::join_all(watches);
        tokio::join!(all, self.draw_progress(gateway));
    }

    async fn follow_one(self, upstream: &Upstream) {
        let mut changes = upstream.status();
        let mut said: Option<String> = None;
        loop {
            let status = changes.borrow_and_update().clone();
            if status.state != State::Starting {
                let line = line(upstream, &status);
                if said.as_ref() != Some(&line) {
                    self.report(upstream, &status, &line);
                    said = Some(line);
                }
            }
            if changes.changed().await.is_err() {
                return;
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

    /// On a terminal, a line that says what is still awaited, until nothing is.
    async fn draw_progress(self, gateway: &Arc<Gateway>) {
        if self.style == Style::Json || !std::io::stderr().is_terminal() {
            return;
        }
        let began = Instant::now();
        let mut frames = interval(FRAME);
        frames.tick().await;
        while !gateway.all_tried() {
            frames.tick().await;
            let waiting: Vec<_> = gateway
                .upstreams()
                .iter()
                .filter(|upstream| !upstream.status().borrow().tried)
                .map(|upstream| upstream.name().as_str())
                .collect();
            let total = gateway.upstreams().len();
            let shown = waiting.iter().take(4).copied().collect::<Vec<_>>().join(", ");
            let more = if waiting.len() > 4 { ", …" } else { "" };
            let text =
                format!("{} of {total} upstreams tried, waiting {} s for {shown}{more}", total - waiting.len(), began.elapsed().as_secs());
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn line(upstream: &Upstream, status: &Status) -> String {
    let name = upstream.name();
    let state = status.state.word();
    let parts = match &status.state {
        State::Starting => Vec::new(),
        State::Up => described(upstream, status),
        State::Degraded(why) => {
            let mut parts = described(upstream, status);
            parts.extend([why.reason.code().to_owned(), why.detail.clone(), format!("fix: {}", why.remedy)]);
            parts
        }
        State::Down(why) => vec![why.reason.code().to_owned(), why.detail.clone(), format!("fix: {}", why.remedy)],
    };
    format!("upstream {name}: {state} · {}", parts.join(" · "))
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
    // The live line of a terminal, if one is drawn, makes room.
    let clear = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(std::io::stderr(), "{clear}{line}");
}
