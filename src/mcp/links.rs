//! The URIs that a result gives: of resource links, embedded resources and MCP Apps.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::json::unescape;

/// Longest URI that is remembered, as JSON.
const MAX_URI: usize = 2048;
/// Most URIs of one result.
const MAX_FOUND: usize = 64;
/// Longest key that is looked for, `"ui/resourceUri"`.
const MAX_KEY: usize = 16;

/// The end of every key that is looked for: `"uri"` and `"resourceUri"`.
static KEY_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("ri\""));
/// What says that a result gives URIs at all: the types `"resource"` and `"resource_link"`, and the key `"resourceUri"`.
static SAYS_SO: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"resource"));

/// Looks for URIs in a JSON text that goes by in pieces: two plain searches in each, and nothing is read as JSON but the
/// string after a key that was found. A text without such a key takes no memory.
#[derive(Debug, Default)]
pub struct LinkScanner {
    says_so: bool,
    found: Vec<String>,
    /// The last bytes, in which a key may begin.
    tail: Tail,
    /// What follows a key that was found, as far as it has come.
    open: Option<Vec<u8>>,
}

/// What follows a key.
enum Value {
    Uri(String),
    /// It goes on in the next piece.
    Unfinished,
    Other,
}

impl LinkScanner {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        if let Some(mut value) = self.open.take() {
            let room = MAX_URI.saturating_sub(value.len());
            value.extend_from_slice(piece.get(..room).unwrap_or(piece));
            self.value(&value);
        } else if !self.tail.is_empty() {
            self.straddling(piece);
        }
        self.says_so |= SAYS_SO.find(piece).is_some();
        for at in KEY_END.find_iter(piece) {
            let end = at + KEY_END.needle().len();
            if piece.get(..end).and_then(key_at_end).is_some() {
                self.value(piece.get(end..).unwrap_or_default());
            }
        }
        self.tail.follow(piece);
    }

    /// Whether the text so far gives any.
    pub fn has_links(&self) -> bool {
        self.says_so && !self.found.is_empty()
    }

    /// Those that are new.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    /// Finds what begins in the last piece and ends in this one.
    fn straddling(&mut self, piece: &[u8]) {
        let mut both = [0; 2 * MAX_KEY];
        let before = self.tail.length;
        let head = piece.get(..MAX_KEY).unwrap_or(piece);
        let parts = self.tail.bytes().iter().chain(head);
        let length = both.iter_mut().zip(parts).map(|(to, from)| *to = *from).count();
        let both = both.get(..length).unwrap_or_default();
        self.says_so |= SAYS_SO.find(both).is_some();
        for at in KEY_END.find_iter(both) {
            let end = at + KEY_END.needle().len();
            let key = both.get(..end).and_then(key_at_end);
            if let Some(length) = key.filter(|length| end > before && end - length < before) {
                debug_assert!(length <= MAX_KEY);
                self.value(piece.get(end - before..).unwrap_or_default());
            }
        }
    }

    fn value(&mut self, after: &[u8]) {
        match value(after) {
            Value::Uri(uri) if self.found.len() < MAX_FOUND => self.found.push(uri),
            Value::Unfinished => self.open = Some(after.to_vec()),
            Value::Uri(_) | Value::Other => {}
        }
    }
}

/// The length of the key that a text ends with, if it is one of those.
fn key_at_end(text: &[u8]) -> Option<usize> {
    let keys: [&[u8]; 3] = [b"\"uri\"", b"\"resourceUri\"", b"\"ui/resourceUri\""];
    keys.iter().find(|key| text.ends_with(key)).map(|key| key.len())
}

/// Reads `: "…"`.
fn value(after: &[u8]) -> Value {
    let Some(string) = after.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start) else {
        return if after.trim_ascii_start().is_empty() && after.len() < MAX_URI { Value::Unfinished } else { Value::Other };
    };
    let unfinished = if after.len() < MAX_URI { Value::Unfinished } else { Value::Other };
    if string.is_empty() {
        return unfinished;
    }
    let Some(inner) = string.strip_prefix(b"\"") else { return Value::Other };
    let inner = inner.get(..MAX_URI).unwrap_or(inner);
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'"', b'\\', inner.get(from..).unwrap_or_default()) {
        if inner.get(from + at) == Some(&b'"') {
            let literal = string.get(..from + at + 2).unwrap_or_default();
            let uri = unescape(literal).filter(|uri| uri.contains(':'));
            return uri.map_or(Value::Other, |uri| Value::Uri(uri.into_owned()));
        }
        from += at + 2;
    }
    unfinished
}

/// The last bytes of what went by.
#[derive(Debug, Default)]
struct Tail {
    bytes: [u8; MAX_KEY],
    length: usize,
}

impl Tail {
    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn follow(&mut self, piece: &[u8]) {
        let kept = MAX_KEY.saturating_sub(piece.len()).min(self.length);
        let from = self.length - kept;
        self.bytes.copy_within(from..self.length, 0);
        let end = piece.get(piece.len().saturating_sub(MAX_KEY)..).unwrap_or_default();
        for (to, byte) in self.bytes.iter_mut().skip(kept).zip(end) {
            *to = *byte;
        }
        self.length = kept + end.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str, size: usize) -> Vec<String> {
        let mut scanner = LinkScanner::default();
        text.as_bytes().chunks(size).for_each(|piece| scanner.push(piece));
        if scanner.has_links() { scanner.take() } else { Vec::new() }
    }

    #[test]
    fn links_are_found_in_any_pieces() {
        let text = r#"{"content":[{"type":"resource_link","name":"n","uri":"file:///a"},{"uri" : "x://b\u002fc","type":"resource_link"},
            {"type":"resource","resource":{"text":"t","uri":"ui://app/1?q=\"w\""}}],"_meta":{"ui":{"resourceUri":"ui://app/2"}}}"#;
        let expected = ["file:///a", "x://b/c", "ui://app/1?q=\"w\"", "ui://app/2"];
        for size in 1..=text.len() {
            assert_eq!(links(text, size), expected, "pieces of {size}");
        }
        assert_eq!(links(r#"{"_meta":{"ui/resourceUri":"ui://old"},"type":"resource"}"#, 3), ["ui://old"]);
    }

    #[test]
    fn what_is_no_link_is_left_alone() {
        for text in [
            // Nothing says that a result gives resources.
            r#"{"structuredContent":{"uri":"https://a"}}"#,
            // Within a text.
            r#"{"content":[{"type":"text","text":"{\"type\":\"resource_link\",\"uri\":\"file:///a\"}"}],"resource":1}"#,
            r#"{"type":"resource","uri":7,"xuri":"a://b","uri2":"a://b","a":"uri"}"#,
            r#"{"type":"resource","uri":"no scheme"}"#,
            r#"{"type":"resource","uri":"a://unfinished"#,
            r#"{"type":"resource","uri"#,
        ] {
            for size in [1, 2, 5, text.len()] {
                assert_eq!(links(text, size), [""; 0], "{text}");
            }
        }
    }

    #[test]
    fn an_endless_uri_and_endless_links_take_bounded_memory() {
        let mut scanner = LinkScanner::default();
        scanner.push(br#"{"type":"resource","uri":"a://"#);
        for _ in 0..1000 {
            scanner.push(&[b'x'; 1000]);
            assert!(scanner.open.as_ref().is_none_or(|open| open.len() <= MAX_URI));
        }
        scanner.push(b"\",");
        for n in 0..1000 {
            scanner.push(format!(r#""uri":"b://{n}","#).as_bytes());
        }
        assert_eq!(scanner.take().len(), MAX_FOUND);
    }
}
