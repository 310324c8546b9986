//! What stands behind a key, after templates were filled in.

use std::fmt;

use super::Table;
use crate::secret::Secret;

/// A value as it stands in the file.
#[derive(Debug)]
pub enum Value {
    Text(Text),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Item>),
    Table(Table),
    /// A kind of value that no key takes, in words: a number with a fraction, a date.
    Other(&'static str),
    /// There, but not usable: its problem is already recorded, or its template was not filled in on purpose.
    Unusable,
}

/// One element of an array.
#[derive(Debug)]
pub struct Item {
    pub line: u32,
    pub value: Value,
}

/// A string. Any string may be a secret, so `Debug` shows none.
pub struct Text {
    /// Templates filled in.
    pub value: Secret,
    /// As it stands in the file.
    pub typed: Secret,
    /// Whether the file itself holds the value, rather than a template.
    pub literal: bool,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[text]")
    }
}

impl Value {
    /// What it is, with its article, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
            Self::Unusable => "something else",
        }
    }

    /// How it was typed, bounded in length and without what could disturb a terminal.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => {
                let typed = text.typed.expose();
                let short: String = typed.chars().take(80).collect();
                let more = if short.len() < typed.len() { "…" } else { "" };
                format!("{:?}", format!("{short}{more}"))
            }
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Array(_) => "[…]".to_owned(),
            Self::Table(_) => "{…}".to_owned(),
            Self::Other(_) | Self::Unusable => "…".to_owned(),
        }
    }
}
