//! Writing messages of our own.

use bytes::Bytes;

use super::{
    Field, Id, Method, Version,
    json::quote,
    list::{CacheScope, ListKind},
    splice::object,
};

/// A request; `params` is a raw JSON object.
pub fn request(id: &Id, method: Method, params: Option<&[u8]>) -> Bytes {
    let method = quote(method.as_str());
    let mut members: Vec<(&str, &[u8])> = vec![("jsonrpc", b"\"2.0\""), ("id", id.as_json()), ("method", &method)];
    members.extend(params.map(|params| ("params", params)));
    Bytes::from(object(&members))
}

/// A notification; `params` is a raw JSON object.
pub fn notification(method: Method, params: Option<&[u8]>) -> Bytes {
    let method = quote(method.as_str());
    let mut members: Vec<(&str, &[u8])> = vec![("jsonrpc", b"\"2.0\""), ("method", &method)];
    members.extend(params.map(|params| ("params", params)));
    Bytes::from(object(&members))
}

/// A response; `result` is raw JSON.
pub fn response(id: &Id, result: &[u8]) -> Bytes {
    Bytes::from(object(&[("jsonrpc", b"\"2.0\""), ("id", id.as_json()), ("result", result)]))
}

/// `clientInfo` or `serverInfo`.
pub fn implementation(name: &str, version: &str) -> Bytes {
    Bytes::from(object(&[("name", &quote(name)), ("version", &quote(version))]))
}

/// The legacy handshake; `capabilities` and `client_info` are raw JSON objects.
pub fn initialize(id: &Id, version: Version, capabilities: &[u8], client_info: &[u8]) -> Bytes {
    let version = quote(version.as_str());
    let params = object(&[("protocolVersion", &version), ("capabilities", capabilities), ("clientInfo", client_info)]);
    request(id, Method::Initialize, Some(&params))
}

/// The answer to the legacy handshake; `capabilities` and `server_info` are raw JSON objects.
pub fn initialize_result(version: Version, capabilities: &[u8], server_info: &[u8], instructions: Option<&str>) -> Vec<u8> {
    let version = quote(version.as_str());
    let instructions = instructions.map(quote);
    let mut members: Vec<(&str, &[u8])> = vec![("protocolVersion", &version), ("capabilities", capabilities), ("serverInfo", server_info)];
    members.extend(instructions.as_ref().map(|text| ("instructions", text.as_slice())));
    object(&members)
}

/// The result of `server/discover`, with what [`Version`] lists as supported.
pub fn discover_result(capabilities: &[u8], server_info: &[u8], instructions: Option<&str>, ttl_ms: u64, scope: CacheScope) -> Vec<u8> {
    let versions = supported_versions();
    let instructions = instructions.map(quote);
    let ttl = ttl_ms.to_string();
    let meta = object(&[("io.modelcontextprotocol/serverInfo", server_info)]);
    let mut members: Vec<(&str, &[u8])> =
        vec![("resultType", b"\"complete\""), ("supportedVersions", &versions), ("capabilities", capabilities)];
    members.extend(instructions.as_ref().map(|text| ("instructions", text.as_slice())));
    members.extend([("ttlMs", ttl.as_bytes()), ("cacheScope", scope_literal(scope)), ("_meta", &meta)]);
    object(&members)
}

/// The `data` of an error with `code::UNSUPPORTED_PROTOCOL_VERSION`.
pub fn unsupported_version_data(requested: &str) -> Vec<u8> {
    object(&[("supported", &supported_versions()), ("requested", &quote(requested))])
}

fn supported_versions() -> Vec<u8> {
    let versions: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    serde_json::to_vec(&versions).expect("strings serialise: no map key and no writer can fail")
}

/// What every modern request carries in its `_meta` (MCP 2026-07-28, basic, "Per-request protocol fields").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMeta {
    pub version: Version,
    /// Raw JSON object.
    pub client_info: Option<Bytes>,
    /// Raw JSON object.
    pub client_capabilities: Bytes,
    /// Without it a server sends no `notifications/message`.
    pub log_level: Option<String>,
}

impl RequestMeta {
    /// The members, for [`Splices::request_meta`](super::Splices::request_meta).
    pub fn members(&self) -> Vec<(&'static str, Bytes)> {
        let mut members = vec![
            (Field::MetaProtocolVersion.key(), Bytes::from(quote(self.version.as_str()))),
            (Field::MetaClientCapabilities.key(), self.client_capabilities.clone()),
        ];
        members.extend(self.client_info.clone().map(|info| (Field::MetaClientInfo.key(), info)));
        members.extend(self.log_level.as_deref().map(|level| (Field::MetaLogLevel.key(), Bytes::from(quote(level)))));
        members
    }

    /// The members as one raw JSON object.
    pub fn object(&self) -> Vec<u8> {
        let members = self.members();
        object(&members.iter().map(|(key, value)| (*key, &value[..])).collect::<Vec<_>>())
    }
}

/// `server/discover`.
pub fn discover(id: &Id, meta: &RequestMeta) -> Bytes {
    request(id, Method::Discover, Some(&object(&[("_meta", &meta.object())])))
}

