//! One JSON-RPC message: its bytes, checked, and the places of what a gateway decides on.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    Id, Span,
    errors::code,
    field::{Field, Level},
    json::{Cursor, JsonError, unescape},
};

/// A single JSON-RPC 2.0 message as MCP uses it: `params` is an object, an id is a string or an integer.
///
/// Made only by [`Message::parse`], so whoever holds one has valid JSON, nested at most
/// [`MAX_DEPTH`](super::json::MAX_DEPTH) deep, in which no [`Field`] occurs twice.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    kind: Kind,
    method: Option<Box<str>>,
    id: Option<Id>,
    spans: Spans,
}

/// What a message is, by the members it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Request,
    Notification,
    Response,
    ErrorResponse,
}

/// Why bytes are not a message, with the id to answer under if it could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    pub id: Option<Id>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    #[error(transparent)]
    NotJson(#[from] JsonError),
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 { at: usize },
    #[error("larger than 4 GiB")]
    TooLarge,
    /// A JSON array. Only MCP 2025-03-26 has batches; `batch::split` takes one apart.
    #[error("a batch where one message is expected")]
    Batch,
    #[error("{0}")]
    Invalid(&'static str),
    /// Readers disagree about which of two equal keys counts, so a message with two can be let in as one thing and be
    /// executed as another.
    #[error("the key `{0}` occurs twice")]
    DuplicateKey(&'static str),
}

impl ParseError {
    /// The JSON-RPC error code to answer with (JSON-RPC 2.0, section 5.1).
    pub fn code(&self) -> i64 {
        match self.kind {
            ParseErrorKind::NotJson(JsonError::Syntax { .. }) | ParseErrorKind::NotUtf8 { .. } => code::PARSE_ERROR,
            ParseErrorKind::NotJson(JsonError::TooDeep)
            | ParseErrorKind::TooLarge
            | ParseErrorKind::Batch
            | ParseErrorKind::Invalid(_)
            | ParseErrorKind::DuplicateKey(_) => code::INVALID_REQUEST,
        }
    }
}

impl From<ParseErrorKind> for ParseError {
    fn from(kind: ParseErrorKind) -> Self {
        Self { kind, id: None }
    }
}

impl Message {
    /// Reads one message, in one pass over its bytes.
    ///
    /// `arguments`, `result`, `error` and everything unknown are checked for being JSON and passed over. A duplicate key is
    /// looked for only among the [`Field`]s, after unescaping, and also in another letter case, because some servers ignore it.
    ///
    /// # Errors
    /// [`ParseError`] says what it is instead; its `id` is set whenever the message had a valid one.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(ParseErrorKind::TooLarge.into());
        }
        if let Err(error) = std::str::from_utf8(&bytes) {
            return Err(ParseErrorKind::NotUtf8 { at: error.valid_up_to() }.into());
        }
        let mut scan = Scan { text: &bytes, cursor: Cursor::new(&bytes), spans: Spans::default(), problem: None };
        scan.message()?;
        let Scan { spans, problem, .. } = scan;
        let id = read_id(&bytes, &spans);
        let checked = match problem {
            Some(problem) => Err(problem),
            None => id.clone().and_then(|id| Self::check(&bytes, &spans, id.is_some())),
        };
        let id = id.unwrap_or_default();
        match checked {
            Ok((kind, method)) => Ok(Self { bytes, kind, method, id, spans }),
            Err(kind) => Err(ParseError { kind, id }),
        }
    }

    fn check(text: &[u8], spans: &Spans, has_id: bool) -> Result<(Kind, Option<Box<str>>), ParseErrorKind> {
        let invalid = |why| Err(ParseErrorKind::Invalid(why));
        let string = |field| spans.get(field).and_then(|span| unescape(span.of(text)));
        let has = |field| spans.get(field).is_some();
        if string(Field::Jsonrpc).as_deref() != Some("2.0") {
            return invalid("`jsonrpc` is not \"2.0\"");
        }
        let is_null = |span: Span| span.of(text) == b"null";
        if let Some(params) = spans.get(Field::Params)
            && !params.of(text).starts_with(b"{")
            && !is_null(params)
        {
            return invalid("`params` is not an object");
        }
        match (has(Field::Method), has(Field::Result), has(Field::Error)) {
            (true, false, false) => {
                let Some(method) = string(Field::Method) else { return invalid("`method` is not a string") };
                match (spans.get(Field::Id), has_id) {
                    (None, _) => Ok((Kind::Notification, Some(method.into()))),
                    (Some(_), true) => Ok((Kind::Request, Some(method.into()))),
                    (Some(_), false) => invalid("the id of a request is null"),
                }
            }
            (false, true, false) if has_id => Ok((Kind::Response, None)),
            (false, true, false) => invalid("a result without an id"),
            (false, false, true) => Ok((Kind::ErrorResponse, None)),
            _ => invalid("not exactly one of `method`, `result` and `error`"),
        }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id. Always there in a request and a response, never in a notification; an error response to something unreadable
    /// has none, or a null.
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// The method, unescaped; empty in a response.
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or_default()
    }

    /// Where the value of a member lies: of a string, with its quotes.
    pub fn span(&self, field: Field) -> Option<Span> {
        self.spans.get(field)
    }

    /// The raw JSON of a member, sharing the message's memory.
    pub fn raw(&self, field: Field) -> Option<Bytes> {
        self.span(field).map(|span| self.bytes.slice(span.range()))
    }

    /// The text of a member that is a string; `None` if it is anything else.
    pub fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        unescape(self.span(field)?.of(&self.bytes))
    }

    /// `params.name`: of a tool or a prompt.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.text(Field::Name)
    }

    pub fn name_span(&self) -> Option<Span> {
        self.span(Field::Name)
    }

    /// `params.uri`: of a resource.
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        self.text(Field::Uri)
    }

    pub fn uri_span(&self) -> Option<Span> {
        self.span(Field::Uri)
    }

    /// `params.cursor`; `""` is a valid one.
    pub fn cursor(&self) -> Option<Cow<'_, str>> {
        self.text(Field::Cursor)
    }

    pub fn task_id(&self) -> Option<Cow<'_, str>> {
        self.text(Field::TaskId)
    }

    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`: its presence makes a request a modern one.
    pub fn meta_protocol_version(&self) -> Option<Cow<'_, str>> {
        self.text(Field::MetaProtocolVersion)
    }

    /// `params.requestId` of a `notifications/cancelled`.
    pub fn cancelled_id(&self) -> Option<Id> {
        self.raw(Field::RequestId).and_then(|raw| Id::from_json(raw).ok())
    }

    pub fn id_span(&self) -> Option<Span> {
        self.span(Field::Id)
    }

    pub fn params_span(&self) -> Option<Span> {
        self.span(Field::Params)
    }

    pub fn meta_span(&self) -> Option<Span> {
        self.span(Field::Meta)
    }

    pub fn result_span(&self) -> Option<Span> {
        self.span(Field::Result)
    }

    pub fn error_span(&self) -> Option<Span> {
        self.span(Field::Error)
    }
}

/// The outer value: there is no valid id. `Ok(None)`: none, or a null.
fn read_id(bytes: &Bytes, spans: &Spans) -> Result<Option<Id>, ParseErrorKind> {
    match spans.get(Field::Id) {
        Some(span) if span.of(bytes) != b"null" => Id::from_json(bytes.slice(span.range())).map(Some).map_err(ParseErrorKind::Invalid),
        _ => Ok(None),
    }
}

/// A span for each field; an empty one stands for "absent", as no JSON value is empty.
#[derive(Clone, Debug)]
struct Spans([Span; Field::ALL.len()]);

impl Default for Spans {
    fn default() -> Self {
        Self([Span::default(); Field::ALL.len()])
    }
}

impl Spans {
    fn get(&self, field: Field) -> Option<Span> {
        self.0.get(field as usize).copied().filter(|span| !span.is_empty())
    }

    fn set(&mut self, field: Field, span: Span) {
        if let Some(slot) = self.0.get_mut(field as usize) {
            *slot = span;
        }
    }
}

struct Scan<'a> {
    text: &'a [u8],
    cursor: Cursor<'a>,
    spans: Spans,
    /// The first thing wrong that does not keep us from reading on for the id.
    problem: Option<ParseErrorKind>,
}

impl Scan<'_> {
    fn message(&mut self) -> Result<(), ParseErrorKind> {
        match self.cursor.peek() {
            Some(b'{') => self.object(Level::Message)?,
            Some(b'[') => return Err(ParseErrorKind::Batch),
            _ => {
                self.cursor.value()?;
                self.cursor.end()?;
                return Err(ParseErrorKind::Invalid("a message is a JSON object"));
            }
        }
        Ok(self.cursor.end()?)
    }

    /// Reads the members of an object. It calls itself for the three objects known to lie within, and so no deeper than that.
    fn object(&mut self, level: Level) -> Result<(), ParseErrorKind> {
        let mut exact = 0u64;
        let mut folded = 0u64;
        self.cursor.enter_object()?;
        while let Some(key) = self.cursor.next_key()? {
            let key = unescape(key.of(self.text)).unwrap_or_default();
            let Some(field) = Field::exact(level, &key) else {
                folded |= Field::folded(level, &key).map_or(0, Field::bit);
                self.cursor.value()?;
                continue;
            };
            if exact & field.bit() != 0 {
                self.problem.get_or_insert_with(|| ParseErrorKind::DuplicateKey(field.key()));
                // Which of two ids is meant is unknown, so none is answered to.
                self.spans.set(field, Span::default());
                self.cursor.value()?;
                continue;
            }
            exact |= field.bit();
            let span = self.member(field)?;
            self.spans.set(field, span);
        }
        if let Some(field) = Field::ALL.iter().find(|field| exact & folded & field.bit() != 0) {
            self.problem.get_or_insert_with(|| ParseErrorKind::DuplicateKey(field.key()));
        }
        Ok(())
    }

    fn member(&mut self, field: Field) -> Result<Span, ParseErrorKind> {
        let inner = match field {
            Field::Params => Level::Params,
            Field::Meta => Level::Meta,
            Field::Ref => Level::Ref,
            _ => return Ok(self.cursor.value()?),
        };
        if self.cursor.peek() != Some(b'{') {
            return Ok(self.cursor.value()?);
        }
        let start = self.cursor.offset();
        self.object(inner)?;
        Ok(Span::new(start, self.cursor.offset()))
    }
}

#[cfg(test)]
mod tests;
