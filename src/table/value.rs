//! What stands behind a key, after templates were filled in.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

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
    /// SHA-256 over the value and its kind; nested no deeper than the file may be.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        self.digest_into(&mut context);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn digest_into(&self, context: &mut Context) {
        context.update(self.kind().as_bytes());
        let mut framed = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        match self {
            Self::Text(text) => framed(text.value.expose().as_bytes()),
            Self::Integer(number) => framed(&number.to_be_bytes()),
            Self::Boolean(value) => framed(&[u8::from(*value)]),
            Self::Other(kind) => framed(kind.as_bytes()),
            Self::Unusable => {}
            Self::Array(items) => {
                framed(&(items.len() as u64).to_be_bytes());
                for item in items {
                    item.value.digest_into(context);
                }
            }
            Self::Table(table) => {
                for (path, digest) in table.digests() {
                    framed(path.as_bytes());
                    framed(&digest);
                }
            }
        }
    }

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
