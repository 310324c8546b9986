//! Changing a few bytes of a JSON text and keeping all others.

use bytes::Bytes;

use super::{
    Field, Message, Span,
    json::{Cursor, JsonError, quote, unescape},
};

/// Replacements collected by their place in one text, applied together into one allocation.
///
/// The places are those in the text as it is before any replacement.
#[derive(Clone, Debug, Default)]
pub struct Splices {
    edits: Vec<(Span, Bytes)>,
}

/// The `_meta` keys that carry what a legacy session would know (MCP 2026-07-28, basic, "Per-request protocol fields").
pub const RESERVED_META: [Field; 4] =
    [Field::MetaProtocolVersion, Field::MetaClientInfo, Field::MetaClientCapabilities, Field::MetaLogLevel];

impl Splices {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub fn replace(&mut self, span: Span, with: impl Into<Bytes>) {
        self.edits.push((span, with.into()));
    }

    pub fn insert(&mut self, at: u32, what: impl Into<Bytes>) {
        self.replace(Span { start: at, end: at }, what);
    }

    pub fn remove(&mut self, span: Span) {
        self.replace(span, Bytes::new());
    }

    /// Replaces a string literal by another text.
    pub fn replace_string(&mut self, literal: Span, text: &str) {
        self.replace(literal, quote(text));
    }

    /// Puts `prefix` in front of the text of a string literal and keeps the literal as it was written.
    pub fn prefix_string(&mut self, literal: Span, prefix: &str) {
        let quoted = Bytes::from(quote(prefix));
        self.insert(literal.start.saturating_add(1), quoted.slice(1..quoted.len() - 1));
    }

    /// Removes every member of an object whose key `drop` names, and puts the members of `add` (raw JSON values) at its front.
    ///
    /// All changes to the member list of one object go in one call, as the commas depend on each other; values of members
    /// that stay may be replaced besides.
    ///
    /// # Errors
    /// `object` is not the span of an object in `text`.
    pub fn edit_object(&mut self, text: &[u8], object: Span, drop: impl Fn(&str) -> bool, add: &[(&str, &[u8])]) -> Result<(), JsonError> {
        let mut cursor = Cursor::new(object.of(text));
        let mut kept_end: Option<u32> = None;
        let mut dropped_from: Option<u32> = None;
        let mut dropped_end = 0;
        cursor.enter_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            let key_start = key.shifted(object.start).start;
            let value_end = value.shifted(object.start).end;
            if unescape(key.of(object.of(text))).is_some_and(|key| drop(&key)) {
                dropped_from.get_or_insert(key_start);
                dropped_end = value_end;
                continue;
            }
            if let Some(start) = dropped_from.take() {
                self.remove(Span { start, end: key_start });
            }
            kept_end = Some(value_end);
        }
        if let Some(start) = dropped_from {
            self.remove(Span { start: kept_end.unwrap_or(start), end: dropped_end });
        }
        if !add.is_empty() {
            let mut front = members(add);
            if kept_end.is_some() {
                front.push(b',');
            }
            self.insert(object.start.saturating_add(1), front);
        }
        Ok(())
    }

    /// Sets one member of an object to a raw JSON value, wherever and however often it was there before.
    ///
    /// # Errors
    /// As [`Splices::edit_object`].
    pub fn set_member(&mut self, text: &[u8], object: Span, key: &str, value: &[u8]) -> Result<(), JsonError> {
        self.edit_object(text, object, |present| present == key, &[(key, value)])
    }

    /// Removes the [`RESERVED_META`] keys from a request's `params._meta`, keeps all its others, and adds `add` there.
    ///
    /// Makes `params` and `_meta` where there are none; a `_meta` that is no object is replaced. With nothing to add and
    /// nothing to remove, nothing changes.
    pub fn request_meta(&mut self, message: &Message, add: &[(&str, &[u8])]) {
        let text = message.bytes();
        let is_object = |span: &Span| span.of(text).starts_with(b"{");
        let meta = || object(add);
        let wrapped = || object(&[("_meta", &meta())]);
        let reserved = |key: &str| RESERVED_META.iter().any(|field| field.key() == key) || add.iter().any(|(added, _)| *added == key);
        match (message.params_span(), message.meta_span()) {
            (Some(_), Some(span)) if is_object(&span) => {
                self.edit_object(text, span, reserved, add).expect("a message's spans hold valid JSON: it was parsed");
            }
            _ if add.is_empty() => {}
            (Some(_), Some(span)) => self.replace(span, meta()),
            (Some(params), None) if is_object(&params) => {
                self.edit_object(text, params, |_| false, &[("_meta", &meta())]).expect("a message's spans hold valid JSON: it was parsed");
            }
            (Some(params), None) => self.replace(params, wrapped()),
            (None, _) => {
                let start = memchr::memchr(b'{', text).unwrap_or_default();
                let mut member = members(&[("params", &wrapped())]);
                // A message has at least `jsonrpc`, so a comma always belongs here.
                member.push(b',');
                self.insert(Span::new(start + 1, start + 1).start, member);
            }
        }
    }

    /// The text with every replacement made.
    ///
    /// # Panics
    /// Two replacements overlap or lie outside the text. That depends on which spans were chosen, never on what the text says.
    pub fn apply(&self, text: &Bytes) -> Bytes {
        if self.edits.is_empty() {
            return text.clone();
        }
        let mut edits: Vec<&(Span, Bytes)> = self.edits.iter().collect();
        // Stable: what is inserted at one place comes in the order of the calls, and before what starts there.
        edits.sort_by_key(|(span, _)| (span.start, !span.is_empty()));
        let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(text.len() + added);
        let mut done = 0;
        for (span, with) in edits {
            let span = span.range();
            out.extend_from_slice(text.get(done..span.start).expect("replacements do not overlap: each span is a member of its own"));
            out.extend_from_slice(with);
            done = span.end;
        }
        out.extend_from_slice(text.get(done..).expect("replacements lie within the text their spans were read from"));
        Bytes::from(out)
    }
}

/// `"key":value,"key":value` from raw JSON values.
fn members(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(members.iter().map(|(key, value)| key.len() + value.len() + 4).sum());
    for (key, value) in members {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&quote(key));
        out.push(b':');
        out.extend_from_slice(value);
    }
    out
}

/// A JSON object of raw JSON values.
pub fn object(of: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![b'{'];
    out.extend_from_slice(&members(of));
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests;
