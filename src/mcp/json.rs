//! A pull reader over JSON text that remembers where things are.
//!
//! It accepts what `serde_json` accepts (RFC 8259, strictly) and refuses what is nested too deeply, in one pass, without
//! recursion and without allocating; a property test holds it to that. `serde_json` itself skips a value without any depth
//! limit and without saying where a member's key stood, and both are needed here.

use std::{borrow::Cow, ops::Range};

/// How deep arrays and objects may nest: what `serde_json` gives a typed reader before it refuses.
pub const MAX_DEPTH: u32 = 127;

/// A range of byte offsets into a text of less than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Offsets past 4 GiB are clamped; [`Cursor::new`] reads no further than that.
    pub fn new(start: usize, end: usize) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(start), end: clamp(end) }
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of the span; empty when it does not lie within `text`.
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// The same place in a text in which this one begins at `offset`.
    #[must_use]
    pub fn shifted(self, offset: u32) -> Self {
        Self { start: self.start.saturating_add(offset), end: self.end.saturating_add(offset) }
    }

    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// Why a text is not JSON we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not JSON: {expected} expected at byte {at}")]
    Syntax { at: usize, expected: &'static str },
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Reads a JSON text from front to back.
///
/// Containers are walked with `enter_object`/`next_key` and `enter_array`/`next_item`; each key or item must be followed by
/// exactly one `value` or one walk into it.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
    /// The container was just entered: no comma stands before its first member.
    fresh: bool,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte. The text must be UTF-8; the caller checks that, once, for the whole text.
    pub fn new(text: &'a [u8]) -> Self {
        let text = text.get(..u32::MAX as usize).unwrap_or(text);
        Self { text, at: 0, depth: 0, fresh: false }
    }

    /// The first byte of the next token, not consumed.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Steps into an object.
    ///
    /// # Errors
    /// No object begins here, or it is nested too deeply.
    pub fn enter_object(&mut self) -> Result<(), JsonError> {
        self.enter(b'{', "an object")
    }

    /// Steps into an array.
    ///
    /// # Errors
    /// No array begins here, or it is nested too deeply.
    pub fn enter_array(&mut self) -> Result<(), JsonError> {
        self.enter(b'[', "an array")
    }

    fn enter(&mut self, bracket: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(bracket) {
            return Err(self.expected(expected));
        }
        if self.depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.depth += 1;
        self.fresh = true;
        Ok(())
    }

    /// The next key of the object (with its quotes), or `None` at its end, which is then left.
    ///
    /// # Errors
    /// The object is malformed.
    pub fn next_key(&mut self) -> Result<Option<Span>, JsonError> {
        if !self.more(b'}', "`,` or `}`")? {
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// Whether another item of the array follows; at its end the array is left.
    ///
    /// # Errors
    /// The array is malformed.
    pub fn next_item(&mut self) -> Result<bool, JsonError> {
        self.more(b']', "`,` or `]`")
    }

    fn more(&mut self, close: u8, expected: &'static str) -> Result<bool, JsonError> {
        let fresh = std::mem::take(&mut self.fresh);
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            Some(_) if fresh => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn key(&mut self) -> Result<Span, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key"));
        }
        let start = self.at;
        self.string()?;
        let span = Span::new(start, self.at);
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        Ok(span)
    }

    /// Checks and passes over one value of any kind and size.
    ///
    /// # Errors
    /// The value is malformed or nested too deeply.
    pub fn value(&mut self) -> Result<Span, JsonError> {
        // One bit a level: set for an object. `MAX_DEPTH` levels fit.
        let mut objects: u128 = 0;
        let mut levels = 0u32;
        self.fresh = false;
        let first = self.peek();
        let start = self.at;
        let mut next = first;
        loop {
            match next {
                Some(open @ (b'{' | b'[')) => {
                    if self.depth + levels >= MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    self.at += 1;
                    let (object, close) = if open == b'{' { (1, b'}') } else { (0, b']') };
                    if self.peek() == Some(close) {
                        self.at += 1;
                    } else {
                        objects = objects << 1 | object;
                        levels += 1;
                        if object == 1 {
                            self.key()?;
                        }
                        next = self.peek();
                        continue;
                    }
                }
                _ => self.scalar(next)?,
            }
            // A value is complete: go on with its neighbour, or close what it ends.
            loop {
                if levels == 0 {
                    return Ok(Span::new(start, self.at));
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        next = self.peek();
                        break;
                    }
                    Some(b'}') if object => self.at += 1,
                    Some(b']') if !object => self.at += 1,
                    _ => return Err(self.expected(if object { "`,` or `}`" } else { "`,` or `]`" })),
                }
                objects >>= 1;
                levels -= 1;
            }
        }
    }

    /// Ends the text: only white space may follow.
    ///
    /// # Errors
    /// Something else follows.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    /// The offset of the next byte to be read.
    pub fn offset(&self) -> usize {
        self.at
    }

    fn scalar(&mut self, first: Option<u8>) -> Result<(), JsonError> {
        match first {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.expected("a value"))
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        match self.text.get(self.at) {
            Some(b'0'..=b'9') => Err(self.expected("no digit after a leading zero")),
            _ => Ok(()),
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    /// Passes over a string; `at` stands on its opening quote.
    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            self.at += plain_prefix(self.text.get(self.at..).unwrap_or_default());
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.expected("no control character in a string")),
                None => return Err(self.expected("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.text.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.expected("four hexadecimal digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax { at: self.at, expected }
    }
}

/// How many bytes stand before the first quote, backslash or control character.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let mut at = 0;
    for chunk in bytes.chunks_exact(8) {
        // Eight bytes at a time. `(x - ONES·n) & !x` has a byte's high bit set if that byte is below n; a borrow can set it
        // wrongly in a higher byte only after a true hit, and a hit is looked at byte by byte below.
        let word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let hit = control | (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash);
        if hit & HIGH != 0 {
            break;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| special(*byte)).unwrap_or(rest.len())
}

/// The text of a string literal (quotes included), unescaped; borrowed when nothing is escaped.
///
/// `None` when it is not a string, or holds a lone surrogate and so has no text.
pub fn unescape(literal: &[u8]) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if plain_prefix(inner) == inner.len() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(literal).ok().map(Cow::Owned)
}

/// A string as a JSON literal, quotes included.
pub fn quote(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string serialises: no map key and no writer can fail")
}

/// Calls `member` with the key (unescaped) and the place of the value of each member of an object, in their order.
///
/// A key that has no text, by a lone surrogate, is left out.
///
/// # Errors
/// `object` does not begin with a well-formed object.
pub fn for_each_member(object: &[u8], mut member: impl FnMut(&str, Span)) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(object);
    cursor.enter_object()?;
    while let Some(key) = cursor.next_key()? {
        let value = cursor.value()?;
        if let Some(key) = unescape(key.of(object)) {
            member(&key, value);
        }
    }
    Ok(())
}

/// The value found by going from `object` through members of members; of equal keys the last counts, as for most readers.
///
/// `None` when a step is missing, leads into something that is no object, or the text is malformed.
pub fn lookup<'a>(object: &'a [u8], path: &[impl AsRef<str>]) -> Option<&'a [u8]> {
    let mut at = object;
    for step in path {
        let mut found = None;
        for_each_member(at, |key, value| {
            if key == step.as_ref() {
                found = Some(value);
            }
        })
        .ok()?;
        at = found?.of(at);
    }
    Some(at)
}

/// Calls `item` with the place of each item of an array.
///
/// # Errors
/// `array` does not begin with a well-formed array.
pub fn for_each_item(array: &[u8], mut item: impl FnMut(Span)) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(array);
    cursor.enter_array()?;
    while cursor.next_item()? {
        item(cursor.value()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
