//! Answers on their way down.

use http::StatusCode;

use super::{TASKS, lists::simplify_list};
use crate::{
    mcp::{
        Era, Field, Id, Kind, Message, Method, Span, Splices,
        errors::{ErrorParts, Stage, code, http_status},
        json::{Cursor, lookup, unescape},
    },
    upstream::UpstreamError,
};

/// Members that a modern result must have and a legacy one lacks; the first that of every result, the others of those that may be
/// kept. A legacy server says nothing about caching, so its
/// results are the asker's own and stale at once (MCP 2026-07-28, server/utilities/caching).
const MEMBERS: [(&str, &[u8]); 3] = [("resultType", b"\"complete\""), ("ttlMs", b"0"), ("cacheScope", b"\"private\"")];

/// What a response is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It goes down with this HTTP status.
    Shown(StatusCode),
    /// It is not yet the answer of a legacy client's request.
    Leads(LeadsOn),
}

/// What leads on to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadsOn {
    /// The server asks for input first (MCP 2026-07-28, basic/patterns/mrtr).
    Input,
    /// The server made a task of the call (extension `io.modelcontextprotocol/tasks`).
    Task,
}

/// Makes a response fit the client's era and gives the HTTP status that carries it.
///
/// # Errors
/// The answer cannot be shown to this client.
pub(crate) fn adapt_response(splices: &mut Splices, message: &Message, method: Method, up: Era, down: Era) -> Result<Fit, UpstreamError> {
    match (message.kind(), up, down) {
        (Kind::ErrorResponse, ..) => Ok(Fit::Shown(adapt_error(splices, message, method, up, down))),
        (_, Era::Legacy, Era::Modern) => {
            complete(splices, message, method)?;
            Ok(Fit::Shown(StatusCode::OK))
        }
        (_, Era::Modern, Era::Legacy) => simplify(splices, message, method),
        (_, Era::Legacy, Era::Legacy) | (_, Era::Modern, Era::Modern) => Ok(Fit::Shown(StatusCode::OK)),
    }
}

/// Gives an error that could not name its request the id it answers.
pub(crate) fn add_id(splices: &mut Splices, message: &Message, id: &Id) {
    if let Some(start) = memchr::memchr(b'{', message.bytes()) {
        let member = [&b"\"id\":"[..], id.as_json(), b","].concat();
        splices.insert(u32::try_from(start + 1).unwrap_or_default(), member);
    }
}

fn adapt_error(splices: &mut Splices, message: &Message, method: Method, up: Era, down: Era) -> StatusCode {
    let Some(parts) = ErrorParts::of(message) else { return StatusCode::OK };
    let mapped = match (up, down, parts.code) {
        // Renamed by 2026-07-28 (server/resources, error handling).
        (Era::Legacy, Era::Modern, code::RESOURCE_NOT_FOUND) if method == Method::ResourcesRead => code::INVALID_PARAMS,
        (Era::Modern, Era::Legacy, code::INVALID_PARAMS) if method == Method::ResourcesRead => code::RESOURCE_NOT_FOUND,
        // Codes that a legacy client does not know.
        (Era::Modern, Era::Legacy, code::MISSING_CLIENT_CAPABILITY) => code::INVALID_PARAMS,
        (Era::Modern, Era::Legacy, code::HEADER_MISMATCH | code::UNSUPPORTED_PROTOCOL_VERSION) => code::INTERNAL_ERROR,
        // A modern server must not use it; its data would tell a client to do what the era lacks.
        (Era::Legacy, Era::Modern, code::URL_ELICITATION_REQUIRED) => code::INVALID_PARAMS,
        (_, _, code) => code,
    };
    if mapped != parts.code {
        splices.replace(parts.code_span, mapped.to_string().into_bytes());
    }
    StatusCode::from_u16(http_status(down, mapped, Stage::Handling)).unwrap_or(StatusCode::OK)
}

