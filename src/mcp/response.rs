//! Putting the caller's id back into a response while it streams through.

use bytes::{Bytes, BytesMut};

use super::{Id, id::MAX_ID, json::unescape};

/// Reads one JSON-RPC response object in whatever pieces it arrives, and passes it on at once with its id replaced.
///
/// Only the members of the outermost object are read; their values are passed over by their brackets and quotes, so a result
/// of any size takes no memory. That the values are valid JSON is left to the receiver. Servers write `id` first, last and in
/// between, so what stands before it has been passed on when a wrong id is met: then the body must be cut off, so that the
/// caller sees a broken answer and not another's.
#[derive(Debug)]
pub struct ResponseScanner {
    expected: Id,
    restore: Id,
    state: State,
    seen: u8,
    /// The key being read, or the id: bytes that may come in pieces.
    held: BytesMut,
    /// Open brackets within a value of the outermost object.
    depth: u64,
    in_string: bool,
    escaped: bool,
    failed: Option<ScanError>,
}

/// Why a response must not be passed on (any further).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("the answer is not a JSON object")]
    NotAnObject,
    #[error("the answer's id is not the id of the request")]
    WrongId,
    #[error("the answer has no id")]
    MissingId,
    #[error("the answer's key `{0}` occurs twice")]
    DuplicateKey(&'static str),
    #[error("the answer is not a JSON-RPC response: not exactly one of `result` and `error`")]
    NotAResponse,
    #[error("the answer ends too early")]
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the outermost `{`.
    Before,
    /// Before a key; at the first one the object may end instead.
    Key {
        first: bool,
    },
    InKey,
    Colon,
    Value {
        id: bool,
    },
    /// Within a value that begins with a quote or a bracket.
    Inside {
        id: bool,
    },
    /// Within a number or a word, which ends before what follows it.
    Scalar {
        id: bool,
    },
    /// After a value.
    Next,
    /// After the outermost `}`.
    After,
}

const ID: u8 = 1;
const RESULT: u8 = 2;
const ERROR: u8 = 4;

/// A key longer than this is none that matters, even with every character escaped.
const MAX_KEY: usize = 64;

impl ResponseScanner {
    /// `expected`: the id the request went up with. `restore`: the id the caller gave it.
    pub fn new(expected: Id, restore: Id) -> Self {
        Self {
            expected,
            restore,
            state: State::Before,
            seen: 0,
            held: BytesMut::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            failed: None,
        }
    }

