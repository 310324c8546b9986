//! The HTTP headers of MCP as values: what they repeat from the body, and how it is written in them.
//!
//! MCP 2026-07-28, basic/transports/streamable-http, "Request Metadata".

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::{Field, Kind, Message, method::Method};

/// Names are in lower case, as HTTP libraries keep them.
pub const SESSION_ID: &str = "mcp-session-id";
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
pub const METHOD: &str = "mcp-method";
pub const NAME: &str = "mcp-name";
pub const PARAM_PREFIX: &str = "mcp-param-";
pub const LAST_EVENT_ID: &str = "last-event-id";

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// The headers that repeat a part of the body, as the client sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored<'a> {
    pub protocol_version: Option<&'a [u8]>,
    pub method: Option<&'a [u8]>,
    pub name: Option<&'a [u8]>,
}

/// A header and the body disagree, so that whoever routes by one and whoever executes the other would see two requests.
///
/// HTTP 400 and the code -32020.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderMismatch {
    #[error("Header mismatch: the required {header} header is missing")]
    Missing { header: Cow<'static, str> },
    #[error("Header mismatch: the {header} header occurs with different values")]
    Conflict { header: Cow<'static, str> },
    #[error("Header mismatch: the {header} header holds invalid characters or invalid Base64")]
    Invalid { header: Cow<'static, str> },
    #[error("Header mismatch: {header} header value '{value}' does not match body value '{body}'")]
    Differs { header: Cow<'static, str>, value: String, body: String },
}

impl HeaderMismatch {
    /// Longest part of a value that is told, in characters.
    const SHOWN: usize = 200;

    pub(super) fn differs(header: impl Into<Cow<'static, str>>, value: &str, body: &str) -> Self {
        let shown = |text: &str| text.chars().take(Self::SHOWN).collect();
        Self::Differs { header: header.into(), value: shown(value), body: shown(body) }
    }
}

impl<'a> Mirrored<'a> {
    /// Collects the headers; `values` gives every value that a header of that name has.
    ///
    /// # Errors
    /// A header occurs twice with different values.
    pub fn read<V>(values: impl Fn(&'static str) -> V) -> Result<Self, HeaderMismatch>
    where
        V: IntoIterator<Item = &'a [u8]>,
    {
        let single = |header| single(header, values(header));
        Ok(Self { protocol_version: single(PROTOCOL_VERSION)?, method: single(METHOD)?, name: single(NAME)? })
    }

    /// Compares the headers with a modern message.
    ///
    /// A request must have them all, as far as there is something to repeat; of a notification, for which nothing is
    /// required, those present must be right.
    ///
    /// # Errors
    /// [`HeaderMismatch`], the first found.
    pub fn check(&self, message: &Message) -> Result<(), HeaderMismatch> {
        let required = message.kind() == Kind::Request;
        let compare =
            |header: &'static str, value: Option<&[u8]>, body: Option<Cow<'_, str>>, decode: fn(&[u8]) -> Option<Cow<'_, str>>| {
                let Some(body) = body else { return Ok(()) };
                let Some(value) = value else {
                    return if required { Err(HeaderMismatch::Missing { header: header.into() }) } else { Ok(()) };
                };
                let value = decode(value).ok_or_else(|| HeaderMismatch::Invalid { header: header.into() })?;
                if value == body { Ok(()) } else { Err(HeaderMismatch::differs(header, &value, &body)) }
            };
        compare(PROTOCOL_VERSION, self.protocol_version, message.meta_protocol_version(), plain)?;
        compare(METHOD, self.method, Some(Cow::Borrowed(message.method())), plain)?;
        let field = Method::parse(message.method()).and_then(Method::name_field);
        compare(NAME, self.name, field.and_then(|field| message.text(field)), decode)
    }
}

/// The one value of a header, or `None` when it is absent. Repeats of the same value count once.
///
/// # Errors
/// The values differ.
pub fn single<'a>(header: &str, values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, HeaderMismatch> {
    let mut values = values.into_iter().map(trim);
    let first = values.next();
    if values.all(|value| Some(value) == first) { Ok(first) } else { Err(HeaderMismatch::Conflict { header: header.to_owned().into() }) }
}

/// The value of `Mcp-Name` for a message that has one, ready to be sent.
pub fn name_value(message: &Message) -> Option<String> {
    let field: Field = Method::parse(message.method())?.name_field()?;
    message.text(field).map(|name| encode(&name).into_owned())
}

/// Writes a text as a header value: as it is, or as Base64 between `=?base64?` and `?=` when HTTP would not carry it safely
/// or it would be taken for Base64.
pub fn encode(text: &str) -> Cow<'_, str> {
    let visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let trimmed = !text.starts_with(' ') && !text.ends_with(' ');
    let sentinel = text.starts_with(SENTINEL.0) && text.ends_with(SENTINEL.1);
    if visible && trimmed && !sentinel {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{}{}", SENTINEL.0, BASE64_STANDARD.encode(text), SENTINEL.1))
}

/// Reads what [`encode`] writes; `None` for characters that no header value may hold, or broken Base64.
///
/// White space around the value does not belong to it (RFC 9110 §5.5).
pub fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = plain(value)?;
    let Some(inner) = text.strip_prefix(SENTINEL.0).and_then(|rest| rest.strip_suffix(SENTINEL.1)) else {
        return Some(text);
    };
    let bytes = BASE64_STANDARD.decode(inner).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = trim(value);
    let allowed = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    std::str::from_utf8(value).ok().filter(|_| allowed).map(Cow::Borrowed)
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn call(name: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#,
            serde_json::to_string(name).unwrap()
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn headers<'a>(method: &'a str, name: &'a str) -> Mirrored<'a> {
        Mirrored { protocol_version: Some(b"2026-07-28"), method: Some(method.as_bytes()), name: Some(name.as_bytes()) }
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        for (text, value) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
        ] {
            assert_eq!(encode(text), value);
            assert_eq!(decode(value.as_bytes()).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_value_is_trimmed_and_must_be_decodable() {
        assert_eq!(decode(b" \tsearch ").as_deref(), Some("search"));
        assert_eq!(decode(b"=?BASE64?eA==?=").as_deref(), Some("=?BASE64?eA==?="));
        assert_eq!(decode(b"=?base64?=").as_deref(), Some("=?base64?="));
        for bad in [&b"=?base64?eA?="[..], b"=?base64?!?=", b"=?base64?/w==?=", b"\xff", b"a\x00"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn headers_that_repeat_the_body_pass() {
        assert_eq!(headers("tools/call", "search").check(&call("search")), Ok(()));
        assert_eq!(headers(" tools/call ", "=?base64?w6k=?=").check(&call("é")), Ok(()));
        let ping = Message::parse(Bytes::from(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#)).unwrap();
        assert_eq!(Mirrored::default().check(&ping), Ok(()));
    }

    #[test]
    fn a_missing_or_different_header_is_told_with_both_values() {
        let missing = Mirrored { name: None, ..headers("tools/call", "") };
        assert_eq!(missing.check(&call("search")), Err(HeaderMismatch::Missing { header: NAME.into() }));
        assert_eq!(Mirrored::default().check(&call("search")), Err(HeaderMismatch::Missing { header: PROTOCOL_VERSION.into() }));
        assert!(headers("Tools/call", "search").check(&call("search")).is_err());
        let error = headers("tools/call", "foo").check(&call("bar")).unwrap_err();
        assert_eq!(error.to_string(), "Header mismatch: mcp-name header value 'foo' does not match body value 'bar'");
        let notification = Message::parse(Bytes::from(r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#)).unwrap();
        assert!(headers("ping", "").check(&notification).is_err());
    }

    #[test]
    fn a_repeated_header_must_not_contradict_itself() {
        let read = |values: &[&'static [u8]]| {
            let values = values.to_vec();
            Mirrored::read(move |name| if name == NAME { values.clone() } else { Vec::new() }).map(|headers| headers.name)
        };
        assert_eq!(read(&[b"a", b" a"]), Ok(Some(&b"a"[..])));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[b"a", b"b"]), Err(HeaderMismatch::Conflict { header: NAME.into() }));
    }

    proptest! {
        #[test]
        fn every_text_survives_a_header(text in any::<String>()) {
            let value = encode(&text).into_owned();
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let decoded = decode(value.as_bytes()).map(Cow::into_owned);
            prop_assert_eq!(decoded, Some(text));
        }
    }
}