fn complete(splices: &mut Splices, message: &Message, method: Method) -> Result<(), UpstreamError> {
    let result = object_result(message)?;
    let cacheable = matches!(
        method,
        Method::ResourcesRead | Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::ResourceTemplatesList
    );
    let members = if cacheable { &MEMBERS[..] } else { &MEMBERS[..1] };
    // Whatever it says of this is none of its revision's: two of a key would make it what each reader likes.
    let is_ours = |key: &str| members.iter().any(|(ours, _)| *ours == key);
    splices.edit_object(message.bytes(), result, is_ours, members).map_err(|error| UpstreamError::protocol(error.to_string()))
}

/// A legacy client knows complete results only, and structured content that is an object.
fn simplify(splices: &mut Splices, message: &Message, method: Method) -> Result<Fit, UpstreamError> {
    let result = object_result(message)?;
    let text = message.bytes();
    let members = read_members(result.of(text));
    match members.result_type.map(|span| span.shifted(result.start)).and_then(|span| unescape(span.of(text))).as_deref() {
        None | Some("complete") => {}
        Some("input_required") if matches!(method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead) => {
            return Ok(Fit::Leads(LeadsOn::Input));
        }
        Some("task") if method == Method::ToolsCall => return Ok(Fit::Leads(LeadsOn::Task)),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            return Err(UpstreamError::protocol(format!("a result of the type {other:?}, which this method has none of")));
        }
    }
    let is_object = |span: Span| span.shifted(result.start).of(text).first() == Some(&b'{');
    match method {
        Method::ToolsCall if members.structured.is_some_and(|span| !is_object(span)) => {
            splices
                .edit_object(text, result, |key| key == "structuredContent", &[])
                .map_err(|error| UpstreamError::protocol(error.to_string()))?;
        }
        Method::ToolsList => simplify_list(splices, text, result),
        _ => {}
    }
    Ok(Fit::Shown(StatusCode::OK))
}

/// The server refuses to run the call other than as a task.
pub(crate) fn needs_tasks(message: &Message) -> bool {
    ErrorParts::of(message).is_some_and(|error| {
        let data = error.data.map(|span| span.of(message.bytes()));
        let wanted = data.and_then(|data| lookup(data, &["requiredCapabilities", "extensions", TASKS]));
        error.code == code::MISSING_CLIENT_CAPABILITY && wanted.is_some()
    })
}

fn object_result(message: &Message) -> Result<Span, UpstreamError> {
    message
        .span(Field::Result)
        .filter(|span| span.of(message.bytes()).first() == Some(&b'{'))
        .ok_or_else(|| UpstreamError::protocol("the result is not an object"))
}

#[derive(Default)]
struct ResultMembers {
    result_type: Option<Span>,
    structured: Option<Span>,
}

