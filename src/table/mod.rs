//! A table of the configuration file, and typed ways to take values out of it. Knows no TOML.
//!
//! A reader takes the keys it knows and then calls [`Table::finish`], which reports what is left over. Nothing stops at
//! the first problem: a taker records what is wrong and gives `None`, and the reader goes on with the default.

mod keys;
mod shape;
mod take;
mod units;
mod value;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

pub use keys::{Key, Keys, Stage, built, nearest, planned};
pub use shape::{ANY, Asked, Notes, Shape};
pub use take::{AnyOr, Span, sounds_secret};
pub use units::{duration, show_duration, show_size, size};
pub use value::{Item, Text, Value};

use crate::problem::Problems;

/// A table with the lines of its entries, in file order.
#[derive(Debug)]
pub struct Table {
    path: String,
    line: u32,
    entries: Vec<Entry>,
    origin: Arc<Origin>,
}

/// The file that a table comes from.
#[derive(Debug)]
pub struct Origin {
    /// Where relative paths start.
    pub folder: PathBuf,
    /// The file's permission bits when others than its owner may read it: then a secret in it is no secret.
    pub open_to_others: Option<u32>,
    /// Where is written down what readers ask for, where somebody wants to know.
    pub asked: Option<Arc<Asked>>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    line: u32,
    value: Value,
    taken: bool,
    /// Whether messages must not show the value.
    secret: bool,
}

/// How serious a finding about a key is.
#[derive(Clone, Copy)]
enum Grade {
    Error,
    Warning,
    Insecure,
}

impl Table {
    /// Makes an empty table at `path`, which is empty for the top level.
    pub fn new(path: impl Into<String>, line: u32, origin: Arc<Origin>) -> Self {
        Self { path: path.into(), line, entries: Vec::new(), origin }
    }

    /// Makes the table that the file does not have, so that its reader finds every key absent.
    pub fn absent(path: &str) -> Self {
        Self::new(path, 0, Arc::new(Origin { folder: PathBuf::new(), open_to_others: None, asked: None }))
    }

    /// Adds what the file says about `key`.
    pub fn push(&mut self, key: impl Into<String>, line: u32, value: Value) {
        self.entries.push(Entry { key: key.into(), line, value, taken: false, secret: false });
    }

    /// The dotted path, such as `mcp.servers.crm.tls`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line of the table's header, or of the key that holds it.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The line of every table and key from here on, by its dotted path.
    pub fn lines(&self) -> BTreeMap<String, u32> {
        let mut lines = BTreeMap::new();
        let mut open = vec![self];
        while let Some(table) = open.pop() {
            for entry in &table.entries {
                lines.insert(table.path_of(&entry.key), entry.line);
                match &entry.value {
                    Value::Table(inner) => open.push(inner),
                    Value::Array(items) => open.extend(items.iter().filter_map(|item| match &item.value {
                        Value::Table(inner) => Some(inner),
                        _ => None,
                    })),
                    _ => {}
                }
            }
        }
        lines
    }

    /// A digest (SHA-256) of every value, by its dotted path: two readings are compared without keeping a secret.
    pub fn digests(&self) -> BTreeMap<String, [u8; 32]> {
        let mut digests = BTreeMap::new();
        let mut open = vec![self];
        while let Some(table) = open.pop() {
            for entry in &table.entries {
                match &entry.value {
                    Value::Table(inner) => open.push(inner),
                    value => drop(digests.insert(table.path_of(&entry.key), value.digest())),
                }
            }
        }
        digests
    }

