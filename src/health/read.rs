//! `[certificates]`: from the file to [`CertificatesConfig`].

mod channel;

use std::{num::NonZeroU32, time::Duration};

pub use channel::ALERT_KEYS;

use super::{config::CertificatesConfig, threshold::Thresholds};
use crate::{
    problem::Problems,
    table::{Keys, Table, built, duration},
};

pub const KEYS: Keys = Keys {
    table: "certificates",
    doc: "How upstreams and certificates are watched, and who is told.",
    keys: &[
        built("warn_before", "How long before its end a certificate is told of; scaled to its lifetime."),
        built("probe_before_swap", "A new identity or CA set is tried by a handshake before it replaces a working one."),
        built("probe_interval", "Between two checks of one upstream."),
        built("failures_before_down", "Failed checks in a row after which an upstream is down."),
        built("alerts", "Who is told, in a list of tables."),
    ],
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More points in time than these help nobody.
const MAX_SPANS: usize = 16;
/// More receivers than these are a slip.
const MAX_CHANNELS: usize = 32;

/// Reads `[certificates]`; absent, everything has its default and nobody is told.
pub fn read(table: Option<Table>, problems: &mut Problems) -> CertificatesConfig {
    let Some(mut table) = table else { return CertificatesConfig::default() };
    let table = &mut table;
    let default = CertificatesConfig::default();
    let failures = table.integer("failures_before_down", 1..=100, problems);
    let mut config = CertificatesConfig {
        warn_before: warn_before(table, problems).unwrap_or(default.warn_before),
        probe_before_swap: table.bool("probe_before_swap", problems).unwrap_or(default.probe_before_swap),
        probe_interval: table.duration("probe_interval", &(Duration::from_secs(10)..=DAY), problems).unwrap_or(default.probe_interval),
        failures_before_down: failures
            .and_then(|failures| NonZeroU32::new(u32::try_from(failures).ok()?))
            .unwrap_or(default.failures_before_down),
        alerts: Vec::new(),
    };
    let channels = table.tables("alerts", problems);
    if channels.len() > MAX_CHANNELS {
        let what = format!("{} channels", channels.len());
        table.error("alerts", problems, what, "each has a queue and a connection of its own", "keep at most 32");
    }
    config.alerts = channels.into_iter().filter_map(|channel| channel::read(channel, problems)).collect();
    table.finish(&KEYS, problems);
    config
}

fn warn_before(table: &mut Table, problems: &mut Problems) -> Option<Thresholds> {
    let texts = table.strings("warn_before", problems)?;
    let write = "write it as [\"30d\", \"14d\", \"7d\", \"1d\"]";
    if texts.len() > MAX_SPANS {
        let what = format!("{} durations", texts.len());
        table.error("warn_before", problems, what, "a certificate is told of once for each of them", "keep at most 16");
        return None;
    }
    let mut spans = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let span = duration(text).filter(|span| (Duration::from_secs(60)..=DAY * 3650).contains(span));
        let Some(span) = span else {
            table.error(
                "warn_before",
                problems,
                format!("{} is no duration from 1m to 3650d", table.typed("warn_before", Some(index))),
                "it is a span before a certificate's end",
                write,
            );
            return None;
        };
        spans.push(span);
    }
    Some(Thresholds::new(spans))
}
