//! JSON-RPC error codes, error responses, and the HTTP status that carries them.

use bytes::Bytes;

use super::{
    Field, Id, Message, Span,
    era::Era,
    json::{Cursor, quote, unescape},
};

/// The codes of JSON-RPC 2.0 (section 5.1) and MCP (2026-07-28, basic, "Error Codes").
pub mod code {
    pub const PARSE_ERROR: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL_ERROR: i64 = -32603;
    /// A server's own trouble; no receiver may read more into it.
    pub const SERVER_ERROR: i64 = -32000;
    /// Up to 2025-11-25; afterwards [`INVALID_PARAMS`].
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    pub const HEADER_MISMATCH: i64 = -32020;
    pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
    /// 2025-11-25 only.
    pub const URL_ELICITATION_REQUIRED: i64 = -32042;
}

/// Writes an error response. `data` is raw JSON.
///
/// Without an id the member is left out: the schemas of 2025-11-25 and 2026-07-28 allow that and no null, and neither do the
/// earlier ones.
pub fn error_response(id: Option<&Id>, code: i64, message: &str, data: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(96 + message.len() + data.map_or(0, <[u8]>::len));
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",");
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        out.extend_from_slice(id.as_json());
        out.push(b',');
    }
    out.extend_from_slice(b"\"error\":{\"code\":");
    out.extend_from_slice(code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(&quote(message));
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}");
    Bytes::from(out)
}

/// What went wrong where, as far as the HTTP status depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The body, its headers or its `_meta` are not those of a request that could be served.
    Transport,
    /// The request was understood, and its answer is an error.
    Handling,
}

/// The HTTP status for an error response.
///
/// A legacy client reads 404 as the end of its session, so an error that answers its request goes inside 200 (MCP 2025-11-25,
/// basic/transports, "Session Management"). A modern one is told by the status too (2026-07-28, same page).
pub fn http_status(era: Era, code: i64, stage: Stage) -> u16 {
    match (era, stage) {
        (Era::Modern, _) if code == code::METHOD_NOT_FOUND => 404,
        (_, Stage::Transport) => 400,
        (Era::Legacy, Stage::Handling) => 200,
        (Era::Modern, Stage::Handling) => match code {
            code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_PROTOCOL_VERSION => 400,
            _ => 200,
        },
    }
}

/// The parts of an error response, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorParts {
    /// An integer of any size that fits; servers go beyond 32 bits.
    pub code: i64,
    pub code_span: Span,
    pub message: Option<Span>,
    pub data: Option<Span>,
}

impl ErrorParts {
    /// The parts of `message`'s error; `None` when it has none, or one without an integer code.
    pub fn of(message: &Message) -> Option<Self> {
        let text = message.bytes();
        let error = message.span(Field::Error)?;
        let inner = error.of(text);
        let mut cursor = Cursor::new(inner);
        let (mut code, mut words, mut data) = (None, None, None);
        cursor.enter_object().ok()?;
        while let Some(key) = cursor.next_key().ok()? {
            let value = cursor.value().ok()?.shifted(error.start);
            match unescape(key.of(inner)).as_deref() {
                Some("code") => code = Some(value),
                Some("message") => words = Some(value),
                Some("data") => data = Some(value),
                _ => {}
            }
        }
        let code_span = code?;
        let code = std::str::from_utf8(code_span.of(text)).ok()?.parse().ok()?;
        Some(Self { code, code_span, message: words, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_response_is_a_message_with_the_same_id() {
        let id = Id::from_string("1");
        let bytes = error_response(Some(&id), code::SERVER_ERROR, "no \"x\"", Some(b"{\"retry\":1.0}"));
        assert_eq!(bytes, r#"{"jsonrpc":"2.0","id":"1","error":{"code":-32000,"message":"no \"x\"","data":{"retry":1.0}}}"#);
        let message = Message::parse(bytes).unwrap();
        let parts = ErrorParts::of(&message).unwrap();
        assert_eq!(parts.code, -32000);
        assert_eq!(parts.data.unwrap().of(message.bytes()), b"{\"retry\":1.0}");
        assert_eq!(error_response(None, -1, "", None), r#"{"jsonrpc":"2.0","error":{"code":-1,"message":""}}"#);
    }

    #[test]
    fn a_code_may_exceed_32_bits_but_is_an_integer() {
        let code = |error: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#);
            ErrorParts::of(&Message::parse(Bytes::from(text)).unwrap()).map(|parts| parts.code)
        };
        assert_eq!(code(r#"{"code":-9007199254740993}"#), Some(-9_007_199_254_740_993));
        assert_eq!(code(r#"{"code":1.5}"#), None);
        assert_eq!(code("[]"), None);
        assert_eq!(code("{}"), None);
    }

    #[test]
    fn a_legacy_client_never_sees_404_for_an_error() {
        for (era, code, stage, status) in [
            (Era::Legacy, code::METHOD_NOT_FOUND, Stage::Handling, 200),
            (Era::Legacy, code::PARSE_ERROR, Stage::Transport, 400),
            (Era::Modern, code::METHOD_NOT_FOUND, Stage::Handling, 404),
            (Era::Modern, code::HEADER_MISMATCH, Stage::Handling, 400),
            (Era::Modern, code::INVALID_PARAMS, Stage::Handling, 200),
            (Era::Modern, code::INVALID_PARAMS, Stage::Transport, 400),
        ] {
            assert_eq!(http_status(era, code, stage), status, "{era:?} {code}");
        }
    }
}
