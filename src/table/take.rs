//! The typed takers: each marks its key as known, and records what is wrong with the value.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{Item, Shape, Table, Value, join, nearest, units};
use crate::{problem::Problems, secret::Secret};

/// Bounds of a duration.
pub type Span = RangeInclusive<Duration>;

/// Everything, or what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyOr {
    Any,
    These(Vec<String>),
}

/// What a key takes, and how it is written.
type Form<'a> = (&'a str, &'a str);

const TEXT: Form<'_> = ("a string", "write it in quotes");

impl Table {
    /// A string; what it may hold is the caller's business.
    pub fn string(&mut self, key: &str, problems: &mut Problems) -> Option<String> {
        self.asks(key, Shape::Text);
        self.take(key, TEXT, problems, |value| match value {
            Value::Text(text) => Ok(text.value.expose().to_owned()),
            other => Err(format!("expected a string, found {}", other.kind())),
        })
    }

    /// A string that no message shows. Warned about when it stands literally in a file that others can read.
    pub fn secret(&mut self, key: &str, problems: &mut Problems) -> Option<Secret> {
        let secret = self.private(key, problems)?;
        self.warn_of_literal(key, problems);
        Some(secret)
    }

    /// A string that no message shows, because it may be a secret.
    ///
    /// `named` is what it belongs to, such as a header's name: the warning about literal secrets depends on it.
    pub fn possible_secret(&mut self, key: &str, named: &str, problems: &mut Problems) -> Option<Secret> {
        self.secret_if(key, |_| sounds_secret(named), problems)
    }

    /// As [`Self::possible_secret`], for a value that tells by itself whether it holds a secret.
    pub fn secret_if(&mut self, key: &str, is_secret: impl FnOnce(&str) -> bool, problems: &mut Problems) -> Option<Secret> {
        let value = self.private(key, problems)?;
        if is_secret(value.expose()) {
            self.warn_of_literal(key, problems);
        }
        Some(value)
    }