    /// Whether the file says anything about `key`, usable or not.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether `key` is just this text.
    pub fn says(&self, key: &str, text: &str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(&entry.value, Value::Text(said) if said.value.expose() == text))
    }

    /// Whether `key` holds a table, for keys that take a word or a table.
    pub fn holds_table(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(entry.value, Value::Table(_)))
    }

    /// `path` as it is, or starting at the file's folder when it is relative: absolute, so that it means the same everywhere.
    pub fn in_folder(&self, path: &str) -> String {
        let path = self.origin.folder.join(path);
        std::path::absolute(&path).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// The dotted path of a key in this table.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The line of `key`, or of the table when the key is absent.
    pub fn line_of(&self, key: &str) -> u32 {
        self.entry(key).map_or(self.line, |entry| entry.line)
    }

    /// Keeps the value of `key` out of every message from now on.
    pub fn hide(&mut self, key: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.secret = true;
        }
    }

    /// Takes `key` out of the table, as if the file did not have it.
    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// Reads what is under `from` as `to`; messages name `to` from now on, at the line of `from`.
    pub fn rename(&mut self, from: &str, to: &str) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key == from) {
            to.clone_into(&mut entry.key);
        }
    }

    /// Puts `to = value` in the place of `from`.
    pub fn set_bool(&mut self, from: &str, to: &str, value: bool) {
        self.rename(from, to);
        for entry in self.entries.iter_mut().filter(|entry| entry.key == to) {
            (entry.value, entry.taken) = (Value::Boolean(value), false);
        }
    }

    /// Leaves `keys` unread without reporting them as left over.
    pub fn ignore(&mut self, keys: &[&str]) {
        for entry in self.entries.iter_mut().filter(|entry| keys.contains(&entry.key.as_str())) {
            entry.taken = true;
        }
    }

    /// As [`Table::ignore`], for keys that may be there, whatever they hold.
    pub fn tolerate(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| self.asks(key, Shape::Whatever));
        self.ignore(keys);
    }

    /// `key` takes this.
    pub(super) fn asks(&self, key: &str, shape: Shape) {
        if let Some(asked) = &self.origin.asked {
            asked.key(&self.path, key, shape);
        }
    }

    /// The operator chooses the keys.
    pub(super) fn has_chosen_keys(&self) {
        if let Some(asked) = &self.origin.asked {
            asked.has_chosen_keys(&self.path);
        }
    }

    /// Reads what is under `from`, an older name, as `to`.
    pub fn takes_as(&mut self, from: &str, to: &str) {
        self.asks(from, Shape::Text);
        self.rename(from, to);
    }

    /// Refuses `key` (or, when it is empty, the table) with its line and what was typed.
    pub fn error(&self, key: &str, problems: &mut Problems, what: impl Into<String>, why: &str, remedy: &str) {
        self.report(Grade::Error, key, problems, what.into(), why, remedy);
    }

    /// Warns about `key` (or, when it is empty, the table).
    pub fn warn(&self, key: &str, problems: &mut Problems, what: impl Into<String>, why: &str, remedy: &str) {
        self.report(Grade::Warning, key, problems, what.into(), why, remedy);
    }

    /// Warns that `key` (or the table) weakens security; `insecure = "forbid"` makes it a refusal.
    pub fn insecure(&self, key: &str, problems: &mut Problems, what: impl Into<String>, why: &str, remedy: &str) {
        self.report(Grade::Insecure, key, problems, what.into(), why, remedy);
    }

    /// Reports every entry that nobody took: unknown, not built yet, or without effect here.
    pub fn finish(&self, keys: &'static Keys, problems: &mut Problems) {
        if let Some(asked) = &self.origin.asked {
            asked.judged(&self.path, keys);
        }
        for entry in &self.entries {
            debug_assert!(!entry.taken || keys.find(&entry.key).is_some(), "{} is missing in the key table", self.path_of(&entry.key));
            if !entry.taken {
                self.left_over(entry, keys, problems);
            }
        }
    }

    fn left_over(&self, entry: &Entry, keys: &Keys, problems: &mut Problems) {
        let path = self.path_of(&entry.key);
        let kind = if matches!(entry.value, Value::Table(_)) { "table" } else { "key" };
        match keys.find(&entry.key).map(|key| key.stage) {
            Some(Stage::Planned) => problems.error(
                &path,
                entry.line,
                format!("this {kind} is not built yet"),
                "it is planned, and a setting without effect would be believed to work",
                "remove it until a version of nexus supports it",
            ),
            Some(Stage::Built) => {
                let remedy = format!("remove {}", entry.key);
                problems.error(
                    &path,
                    entry.line,
                    format!("this {kind} has no effect here"),
                    "the other settings of the table exclude it",
                    remedy,
                );
            }
            None => {
                let known: Vec<&str> = keys.built().map(|key| key.name).collect();
                let remedy = match nearest(&entry.key, keys.keys.iter().map(|key| key.name)) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None if known.is_empty() => "remove it".to_owned(),
                    None => format!("known here: {}", known.join(", ")),
                };
                let why =
                    format!("{} knows no such {kind}, and a setting that is silently ignored is believed to work", shown_path(keys.table));
                problems.error(&path, entry.line, format!("unknown {kind}"), why, remedy);
            }
        }
        problems.typed(if kind == "table" { format!("[{path}]") } else { format!("{} = …", quoted(&entry.key)) });
    }

    fn report(&self, grade: Grade, key: &str, problems: &mut Problems, what: String, why: &str, remedy: &str) {
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        let line = self.line_of(key);
        match grade {
            Grade::Error => problems.error(&path, line, what, why, remedy),
            Grade::Warning => problems.warn(&path, line, what, why, remedy),
            Grade::Insecure => problems.insecure(&path, line, what, why, remedy),
        }
        if let Some(entry) = self.entry(key) {
            problems.typed(entry.shown());
        }
    }

    /// A value as it was typed, for a message: what a template stands for may be a secret. `index`: of a list's entry.
    pub fn typed(&self, key: &str, index: Option<usize>) -> String {
        match self.entry(key).filter(|entry| !entry.secret).map(|entry| (&entry.value, index)) {
            Some((Value::Array(items), Some(index))) => items.get(index).map_or_else(|| "…".to_owned(), |item| item.value.shown()),
            Some((value, None)) => value.shown(),
            Some((_, Some(_))) | None => "…".to_owned(),
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Entry {
    /// The entry as typed, the value only where it is no secret.
    fn shown(&self) -> String {
        let value = if self.secret { "…".to_owned() } else { self.value.shown() };
        format!("{} = {value}", quoted(&self.key))
    }
}

/// Joins a table's path and a key as TOML writes it.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { quoted(key) } else { format!("{path}.{}", quoted(key)) }
}

fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { key.to_owned() } else { format!("{key:?}") }
}

fn shown_path(path: &str) -> String {
    if path.is_empty() { "the file".to_owned() } else { format!("`[{path}]`") }
}
