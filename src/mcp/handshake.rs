//! What a server says of itself, in either era.

use bytes::Bytes;

use super::{
    Version,
    json::{JsonError, for_each_item, for_each_member, lookup, unescape},
    list::CacheScope,
};

/// Most versions read from a `supportedVersions`.
const MAX_VERSIONS: usize = 64;

/// The result of `initialize` or `server/discover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `protocolVersion`, or all `supportedVersions`, as written: unknown ones too.
    pub versions: Vec<String>,
    /// Raw JSON object.
    pub capabilities: Bytes,
    /// Raw JSON object; a modern server puts it into `_meta`, and may leave it out.
    pub server_info: Option<Bytes>,
    pub instructions: Option<String>,
    /// Milliseconds for which a modern server's answer stays fresh.
    pub ttl_ms: Option<u64>,
    pub cache_scope: Option<CacheScope>,
}

/// Why a result is not what a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the result is malformed: {0}")]
    Json(#[from] JsonError),
    #[error("the result has no `{0}`")]
    Missing(&'static str),
}

impl ServerFacts {
    /// Reads the `result` of `initialize`.
    ///
    /// # Errors
    /// It names no version, or its capabilities are no object.
    pub fn from_initialize(result: &Bytes) -> Result<Self, HandshakeError> {
        let mut facts = Self::read(result)?;
        facts.versions.truncate(1);
        if facts.versions.is_empty() { Err(HandshakeError::Missing("protocolVersion")) } else { Ok(facts) }
    }

    /// Reads the `result` of `server/discover`.
    ///
    /// # Errors
    /// It lists no versions, or its capabilities are no object.
    pub fn from_discover(result: &Bytes) -> Result<Self, HandshakeError> {
        let mut facts = Self::read(result)?;
        facts.versions = versions_in(result, "supportedVersions");
        let meta = lookup(result, &["_meta", "io.modelcontextprotocol/serverInfo"]);
        facts.server_info = meta.filter(|raw| raw.starts_with(b"{")).map(|raw| result.slice_ref(raw)).or(facts.server_info);
        if facts.versions.is_empty() { Err(HandshakeError::Missing("supportedVersions")) } else { Ok(facts) }
    }

    fn read(result: &Bytes) -> Result<Self, HandshakeError> {
        let mut facts = Self {
            versions: Vec::new(),
            capabilities: Bytes::new(),
            server_info: None,
            instructions: None,
            ttl_ms: None,
            cache_scope: None,
        };
        for_each_member(result, |key, span| {
            let raw = span.of(result);
            match key {
                "protocolVersion" => facts.versions.extend(unescape(raw).map(std::borrow::Cow::into_owned)),
                "capabilities" if raw.starts_with(b"{") => facts.capabilities = result.slice(span.range()),
                "serverInfo" if raw.starts_with(b"{") => facts.server_info = Some(result.slice(span.range())),
                "instructions" => facts.instructions = unescape(raw).map(std::borrow::Cow::into_owned),
                "ttlMs" => facts.ttl_ms = super::list::millis(raw),
                "cacheScope" => facts.cache_scope = Some(CacheScope::read(raw)),
                _ => {}
            }
        })?;
        if facts.capabilities.is_empty() { Err(HandshakeError::Missing("capabilities")) } else { Ok(facts) }
    }

    /// The latest modern version that both sides speak.
    pub fn best_modern(&self) -> Option<Version> {
        Version::best_modern(self.versions.iter().map(String::as_str))
    }

    /// Whether a capability is declared: `["tools"]`, or a flag of one: `["tools", "listChanged"]`.
    pub fn has(&self, path: &[&str]) -> bool {
        lookup(&self.capabilities, path).is_some_and(|raw| raw != b"false" && raw != b"null")
    }
}

/// The protocol versions in the array `key` of a raw JSON object, as written, at most the first 64; none where it is no array.
pub fn versions_in(object: &[u8], key: &str) -> Vec<String> {
    let mut versions = Vec::new();
    let Some(array) = lookup(object, &[key]) else { return versions };
    let read = for_each_item(array, |item| {
        if versions.len() < MAX_VERSIONS
            && let Some(version) = unescape(item.of(array))
        {
            versions.push(version.into_owned());
        }
    });
    if read.is_err() { Vec::new() } else { versions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::build;

    #[test]
    fn a_legacy_server_is_read() {
        let result = Bytes::from(build::initialize_result(
            Version::V2025_06_18,
            br#"{"tools":{"listChanged":true},"resources":{"subscribe":false}}"#,
            &build::implementation("s", "1"),
            Some("hi"),
        ));
        let facts = ServerFacts::from_initialize(&result).unwrap();
        assert_eq!(facts.versions, ["2025-06-18"]);
        assert!(facts.has(&["tools", "listChanged"]) && facts.has(&["resources"]));
        assert!(!facts.has(&["resources", "subscribe"]) && !facts.has(&["prompts"]));
        assert_eq!(facts.server_info.as_deref(), Some(&br#"{"name":"s","version":"1"}"#[..]));
        assert_eq!(facts.instructions.as_deref(), Some("hi"));
        assert!(ServerFacts::from_discover(&result).is_err());
    }

    #[test]
    fn a_modern_server_is_read() {
        let result = Bytes::from(build::discover_result(b"{}", br#"{"name":"s"}"#, None, 9, CacheScope::Public));
        let facts = ServerFacts::from_discover(&result).unwrap();
        assert_eq!(facts.best_modern(), Some(Version::V2026_07_28));
        assert_eq!(facts.server_info.as_deref(), Some(&br#"{"name":"s"}"#[..]));
        assert_eq!((facts.ttl_ms, facts.cache_scope), (Some(9), Some(CacheScope::Public)));
        assert!(ServerFacts::from_initialize(&result).is_err());
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for text in ["[]", "{}", r#"{"protocolVersion":1,"capabilities":{}}"#, r#"{"protocolVersion":"1","capabilities":[]}"#] {
            assert!(ServerFacts::from_initialize(&Bytes::from(text)).is_err(), "{text}");
        }
        assert!(ServerFacts::from_discover(&Bytes::from(r#"{"supportedVersions":{},"capabilities":{}}"#)).is_err());
    }
}
