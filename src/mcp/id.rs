//! The id of a JSON-RPC message, as its own bytes.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

use super::json::{quote, unescape};

/// Longest id accepted, in bytes of JSON text: an id is stored for as long as its request is open.
pub const MAX_ID: usize = 256;

/// A JSON-RPC id: the raw JSON text of a string or an integer, so that `1` stays `1` and `"1"` stays `"1"`.
///
/// Equality and hash are those of the raw text; [`Id::same`] also sees through escapes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Bytes);

impl Id {
    /// Takes the raw JSON text of an id.
    ///
    /// # Errors
    /// In words: it is neither a string nor an integer (MCP 2025-11-25 and 2026-07-28, basic, "Requests"), or too long.
    pub fn from_json(raw: Bytes) -> Result<Self, &'static str> {
        if raw.len() > MAX_ID {
            return Err("the id is longer than 256 bytes");
        }
        match raw.first() {
            Some(b'"') if unescape(&raw).is_some() => Ok(Self(raw)),
            Some(b'-' | b'0'..=b'9') if is_integer(&raw) => Ok(Self(raw)),
            _ => Err("the id is neither a string nor an integer"),
        }
    }

    pub fn from_u64(number: u64) -> Self {
        Self(Bytes::from(number.to_string()))
    }

    pub fn from_string(text: &str) -> Self {
        Self(Bytes::from(quote(text)))
    }

    /// The raw JSON text.
    pub fn as_json(&self) -> &[u8] {
        &self.0
    }

    pub fn into_json(self) -> Bytes {
        self.0
    }

    /// The number, if the id is one that a counter of ours could have made.
    pub fn as_u64(&self) -> Option<u64> {
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }

    /// The text, if the id is a string.
    pub fn as_string(&self) -> Option<Cow<'_, str>> {
        unescape(&self.0)
    }

    /// Whether `raw` is the same id, whatever way its string is escaped. A number never equals a string.
    pub fn same(&self, raw: &[u8]) -> bool {
        self.0 == raw || matches!((unescape(&self.0), unescape(raw)), (Some(ours), Some(theirs)) if ours == theirs)
    }
}

fn is_integer(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    let canonical = digits.len() == 1 || digits.first() != Some(&b'0');
    canonical && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strings_and_integers_are_ids() {
        for good in ["1", "-7", "0", "18446744073709551616", "\"\"", "\"a\\u0062\""] {
            assert!(Id::from_json(Bytes::from(good)).is_ok(), "{good}");
        }
        for bad in ["", "null", "true", "1.0", "1e3", "01", "-", "{}", "[1]", "\"a", "\"", "\"\\ud800\""] {
            assert!(Id::from_json(Bytes::from(bad)).is_err(), "{bad}");
        }
        assert!(Id::from_json(Bytes::from(format!("\"{}\"", "x".repeat(255)))).is_err());
        assert!(Id::from_json(Bytes::from(format!("\"{}\"", "x".repeat(254)))).is_ok());
    }

    #[test]
    fn an_id_keeps_its_type_and_sees_through_escapes() {
        assert_ne!(Id::from_u64(1), Id::from_string("1"));
        assert!(!Id::from_u64(1).same(b"\"1\""));
        assert!(Id::from_string("ab").same(br#""\u0061b""#));
        assert_eq!(Id::from_u64(7).as_u64(), Some(7));
        assert_eq!(Id::from_string("7").as_u64(), None);
    }
}
