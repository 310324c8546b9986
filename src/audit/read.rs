//! `[telemetry] audit`, read.

use super::{AuditConfig, Target};
use crate::{
    problem::Problems,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "telemetry.audit",
    doc: "One JSON line for each call: who, what, with which outcome.",
    keys: &[
        built("path", "The file that lines are appended to; `\"-\"` is stdout."),
        built("include", "What else lines hold: `[\"arguments\"]` for those of calls."),
    ],
};

/// The table's settings; `None` where it says no path, which is a problem.
pub fn read(mut table: Table, problems: &mut Problems) -> Option<AuditConfig> {
    let is_stdout = table.says("path", "-");
    let target = table.path_value("path", problems).map(|path| if is_stdout { Target::Stdout } else { Target::File(path) });
    if target.is_none() && !table.has("path") {
        table.error("", problems, "an audit trail without a path", "nothing says where its lines go", "add path = \"audit.jsonl\"");
    }
    let include = table.strings("include", problems).unwrap_or_default();
    for word in include.iter().filter(|word| *word != "arguments") {
        let why = "results and headers are never written, and everything else always is";
        table.error("include", problems, format!("\"{word}\" cannot be included"), why, "write include = [\"arguments\"], or leave it out");
    }
    table.finish(&KEYS, problems);
    Some(AuditConfig { target: target?, arguments: !include.is_empty() })
}