/// A request for a page of a list: the first, or the one after `cursor`, which is a JSON literal as the last page gave it.
pub fn list(id: &Id, kind: ListKind, cursor: Option<&[u8]>, meta: Option<&RequestMeta>) -> Bytes {
    let meta = meta.map(RequestMeta::object);
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    members.extend(cursor.map(|cursor| ("cursor", cursor)));
    members.extend(meta.as_ref().map(|meta| ("_meta", meta.as_slice())));
    request(id, kind.method(), Some(&object(&members)))
}

/// The result of a list method from ready-made items. `fresh` makes it a modern one.
pub fn list_result<'a>(
    kind: ListKind,
    items: impl IntoIterator<Item = &'a [u8]>,
    next_cursor: Option<&str>,
    fresh: Option<(u64, CacheScope)>,
) -> Vec<u8> {
    let mut array = vec![b'['];
    for item in items {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(item);
    }
    array.push(b']');
    let cursor = next_cursor.map(quote);
    let fresh = fresh.map(|(ttl, scope)| (ttl.to_string(), scope));
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    if fresh.is_some() {
        members.push(("resultType", b"\"complete\""));
    }
    members.push((kind.key(), &array));
    members.extend(cursor.as_ref().map(|cursor| ("nextCursor", cursor.as_slice())));
    if let Some((ttl, scope)) = &fresh {
        members.extend([("ttlMs", ttl.as_bytes()), ("cacheScope", scope_literal(*scope))]);
    }
    object(&members)
}

pub fn ping(id: &Id) -> Bytes {
    request(id, Method::Ping, None)
}

/// `notifications/cancelled` for an open request of ours.
pub fn cancelled(request: &Id, reason: &str) -> Bytes {
    let params = object(&[("requestId", request.as_json()), ("reason", &quote(reason))]);
    notification(Method::Cancelled, Some(&params))
}

const fn scope_literal(scope: CacheScope) -> &'static [u8] {
    match scope {
        CacheScope::Public => b"\"public\"",
        CacheScope::Private => b"\"private\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::{
        Kind, Message,
        era::{Opening, classify},
        list::{ListBounds, ListPage},
    };

    fn meta() -> RequestMeta {
        RequestMeta {
            version: Version::V2026_07_28,
            client_info: Some(implementation("nexus", "1\"2")),
            client_capabilities: Bytes::from_static(b"{}"),
            log_level: Some("info".to_owned()),
        }
    }

    #[test]
    fn a_modern_request_is_classified_as_one() {
        for bytes in [discover(&Id::from_u64(1), &meta()), list(&Id::from_u64(1), ListKind::Tools, Some(b"\"\""), Some(&meta()))] {
            let message = Message::parse(bytes).unwrap();
            assert_eq!(classify(&message, Some("2026-07-28"), false), Ok(Opening::Modern(Version::V2026_07_28)));
        }
    }

    #[test]
    fn the_messages_are_what_their_names_say() {
        let id = Id::from_string("a\"b");
        for (bytes, kind, method) in [
            (initialize(&id, Version::V2025_11_25, b"{}", &implementation("n", "1")), Kind::Request, "initialize"),
            (ping(&id), Kind::Request, "ping"),
            (list(&id, ListKind::ResourceTemplates, None, None), Kind::Request, "resources/templates/list"),
            (cancelled(&id, "timeout"), Kind::Notification, "notifications/cancelled"),
            (notification(Method::Initialized, None), Kind::Notification, "notifications/initialized"),
            (response(&id, b"{}"), Kind::Response, ""),
        ] {
            let message = Message::parse(bytes).unwrap();
            assert_eq!((message.kind(), message.method()), (kind, method));
        }
        let cancel = Message::parse(cancelled(&id, "timeout")).unwrap();
        assert_eq!(cancel.cancelled_id(), Some(id));
    }

    #[test]
    fn a_list_is_read_back_as_it_was_written() {
        let item = br#"{"name":"p"}"#;
        let result = list_result(ListKind::Prompts, [&item[..], &item[..]], Some("next"), Some((5, CacheScope::Private)));
        let bounds = ListBounds { items: 9, bytes: 999 };
        let page = ListPage::parse(&Bytes::from(result.clone()), ListKind::Prompts, bounds).unwrap();
        assert_eq!((page.items.len(), page.ttl_ms, page.cache_scope), (2, Some(5), Some(CacheScope::Private)));
        assert!(result.starts_with(b"{\"resultType\":\"complete\","));
        assert_eq!(list_result(ListKind::Prompts, [], None, None), br#"{"prompts":[]}"#);
    }

    #[test]
    fn results_and_data_are_valid_json() {
        for (raw, pointer, expected) in [
            (initialize_result(Version::V2025_06_18, b"{}", b"{}", Some("do\n")), "/instructions", "do\n"),
            (discover_result(b"{}", b"{\"name\":\"n\"}", None, 0, CacheScope::Private), "/supportedVersions/0", "2026-07-28"),
            (unsupported_version_data("1\""), "/requested", "1\""),
        ] {
            let value: serde_json::Value = serde_json::from_slice(&raw).unwrap();
            assert_eq!(value.pointer(pointer).and_then(|value| value.as_str()), Some(expected));
        }
    }
}
