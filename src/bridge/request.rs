//! Requests on their way up.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mcp::{Era, Field, Message, Method, Splices, Version, headers, splice::object};

/// What a legacy client said of itself, all of it raw JSON.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) client_info: Bytes,
    pub(crate) log_level: Option<Bytes>,
    /// As a modern server reads them.
    pub(crate) capabilities: Bytes,
}

/// Adds the `_meta` fields that a modern server requires, or takes out those that a legacy server does not know.
///
/// `session` gives what a legacy client said once.
pub(crate) fn adapt_request(
    splices: &mut Splices,
    message: &Message,
    down: Era,
    up: Era,
    version: Version,
    session: impl FnOnce() -> Said,
) {
    match (down, up) {
        (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => {}
        (Era::Modern, Era::Legacy) => {
            splices.request_meta(message, &[]);
            remove_input(splices, message);
        }
        (Era::Legacy, Era::Modern) => {
            let said = session();
            let version = version_literal(version);
            splices.request_meta(message, &said.meta(&version));
        }
    }
}

impl Said {
    fn meta<'a>(&'a self, version: &'a str) -> Vec<(&'static str, &'a [u8])> {
        let mut members: Vec<(&str, &[u8])> = vec![
            (Field::MetaProtocolVersion.key(), version.as_bytes()),
            (Field::MetaClientInfo.key(), &self.client_info),
            (Field::MetaClientCapabilities.key(), &self.capabilities),
        ];
        members.extend(self.log_level.as_deref().map(|level| (Field::MetaLogLevel.key(), level)));
        members
    }

    /// The `_meta` of a request that the gateway makes for the client, as a raw object.
    pub(crate) fn meta_object(&self, version: Version) -> Vec<u8> {
        object(&self.meta(&version_literal(version)))
    }
}

fn version_literal(version: Version) -> String {
    format!("\"{version}\"")
}

/// Takes out what belongs to a call that is made again with input, which a legacy server does not know.
fn remove_input(splices: &mut Splices, message: &Message) {
    let fields = [Field::RequestState, Field::InputResponses];
    if let Some(params) = message.params_span()
        && fields.iter().any(|field| message.span(*field).is_some())
    {
        let is_input = |key: &str| fields.iter().any(|field| field.key() == key);
        splices.edit_object(message.bytes(), params, is_input, &[]).expect("a message's spans hold valid JSON: it was parsed");
    }
}

/// `Mcp-Method` and `Mcp-Name`, which a modern HTTP request repeats from its body (MCP 2026-07-28, basic/transports).
pub(crate) fn standard_headers(into: &mut HeaderMap, method: Method, name: &str) {
    into.insert(HeaderName::from_static(headers::METHOD), HeaderValue::from_static(method.as_str()));
    if method.name_field().is_some()
        && let Ok(value) = HeaderValue::from_str(&headers::encode(name))
    {
        into.insert(HeaderName::from_static(headers::NAME), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(text: &'static str, down: Era, up: Era) -> String {
        let message = Message::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let mut splices = Splices::new();
        adapt_request(&mut splices, &message, down, up, Version::V2026_07_28, || Said {
            client_info: Bytes::from_static(br#"{"name":"c","version":"1"}"#),
            log_level: Some(Bytes::from_static(b"\"info\"")),
            capabilities: Bytes::from_static(br#"{"roots":{}}"#),
        });
        String::from_utf8(splices.apply(message.bytes()).to_vec()).unwrap()
    }

    #[test]
    fn a_legacy_request_gets_what_the_session_knows() {
        let up = adapted(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":7}}}"#,
            Era::Legacy,
            Era::Modern,
        );
        let up: serde_json::Value = serde_json::from_str(&up).unwrap();
        let meta = &up["params"]["_meta"];
        assert_eq!(meta["progressToken"], 7);
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "c");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], serde_json::json!({"roots": {}}));
        assert_eq!(meta["io.modelcontextprotocol/logLevel"], "info");
    }

    #[test]
    fn a_modern_request_loses_only_what_a_legacy_server_does_not_know() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"traceparent":"00-1","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
        assert_eq!(
            adapted(text, Era::Modern, Era::Legacy),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"traceparent":"00-1"}}}"#
        );
    }

    #[test]
    fn a_legacy_server_sees_nothing_of_input_that_it_did_not_ask_for() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"inputResponses":{"a":{}},"name":"x","requestState":"s","_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#;
        assert_eq!(
            adapted(text, Era::Modern, Era::Legacy),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{}}}"#
        );
        assert_eq!(adapted(text, Era::Modern, Era::Modern), text);
    }

    #[test]
    fn same_era_requests_are_left_alone() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
        assert_eq!(adapted(text, Era::Legacy, Era::Legacy), text);
        assert_eq!(adapted(text, Era::Modern, Era::Modern), text);
    }

    #[test]
    fn a_name_that_no_header_can_hold_is_encoded() {
        let mut headers = HeaderMap::new();
        standard_headers(&mut headers, Method::ToolsCall, "größe");
        assert_eq!(headers["mcp-method"], "tools/call");
        assert!(headers["mcp-name"].to_str().unwrap().starts_with("=?base64?"));
    }
}