    pub fn bool(&mut self, key: &str, problems: &mut Problems) -> Option<bool> {
        self.asks(key, Shape::Bool);
        self.take(key, ("true or false", "write true or false, without quotes"), problems, |value| match value {
            Value::Boolean(value) => Ok(*value),
            other => Err(format!("expected true or false, found {}", other.kind())),
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, range: RangeInclusive<u32>, problems: &mut Problems) -> Option<usize> {
        self.asks(key, Shape::Integer(range.clone()));
        let form = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, (&form, "write it without quotes and without a fraction"), problems, |value| match value {
            Value::Integer(number) => match u32::try_from(*number) {
                Ok(number) if range.contains(&number) => Ok(number as usize),
                _ => Err("the number is out of range".to_owned()),
            },
            other => Err(format!("expected a whole number, found {}", other.kind())),
        })
    }

    /// A duration such as `"30s"`, or whole seconds, within `range`.
    pub fn duration(&mut self, key: &str, range: &Span, problems: &mut Problems) -> Option<Duration> {
        self.asks(key, Shape::Duration(range.clone()));
        let form = format!("a duration from {} to {}", units::show_duration(*range.start()), units::show_duration(*range.end()));
        self.take(key, (&form, "write it as \"250ms\", \"30s\", \"10m\", \"1h\", \"7d\", or in whole seconds"), problems, |value| {
            duration_in(value, range)
        })
    }

    /// `true` for `usual`, `false` for nothing, or a duration within `range`.
    pub fn switch_or_duration(&mut self, key: &str, usual: Duration, range: &Span, problems: &mut Problems) -> Option<Duration> {
        self.asks(key, Shape::Bool);
        self.asks(key, Shape::Duration(range.clone()));
        let form =
            format!("true, false, or a duration from {} to {}", units::show_duration(*range.start()), units::show_duration(*range.end()));
        let read = |value: &Value| match value {
            Value::Boolean(on) => Ok(on.then_some(usual)),
            other => duration_in(other, range).map(Some),
        };
        self.take(key, (&form, "write true or false without quotes, or a duration such as \"365d\""), problems, read).flatten()
    }

    /// A size such as `"4MiB"`, or whole bytes, within `range`.
    pub fn size(&mut self, key: &str, range: &RangeInclusive<u64>, problems: &mut Problems) -> Option<usize> {
        self.asks(key, Shape::Size(range.clone()));
        let form = format!("a size from {} to {}", units::show_size(*range.start()), units::show_size(*range.end()));
        self.take(key, (&form, "write it as \"64KiB\", \"4MiB\", or in whole bytes"), problems, |value| {
            let bytes = match value {
                Value::Text(text) => units::size(text.value.expose()).ok_or("this is no size")?,
                Value::Integer(bytes) => u64::try_from(*bytes).map_err(|_| "the size is negative")?,
                other => return Err(format!("expected a size, found {}", other.kind())),
            };
            if !range.contains(&bytes) {
                return Err("the size is out of range".to_owned());
            }
            usize::try_from(bytes).map_err(|_| "the size is out of range".to_owned())
        })
    }

    /// A path; a relative one starts at the file's folder.
    pub fn path_value(&mut self, key: &str, problems: &mut Problems) -> Option<PathBuf> {
        self.asks(key, Shape::Text);
        let folder = self.origin.folder.clone();
        self.take(key, ("a path", "write it in quotes; a relative path starts at the file's folder"), problems, |value| match value {
            Value::Text(text) if text.value.expose().is_empty() => Err("the path is empty".to_owned()),
            Value::Text(text) if text.value.expose().contains('\0') => Err("the path holds a NUL character".to_owned()),
            Value::Text(text) => Ok(folder.join(text.value.expose())),
            other => Err(format!("expected a path, found {}", other.kind())),
        })
    }

    /// The path of one of our own endpoints, such as `/mcp`.
    pub fn endpoint_path(&mut self, key: &str, problems: &mut Problems) -> Option<String> {
        self.asks(key, Shape::Text);
        let form = ("a path that starts with `/`, of letters, digits, `/`, `-`, `_`, `.` and `~`", "write it as \"/mcp\"");
        self.take(key, form, problems, |value| {
            let Value::Text(text) = value else { return Err(format!("expected a string, found {}", value.kind())) };
            let path = text.value.expose();
            let valid = path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~'));
            if valid && path.starts_with('/') && !path.contains("//") {
                Ok(path.to_owned())
            } else {
                Err("this is no path of an endpoint".to_owned())
            }
        })
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
        self.asks(key, Shape::Strings);
        self.take(key, ("a list of strings", "write it as [\"…\", \"…\"]"), problems, |value| {
            let Value::Array(items) = value else { return Err(format!("expected a list of strings, found {}", value.kind())) };
            let mut texts = Vec::with_capacity(items.len());
            for Item { value, .. } in items {
                match value {
                    Value::Text(text) => texts.push(text.value.expose().to_owned()),
                    Value::Unusable => return Ok(None),
                    other => return Err(format!("expected strings in the list, found {}", other.kind())),
                }
            }
            Ok(Some(texts))
        })
        .flatten()
    }

    /// The word `"any"` (or `"*"`), or a list of strings.
    pub fn any_or_strings(&mut self, key: &str, problems: &mut Problems) -> Option<AnyOr> {
        self.asks(key, Shape::Any);
        self.asks(key, Shape::Strings);
        let is_word = self.entry(key).is_some_and(|entry| matches!(entry.value, Value::Text(_)));
        if !is_word {
            let listed = self.strings(key, problems)?;
            return Some(if listed.iter().any(|entry| entry == "*") { AnyOr::Any } else { AnyOr::These(listed) });
        }
        self.take(key, ("\"any\" or a list of strings", "write it as \"any\" or [\"…\", \"…\"]"), problems, |value| match value {
            Value::Text(text) if matches!(text.value.expose(), "any" | "*") => Ok(AnyOr::Any),
            _ => Err("this is neither \"any\" nor a list".to_owned()),
        })
    }

    /// A list of strings that no message shows. Warned about when it stands literally in a file that others can read.
    pub fn secrets(&mut self, key: &str, problems: &mut Problems) -> Option<Vec<Secret>> {
        self.asks(key, Shape::Strings);
        self.hide(key);
        let secrets = self
            .take(key, ("a list of strings", "write it as [\"{{ env.NAME }}\"]"), problems, |value| {
                let Value::Array(items) = value else { return Err(format!("expected a list of strings, found {}", value.kind())) };
                let mut secrets = Vec::with_capacity(items.len());
                for Item { value, .. } in items {
                    match value {
                        Value::Text(text) => secrets.push(text.value.clone()),
                        Value::Unusable => return Ok(None),
                        other => return Err(format!("expected strings in the list, found {}", other.kind())),
                    }
                }
                Ok(Some(secrets))
            })
            .flatten()?;
        if !secrets.is_empty() {
            self.warn_of_literal(key, problems);
        }
        Some(secrets)
    }

    /// One of a few words. `planned` are words that are known but do not work yet.
    pub fn choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)], planned: &[&str], problems: &mut Problems) -> Option<T> {
        self.asks(key, Shape::Words(words.iter().map(|(word, _)| (*word).to_owned()).collect()));
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let form = if let [only] = known.as_slice() { format!("only {only}") } else { format!("one of {}", known.join(", ")) };
        self.take(key, (&form, "write one of these words"), problems, |value| {
            let Value::Text(text) = value else { return Err(format!("expected a string, found {}", value.kind())) };
            let typed = text.value.expose();
            match words.iter().find(|(word, _)| *word == typed) {
                Some((_, choice)) => Ok(*choice),
                None if planned.contains(&typed) => Err(format!("\"{typed}\" is not built yet")),
                None => Err(match nearest(typed, words.iter().map(|(word, _)| *word)) {
                    Some(word) => format!("unknown value; did you mean \"{word}\"?"),
                    None => "unknown value".to_owned(),
                }),
            }
        })
    }

    /// A table within this one, moved out of it.
    pub fn table(&mut self, key: &str, problems: &mut Problems) -> Option<Self> {
        self.asks(key, Shape::Table);
        let write = format!("write it as [{}]", self.path_of(key));
        self.take_out(key, ("a table", &write), problems, |value| match value {
            Value::Table(table) => Ok(table),
            other => Err((format!("expected a table, found {}", other.kind()), other)),
        })
    }

    /// A list of tables within this one, moved out of it.
    pub fn tables(&mut self, key: &str, problems: &mut Problems) -> Vec<Self> {
        self.asks(key, Shape::Tables);
        let write = format!("write each as [[{}]]", self.path_of(key));
        self.take_out(key, ("a list of tables", &write), problems, |value| match value {
            Value::Array(items) if items.iter().all(|item| matches!(item.value, Value::Table(_) | Value::Unusable)) => {
                Ok(items.into_iter().filter_map(|item| if let Value::Table(table) = item.value { Some(table) } else { None }).collect())
            }
            other => Err(("expected a list of tables".to_owned(), other)),
        })
        .unwrap_or_default()
    }

    /// All entries as tables with their keys, where the operator chooses the keys.
    pub fn into_tables(self, problems: &mut Problems) -> Vec<(String, Self)> {
        self.has_chosen_keys();
        let mut tables = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            match entry.value {
                Value::Table(table) => tables.push((entry.key, table)),
                Value::Unusable => {}
                other => {
                    let path = join(&self.path, &entry.key);
                    let what = format!("expected a table, found {}", other.kind());
                    problems.error(&path, entry.line, what, "each entry here has settings of its own", format!("write it as [{path}]"));
                }
            }
        }
        tables
    }

    /// The keys of all entries, where the operator chooses them.
    pub fn names(&self) -> Vec<String> {
        self.has_chosen_keys();
        self.entries.iter().map(|entry| entry.key.clone()).collect()
    }

    /// Whether a literal value here would be readable by others.
    fn warn_of_literal(&mut self, key: &str, problems: &mut Problems) {
        let is_literal = |value: &Value| matches!(value, Value::Text(text) if text.literal);
        let literal = self.entry(key).is_some_and(|entry| match &entry.value {
            Value::Array(items) => items.iter().any(|item| is_literal(&item.value)),
            value => is_literal(value),
        });
        let Some(mode) = self.origin.open_to_others.filter(|_| literal) else { return };
        self.insecure(
            key,
            problems,
            "a secret stands in a file that others can read",
            &format!("the file's mode is {mode:o}: every user of this machine can take the secret"),
            "use \"{{ env.NAME }}\" or \"{{ file(\\\"/run/secrets/…\\\") }}\", or chmod 600 the file",
        );
    }

    fn private(&mut self, key: &str, problems: &mut Problems) -> Option<Secret> {
        self.asks(key, Shape::Text);
        self.hide(key);
        self.take(key, TEXT, problems, |value| match value {
            Value::Text(text) => Ok(text.value.clone()),
            other => Err(format!("expected a string, found {}", other.kind())),
        })
    }

    fn take<T>(&mut self, key: &str, form: Form<'_>, problems: &mut Problems, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.taken = true;
        if matches!(entry.value, Value::Unusable) {
            return None;
        }
        match read(&entry.value) {
            Ok(value) => Some(value),
            Err(what) => {
                self.wrong(key, form, what, problems);
                None
            }
        }
    }

    fn take_out<T>(
        &mut self,
        key: &str,
        form: Form<'_>,
        problems: &mut Problems,
        read: impl FnOnce(Value) -> Result<T, (String, Value)>,
    ) -> Option<T> {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key)?;
        entry.taken = true;
        let value = std::mem::replace(&mut entry.value, Value::Unusable);
        if matches!(value, Value::Unusable) {
            return None;
        }
        match read(value) {
            Ok(value) => Some(value),
            Err((what, value)) => {
                // What was expected to be a table may hold anything, so its content is not shown.
                entry.secret = true;
                entry.value = value;
                self.wrong(key, form, what, problems);
                None
            }
        }
    }

    fn wrong(&self, key: &str, (takes, write): Form<'_>, what: String, problems: &mut Problems) {
        self.error(key, problems, what, &format!("`{key}` takes {takes}"), write);
    }
}

fn duration_in(value: &Value, range: &Span) -> Result<Duration, String> {
    let duration = match value {
        Value::Text(text) => units::duration(text.value.expose()).ok_or("this is no duration")?,
        Value::Integer(seconds) => Duration::from_secs(u64::try_from(*seconds).map_err(|_| "the duration is negative")?),
        other => return Err(format!("expected a duration, found {}", other.kind())),
    };
    if range.contains(&duration) { Ok(duration) } else { Err("the duration is out of range".to_owned()) }
}

/// Whether a header or variable of this name usually holds a secret.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "secret", "password", "passwd", "key", "credential", "auth", "cookie", "session"].iter().any(|word| name.contains(word))
}