    /// Takes the next bytes and gives them on as slices of themselves.
    ///
    /// # Errors
    /// [`ScanError`], and the same at each later call. What was given on before must not be completed.
    pub fn push(&mut self, chunk: &Bytes, out: &mut impl FnMut(Bytes)) -> Result<(), ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.scan(chunk, out).inspect_err(|error| self.failed = Some(*error))
    }

    /// Ends the response.
    ///
    /// # Errors
    /// It is not complete, has no id, or neither result nor error.
    pub fn finish(self) -> Result<(), ScanError> {
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::After) => Ok(()),
            (None, _) => Err(ScanError::Truncated),
        }
    }

    /// Whether the response, as far as it was read, is an error.
    pub fn is_error(&self) -> bool {
        self.seen & ERROR != 0
    }

    fn scan(&mut self, chunk: &Bytes, out: &mut impl FnMut(Bytes)) -> Result<(), ScanError> {
        let mut at = 0;
        // Everything before `passed` was given on, or replaced.
        let mut passed = 0;
        while let Some(byte) = chunk.get(at).copied() {
            match self.state {
                State::Inside { id } | State::Scalar { id } => {
                    let rest = chunk.get(at..).unwrap_or_default();
                    let (length, ended) = self.pass_over(rest);
                    if id {
                        self.hold(rest.get(..length).unwrap_or_default())?;
                        passed = at + length;
                        if ended {
                            out(self.checked_id()?);
                        }
                    }
                    if ended {
                        self.state = State::Next;
                    }
                    at += length;
                }
                State::InKey => at += self.key(chunk.get(at..).unwrap_or_default())?,
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                State::Value { id } => {
                    let start = at;
                    at += self.begin_value(byte, id)?;
                    if id {
                        if start > passed {
                            out(chunk.slice(passed..start));
                        }
                        passed = at;
                    }
                }
                _ => {
                    self.structure(byte)?;
                    at += 1;
                }
            }
        }
        if at > passed {
            out(chunk.slice(passed..at));
        }
        Ok(())
    }

    /// A byte of the outermost object that is neither in a key nor in a value.
    fn structure(&mut self, byte: u8) -> Result<(), ScanError> {
        self.state = match (self.state, byte) {
            (State::Before, b'{') => State::Key { first: true },
            (State::Key { .. }, b'"') => {
                self.held.clear();
                self.held.extend_from_slice(b"\"");
                State::InKey
            }
            (State::Colon, b':') => State::Value { id: self.key_is_id()? },
            (State::Next, b',') => State::Key { first: false },
            (State::Next | State::Key { first: true }, b'}') => {
                if self.seen & ID == 0 {
                    return Err(ScanError::MissingId);
                }
                if self.seen & (RESULT | ERROR) == 0 {
                    return Err(ScanError::NotAResponse);
                }
                State::After
            }
            _ => return Err(ScanError::NotAnObject),
        };
        Ok(())
    }

    /// Reads on in a key; how many bytes were read.
    fn key(&mut self, rest: &[u8]) -> Result<usize, ScanError> {
        let (length, ended) = self.string(rest);
        let room = MAX_KEY.saturating_sub(self.held.len());
        self.held.extend_from_slice(rest.get(..length.min(room)).unwrap_or_default());
        if ended {
            self.state = State::Colon;
        }
        Ok(length)
    }

    /// Looks at the key that was read, and whether it is the id's.
    fn key_is_id(&mut self) -> Result<bool, ScanError> {
        // A key cut at `MAX_KEY` has no closing quote and so no text.
        let key = unescape(&self.held);
        let (bit, name) = match key.as_deref() {
            Some("id") => (ID, "id"),
            Some("result") => (RESULT, "result"),
            Some("error") => (ERROR, "error"),
            Some("method") => return Err(ScanError::NotAResponse),
            _ => return Ok(false),
        };
        if self.seen & bit != 0 {
            return Err(ScanError::DuplicateKey(name));
        }
        self.seen |= bit;
        if self.seen & RESULT != 0 && self.seen & ERROR != 0 {
            return Err(ScanError::NotAResponse);
        }
        self.held.clear();
        Ok(bit == ID)
    }

    /// Looks at the first byte of a value; how many bytes were read.
    fn begin_value(&mut self, byte: u8, id: bool) -> Result<usize, ScanError> {
        (self.depth, self.in_string, self.escaped) = (0, false, false);
        match byte {
            b'"' | b'0'..=b'9' | b'-' => {}
            _ if id => return Err(ScanError::WrongId),
            b'{' | b'[' | b't' | b'f' | b'n' => {}
            _ => return Err(ScanError::NotAnObject),
        }
        if !matches!(byte, b'"' | b'{' | b'[') {
            self.state = State::Scalar { id };
            return Ok(0);
        }
        self.state = State::Inside { id };
        if byte == b'"' {
            self.in_string = true;
            if id {
                self.held.extend_from_slice(b"\"");
            }
        } else {
            self.depth = 1;
        }
        Ok(1)
    }

    /// Passes over a value: how many bytes belong to it, and whether it ends with them.
    fn pass_over(&mut self, rest: &[u8]) -> (usize, bool) {
        if let State::Scalar { .. } = self.state {
            let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            return (end.unwrap_or(rest.len()), end.is_some());
        }
        let mut at = 0;
        while let Some(byte) = rest.get(at) {
            if self.in_string {
                let (length, ended) = self.string(rest.get(at..).unwrap_or_default());
                at += length;
                self.in_string = !ended;
                if ended && self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at, true);
                    }
                }
                _ => {}
            }
        }
        (at, false)
    }

    /// Passes over the rest of a string: how many bytes belong to it, and whether it ends with them.
    fn string(&mut self, rest: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < rest.len() {
            if std::mem::take(&mut self.escaped) {
                at += 1;
                continue;
            }
            let Some(found) = memchr::memchr2(b'"', b'\\', rest.get(at..).unwrap_or_default()) else {
                return (rest.len(), false);
            };
            at += found + 1;
            if rest.get(at - 1) == Some(&b'"') {
                return (at, true);
            }
            self.escaped = true;
        }
        (at, false)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        if self.held.len() + bytes.len() > MAX_ID {
            return Err(ScanError::WrongId);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn checked_id(&self) -> Result<Bytes, ScanError> {
        if self.expected.same(&self.held) { Ok(self.restore.clone().into_json()) } else { Err(ScanError::WrongId) }
    }
}

#[cfg(test)]
mod tests;