/// Finds the members by which a result is judged; the text was checked when its message was parsed.
fn read_members(object: &[u8]) -> ResultMembers {
    let mut members = ResultMembers::default();
    let mut cursor = Cursor::new(object);
    if cursor.enter_object().is_err() {
        return members;
    }
    while let Ok(Some(key)) = cursor.next_key() {
        let Ok(value) = cursor.value() else { break };
        match unescape(key.of(object)).as_deref() {
            Some("resultType") => members.result_type = Some(value),
            Some("structuredContent") => members.structured = Some(value),
            _ => {}
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn adapted(text: &str, method: Method, up: Era, down: Era) -> Result<(String, u16), UpstreamError> {
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let mut splices = Splices::new();
        let Fit::Shown(status) = adapt_response(&mut splices, &message, method, up, down)? else { panic!("it leads on") };
        Ok((String::from_utf8(splices.apply(message.bytes()).to_vec()).unwrap(), status.as_u16()))
    }

    #[test]
    fn a_legacy_result_becomes_a_complete_one() {
        for (result, method, expected) in [
            ("{}", Method::ToolsCall, r#"{"resultType":"complete"}"#),
            ("{ }", Method::ToolsCall, r#"{"resultType":"complete" }"#),
            (r#"{"content":[]}"#, Method::ToolsCall, r#"{"resultType":"complete","content":[]}"#),
            (r#"{"contents":[]}"#, Method::ResourcesRead, r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}"#),
            (r#"{"result\u0054ype":"input_required","x":1,"resultType":"task"}"#, Method::ToolsCall, r#"{"resultType":"complete","x":1}"#),
            (r#"{"cacheScope":"public"}"#, Method::ToolsCall, r#"{"resultType":"complete","cacheScope":"public"}"#),
            (
                r#"{"cacheScope":"public","contents":[],"ttlMs":9}"#,
                Method::ResourcesRead,
                r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[]}"#,
            ),
        ] {
            let (text, status) =
                adapted(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), method, Era::Legacy, Era::Modern).unwrap();
            assert_eq!(text, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{expected}}}"#));
            assert_eq!(status, 200);
        }
    }

    #[test]
    fn errors_change_code_and_status_with_the_era() {
        for (code, method, up, down, expected, status) in [
            (-32002_i64, Method::ResourcesRead, Era::Legacy, Era::Modern, -32602, 200),
            (-32602, Method::ResourcesRead, Era::Modern, Era::Legacy, -32002, 200),
            (-32602, Method::ToolsCall, Era::Modern, Era::Legacy, -32602, 200),
            (-32601, Method::ToolsCall, Era::Legacy, Era::Modern, -32601, 404),
            (-32601, Method::ToolsCall, Era::Modern, Era::Legacy, -32601, 200),
            (-32021, Method::ToolsCall, Era::Modern, Era::Legacy, -32602, 200),
            (-9_007_199_254_740_993_i64, Method::ToolsCall, Era::Legacy, Era::Modern, -9_007_199_254_740_993_i64, 200),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m","more":1.0}}}}"#);
            let (text, found) = adapted(&text, method, up, down).unwrap();
            assert_eq!(text, format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{expected},"message":"m","more":1.0}}}}"#));
            assert_eq!(found, status);
        }
    }

    #[test]
    fn a_result_that_is_none_yet_leads_on_where_it_may() {
        let fit = |kind: &str, method: Method, down: Era| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"{kind}"}}}}"#);
            adapt_response(&mut Splices::new(), &Message::parse(text.into()).unwrap(), method, Era::Modern, down)
        };
        for method in [Method::ToolsCall, Method::PromptsGet, Method::ResourcesRead] {
            assert_eq!(fit("input_required", method, Era::Legacy).unwrap(), Fit::Leads(LeadsOn::Input));
            assert_eq!(fit("input_required", method, Era::Modern).unwrap(), Fit::Shown(StatusCode::OK));
        }
        assert_eq!(fit("task", Method::ToolsCall, Era::Legacy).unwrap(), Fit::Leads(LeadsOn::Task));
        for (kind, method) in [("input_required", Method::Complete), ("task", Method::PromptsGet), ("odd", Method::ToolsCall)] {
            assert!(fit(kind, method, Era::Legacy).is_err(), "{kind} {method:?}");
        }
    }

    #[test]
    fn only_a_missing_tasks_extension_is_a_need_of_tasks() {
        let needs = |code: i64, data: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m","data":{data}}}}}"#);
            needs_tasks(&Message::parse(text.into()).unwrap())
        };
        let wanted = r#"{"requiredCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}"#;
        assert!(needs(-32021, wanted));
        assert!(!needs(-32602, wanted));
        assert!(!needs(-32021, r#"{"requiredCapabilities":{"elicitation":{}}}"#));
    }

    #[test]
    fn structured_content_that_is_no_object_is_kept_from_legacy_clients() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":[1],"resultType":"complete"}}"#;
        let (text, _) = adapted(text, Method::ToolsCall, Era::Modern, Era::Legacy).unwrap();
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"resultType":"complete"}}"#);
    }

    #[test]
    fn an_anonymous_error_gets_the_id_of_its_request() {
        let message = Message::parse(Bytes::from_static(br#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#)).unwrap();
        let mut splices = Splices::new();
        add_id(&mut splices, &message, &Id::from_string("a"));
        assert_eq!(splices.apply(message.bytes()), r#"{"id":"a","jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}"#);
    }
}
