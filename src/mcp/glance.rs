//! What a response comes to, in a few words, read while it passes in whatever pieces.

use super::json::unescape;

/// What a response says of the request's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glanced {
    Result,
    /// A tool's result with `isError` (MCP 2025-11-25, server/tools, "Error Handling").
    ToolError,
    /// The client is asked for more first (MCP 2026-07-28, basic/patterns/mrtr).
    InputRequired,
    /// With its code, where that is a whole number.
    Error(Option<i64>),
}

/// Reads one response object. It only looks: what is no response comes to nothing in particular, and is refused elsewhere.
///
/// Of equal keys the last counts. Nothing is kept but the key or the short value that is being read.
#[derive(Debug, Default)]
pub struct Glance {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The string or word being read is kept.
    keeps: bool,
    key_is_next: bool,
    outer: Option<Outer>,
    /// Within the object that `outer` names.
    is_within: bool,
    inner: Option<Inner>,
    held: Vec<u8>,
    is_tool_error: bool,
    is_input_required: bool,
    is_error: bool,
    code: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outer {
    Result,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    IsError,
    ResultType,
    Code,
}

/// Anything longer is neither a key nor a value that matters, even with every character escaped.
const MAX_HELD: usize = 128;

impl Glance {
    /// Takes the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some((byte, after)) = rest.split_first() {
            if !self.in_string {
                self.structure(*byte);
                rest = after;
                continue;
            }
            if std::mem::take(&mut self.escaped) {
                self.hold(&[*byte]);
                rest = after;
                continue;
            }
            let end = memchr::memchr2(b'"', b'\\', rest);
            let (read, unread) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            self.hold(read);
            rest = unread;
            match read.last() {
                Some(b'"') if end.is_some() => self.string_ends(),
                Some(b'\\') if end.is_some() => self.escaped = true,
                _ => {}
            }
        }
    }

    /// What was read so far comes to this.
    pub fn outcome(&self) -> Glanced {
        match self {
            Self { is_error: true, code, .. } => Glanced::Error(*code),
            Self { is_input_required: true, .. } => Glanced::InputRequired,
            Self { is_tool_error: true, .. } => Glanced::ToolError,
            _ => Glanced::Result,
        }
    }

    fn structure(&mut self, byte: u8) {
        let is_inner = self.depth == 2 && self.is_within;
        match byte {
            b'"' => {
                self.in_string = true;
                self.keeps = (self.depth == 1 && self.key_is_next) || (is_inner && (self.key_is_next || self.inner.is_some()));
                self.held.clear();
                self.hold(b"\"");
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth == 2 {
                    self.is_within = byte == b'{' && self.outer.is_some();
                    self.is_error |= self.is_within && self.outer == Some(Outer::Error);
                }
                self.key_is_next = byte == b'{' && (self.depth == 1 || (self.depth == 2 && self.is_within));
                self.held.clear();
            }
            b'}' | b']' => {
                if is_inner {
                    self.value_ends();
                    self.is_within = false;
                }
                self.depth = self.depth.saturating_sub(1);
                self.key_is_next = false;
            }
            b':' if self.depth == 1 || is_inner => {
                self.key_is_next = false;
                self.held.clear();
            }
            b',' if self.depth == 1 => {
                self.outer = None;
                self.key_is_next = true;
            }
            b',' if is_inner => {
                self.value_ends();
                self.key_is_next = true;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ if is_inner && self.inner.is_some() => {
                self.keeps = true;
                self.hold(&[byte]);
            }
            _ => {}
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.keeps {
            let room = MAX_HELD.saturating_sub(self.held.len());
            self.held.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn string_ends(&mut self) {
        self.in_string = false;
        if !(self.keeps && self.key_is_next) {
            return;
        }
        // One that was cut has no closing quote, and so no text.
        let key = unescape(&self.held);
        match (self.depth, key.as_deref(), self.outer) {
            (1, Some("result"), _) => self.outer = Some(Outer::Result),
            (1, Some("error"), _) => self.outer = Some(Outer::Error),
            (2, Some("isError"), Some(Outer::Result)) => self.inner = Some(Inner::IsError),
            (2, Some("resultType"), Some(Outer::Result)) => self.inner = Some(Inner::ResultType),
            (2, Some("code"), Some(Outer::Error)) => self.inner = Some(Inner::Code),
            _ => {}
        }
        self.held.clear();
    }

    fn value_ends(&mut self) {
        match self.inner.take() {
            Some(Inner::IsError) => self.is_tool_error = self.held == b"true",
            Some(Inner::ResultType) => self.is_input_required = unescape(&self.held).as_deref() == Some("input_required"),
            Some(Inner::Code) => self.code = std::str::from_utf8(&self.held).ok().and_then(|code| code.parse().ok()),
            None => {}
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glanced(text: &str) -> Glanced {
        let mut whole = Glance::default();
        whole.push(text.as_bytes());
        let mut pieces = Glance::default();
        text.as_bytes().chunks(1).for_each(|piece| pieces.push(piece));
        assert_eq!(whole.outcome(), pieces.outcome(), "{text}");
        whole.outcome()
    }

    #[test]
    fn what_a_response_comes_to_is_read_wherever_it_stands() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, Glanced::Result),
            (r#"{"result":{"content":[{"isError":true}],"isError":false},"id":1}"#, Glanced::Result),
            (r#"{"result":{"content":[{"text":"\"isError\":true,\\"}]},"id":1}"#, Glanced::Result),
            (r#"{"result":{"_meta":{"isError":true}},"isError":true,"id":1}"#, Glanced::Result),
            (r#"{"result":[{"isError":true}]}"#, Glanced::Result),
            (r#"{"result":{"isError":"true"}}"#, Glanced::Result),
            (r#"{"result":{"isError":{"a":true}}}"#, Glanced::Result),
            (r#"{"result":{"content":[],"isError":true}}"#, Glanced::ToolError),
            ("{ \"id\" : 7,\n\"result\" : {\t\"isErr\\u006fr\" : true , \"content\" : [ ] } }", Glanced::ToolError),
            (r#"{"result":{"structuredContent":{"a":[1,{"b":2}]},"isError":true,"x":"y"},"id":"z"}"#, Glanced::ToolError),
            (r#"{"result":{"resultType":"input_required","requestState":"x"}}"#, Glanced::InputRequired),
            (r#"{"result":{"resultType":"complete","requestState":"input_required"}}"#, Glanced::Result),
            (r#"{"error":{"code":-32602,"message":"no"},"id":1}"#, Glanced::Error(Some(-32602))),
            (r#"{"id":1,"error":{"message":"no","data":{"code":5},"code": 12 }}"#, Glanced::Error(Some(12))),
            (r#"{"error":{"message":"no"}}"#, Glanced::Error(None)),
            (r#"{"error":{"code":"7"}}"#, Glanced::Error(None)),
            (r#"{"error":null,"result":{}}"#, Glanced::Result),
        ] {
            assert_eq!(glanced(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_of_what_passes_is_kept() {
        let mut glance = Glance::default();
        glance.push(br#"{"result":{"isError":"#);
        glance.push(&vec![b'1'; 1 << 20]);
        glance.push(br#","resultType":""#);
        glance.push(&vec![b'x'; 1 << 20]);
        assert!(glance.held.len() <= MAX_HELD && glance.held.capacity() <= 2 * MAX_HELD);
    }

    proptest::proptest! {
        #[test]
        fn what_is_no_response_does_no_harm(bytes: Vec<u8>) {
            let mut glance = Glance::default();
            glance.push(&bytes);
            let _ = glance.outcome();
        }
    }
}
