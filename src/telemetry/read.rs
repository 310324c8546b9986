//! `[telemetry]`, read.

use crate::{
    audit::{self, AuditConfig},
    problem::Problems,
    table::{Keys, Table, built, planned},
};

pub const KEYS: Keys = Keys {
    table: "telemetry",
    doc: "What is written down of calls.",
    keys: &[
        built("audit", "The audit trail: who called what, with which outcome."),
        planned("service_name", "The name of this gateway."),
        planned("resource_attributes", "What else is said of it."),
        planned("exporters", "Where OpenTelemetry data goes."),
        planned("tracing", "Traces."),
        planned("metrics", "Metrics."),
        planned("logs", "Logs by OpenTelemetry."),
        planned("log", "The log's form and level."),
    ],
};

/// What only observes is not worth refusing a file of Grafbase's Nexus for.
const IGNORED: &[&str] = &["service_name", "resource_attributes", "exporters", "tracing", "metrics", "logs"];

/// `[telemetry]`, checked.
#[derive(Clone, Debug, Default)]
pub struct TelemetryConfig {
    /// Absent: none is written.
    pub audit: Option<AuditConfig>,
}

pub fn read(table: Option<Table>, problems: &mut Problems) -> TelemetryConfig {
    let Some(mut table) = table else { return TelemetryConfig::default() };
    let audit = table.table("audit", problems).and_then(|audit| audit::read::read(audit, problems));
    table.tolerate(IGNORED);
    if IGNORED.iter().any(|key| table.has(key)) {
        let why = "exporting by OpenTelemetry is not built yet; nothing of this gateway's calls depends on it";
        table.warn("", problems, "telemetry is read and nothing is sent", why, "use /metrics of [admin] for Prometheus, and the log");
    }
    table.finish(&KEYS, problems);
    TelemetryConfig { audit }
}
