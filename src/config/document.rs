//! TOML text to a [`Table`] with lines and filled-in templates: the only place that names the TOML library.

use std::{ops::Range, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::template::{self, Fill};
use crate::{
    problem::Problems,
    secret::Secret,
    sources::Sources,
    table::{Item, Origin, Table, Text, Value, join},
};

/// Tables within tables; the schema needs five levels.
const MAX_DEPTH: usize = 16;

/// A table that belongs to other software and is left alone.
pub(super) const FOREIGN: &str = "llm";

/// Reads the whole text, recording every syntax error and every template that cannot be filled in.
pub(super) fn parse(text: &str, origin: Origin, fill: Fill, sources: &dyn Sources, problems: &mut Problems) -> Table {
    let lines = Lines::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(0, |span| lines.of(&span));
        problems.error(
            "",
            line,
            format!("this is not valid TOML: {}", error.message()),
            "the file cannot be read as it stands",
            "correct the line",
        );
    }
    let mut reader = Reader { lines, origin: Arc::new(origin), sources, problems };
    reader.table(root.get_ref(), String::new(), 1, fill, 0)
}

/// Where each line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    fn of(&self, span: &Range<usize>) -> u32 {
        u32::try_from(self.0.partition_point(|newline| *newline < span.start) + 1).unwrap_or(u32::MAX)
    }
}

struct Reader<'a> {
    lines: Lines,
    origin: Arc<Origin>,
    sources: &'a dyn Sources,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn table(&mut self, from: &DeTable<'_>, path: String, line: u32, fill: Fill, depth: usize) -> Table {
        let fill = if is_disabled_server(&path, from) { Fill::Nothing } else { fill };
        let mut table = Table::new(path, line, Arc::clone(&self.origin));
        for (key, value) in from {
            let line = self.lines.of(&key.span());
            let key: &str = key.get_ref();
            if depth == 0 && key == FOREIGN {
                self.skip(line);
                continue;
            }
            let path = join(table.path(), key);
            let value = self.value(value.get_ref(), path, line, fill, depth + 1);
            table.push(key, line, value);
        }
        table
    }

    fn value(&mut self, from: &DeValue<'_>, path: String, line: u32, fill: Fill, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            let why = format!("no setting is deeper than {MAX_DEPTH} levels");
            self.problems.error(&path, line, "this is nested too deeply", why, "remove it");
            return Value::Unusable;
        }
        match from {
            DeValue::String(text) => self.text(text, &path, line, fill),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Other("a number that is too large"),
            },
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let line = self.lines.of(&item.span());
                        Item { line, value: self.value(item.get_ref(), format!("{path}[{index}]"), line, fill, depth + 1) }
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table, path, line, fill, depth)),
        }
    }

    fn text(&mut self, typed: &str, path: &str, line: u32, fill: Fill) -> Value {
        match template::fill(typed, &self.origin.folder, fill, self.sources) {
            Ok(template::Filled { value: Some(value), literal }) => Value::Text(Text { value, typed: Secret::new(typed), literal }),
            Ok(template::Filled { value: None, .. }) => Value::Unusable,
            Err(error) => {
                let why = "the value cannot be had without it; what a template yields is never printed";
                self.problems.error(path, line, error.to_string(), why, error.remedy());
                Value::Unusable
            }
        }
    }

    fn skip(&mut self, line: u32) {
        self.problems.warn(
            FOREIGN,
            line,
            "this table is skipped",
            "LLM routing is not part of this gateway; its templates are not filled in either",
            "remove the table, or keep it for the software that reads it",
        );
    }
}

/// Whether `path` is `mcp.servers.NAME` and switched off: then its variables and files need not be there.
fn is_disabled_server(path: &str, table: &DeTable<'_>) -> bool {
    let is_server = path.strip_prefix("mcp.servers.").is_some_and(|name| name.starts_with('"') || !name.contains('.'));
    is_server && table.get("enabled").is_some_and(|enabled| enabled.get_ref().as_bool() == Some(false))
}
