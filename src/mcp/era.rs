//! The two eras of MCP, its revisions, and to which of them a request belongs.

use std::fmt;

use super::{Field, Kind, Message, errors::code, headers};

/// Whether peers agree by a handshake or by what each request says (MCP 2026-07-28, basic/versioning, "Terminology").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize`, then a session: up to 2025-11-25.
    Legacy,
    /// Version, identity and capabilities in the `_meta` of each request: from 2026-07-28 on.
    Modern,
}

impl Era {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// A revision of MCP that we speak. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

impl Version {
    /// Latest first, as `supported` lists show them.
    pub const ALL: [Self; 5] = [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;
    pub const LATEST_MODERN: Self = Self::V2026_07_28;
    /// What a request without `MCP-Protocol-Version` is taken for (MCP 2025-06-18, basic/transports).
    pub const WITHOUT_HEADER: Self = Self::V2025_03_26;

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub const fn era(self) -> Era {
        match self {
            Self::V2024_11_05 | Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => Era::Legacy,
            Self::V2026_07_28 => Era::Modern,
        }
    }

    /// The version a legacy server answers an `initialize` with: the one asked for, or its own latest.
    pub fn answer_to_initialize(requested: &str) -> Self {
        Self::parse(requested).filter(|version| version.era() == Era::Legacy).unwrap_or(Self::LATEST_LEGACY)
    }

    /// The latest of the versions a modern server lists that we speak too.
    pub fn best_modern<'a>(supported: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        supported.into_iter().filter_map(Self::parse).filter(|version| version.era() == Era::Modern).max()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a message from a client is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Statelessly, by this version. The headers are still to be checked with `headers::Mirrored::check`.
    Modern(Version),
    /// The legacy handshake.
    Initialize,
    /// Within the legacy era; `None` means by the version that the session agreed on.
    Legacy(Option<Version>),
}

impl Opening {
    pub fn era(self) -> Era {
        match self {
            Self::Modern(_) => Era::Modern,
            Self::Initialize | Self::Legacy(_) => Era::Legacy,
        }
    }
}

/// Why a message fits neither era. All of them are HTTP 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// A request asks in its `_meta` for a version we do not speak; the answer lists [`Version::ALL`].
    #[error("Unsupported protocol version")]
    UnsupportedVersion { requested: String },
    /// The header of a legacy request names a version we do not speak.
    #[error("Unsupported protocol version in the MCP-Protocol-Version header")]
    UnsupportedHeader { requested: String },
    #[error("Invalid params: {0}")]
    InvalidMeta(&'static str),
    #[error(transparent)]
    HeaderMismatch(#[from] headers::HeaderMismatch),
    #[error("Invalid request: a client does not send responses since 2026-07-28")]
    ResponseFromModernClient,
}

impl OpeningError {
    pub fn code(&self) -> i64 {
        match self {
            Self::UnsupportedVersion { .. } => code::UNSUPPORTED_PROTOCOL_VERSION,
            Self::UnsupportedHeader { .. } | Self::ResponseFromModernClient => code::INVALID_REQUEST,
            Self::InvalidMeta(_) => code::INVALID_PARAMS,
            Self::HeaderMismatch(_) => code::HEADER_MISMATCH,
        }
    }
}

/// Tells how a message is to be served: by its own `_meta` first, then by its method, last by header and session.
///
/// `header` is the value of `MCP-Protocol-Version`. A proxy that strips it does not change the era of a request.
///
/// # Errors
/// [`OpeningError`]: the message claims a version we lack, or contradicts itself.
pub fn classify(message: &Message, header: Option<&str>, has_session: bool) -> Result<Opening, OpeningError> {
    let header = header.map(|value| value.trim_matches([' ', '\t']));
    let header_version = header.and_then(Version::parse);
    let modern_header = header_version.filter(|version| version.era() == Era::Modern);
    let claim = message.span(Field::MetaProtocolVersion);
    if message.method() == "initialize" && message.kind() == Kind::Request && !claims_modern(message) {
        return match (header, modern_header) {
            (Some(header), Some(_)) => {
                Err(headers::HeaderMismatch::differs(headers::PROTOCOL_VERSION, header, "the version of a legacy handshake").into())
            }
            _ => Ok(Opening::Initialize),
        };
    }
    if claim.is_some() {
        return claimed(message, header).map(Opening::Modern);
    }
    if let Some(version) = modern_header {
        return match message.kind() {
            Kind::Request => Err(OpeningError::InvalidMeta("_meta lacks io.modelcontextprotocol/protocolVersion")),
            Kind::Notification => Ok(Opening::Modern(version)),
            Kind::Response | Kind::ErrorResponse => Err(OpeningError::ResponseFromModernClient),
        };
    }
    match (header, header_version) {
        (_, Some(version)) => Ok(Opening::Legacy(Some(version))),
        (Some(header), None) => Err(OpeningError::UnsupportedHeader { requested: header.to_owned() }),
        (None, None) if has_session => Ok(Opening::Legacy(None)),
        (None, None) => Ok(Opening::Legacy(Some(Version::WITHOUT_HEADER))),
    }
}

/// Whether an `initialize` is a whole modern request, which is then answered as an unknown method.
fn claims_modern(message: &Message) -> bool {
    let version = message.meta_protocol_version().as_deref().and_then(Version::parse);
    version.is_some_and(|version| version.era() == Era::Modern) && check_meta(message).is_ok()
}

fn claimed(message: &Message, header: Option<&str>) -> Result<Version, OpeningError> {
    if message.kind() == Kind::Request {
        check_meta(message)?;
    }
    let claim = message
        .meta_protocol_version()
        .ok_or(OpeningError::InvalidMeta("_meta io.modelcontextprotocol/protocolVersion is not a string"))?;
    if let Some(header) = header
        && header != claim
    {
        return Err(headers::HeaderMismatch::differs(headers::PROTOCOL_VERSION, header, &claim).into());
    }
    match Version::parse(&claim) {
        Some(version) if version.era() == Era::Modern => Ok(version),
        _ => Err(OpeningError::UnsupportedVersion { requested: claim.into_owned() }),
    }
}

/// The fields each modern request must carry (MCP 2026-07-28, basic, "Per-request protocol fields").
fn check_meta(message: &Message) -> Result<(), OpeningError> {
    let starts = |field, byte: u8| message.span(field).map(|span| span.of(message.bytes()).first() == Some(&byte));
    match (starts(Field::MetaClientCapabilities, b'{'), starts(Field::MetaClientInfo, b'{'), starts(Field::MetaLogLevel, b'"')) {
        (None, _, _) => Err(OpeningError::InvalidMeta("_meta lacks io.modelcontextprotocol/clientCapabilities")),
        (Some(false), _, _) => Err(OpeningError::InvalidMeta("_meta io.modelcontextprotocol/clientCapabilities is not an object")),
        (_, Some(false), _) => Err(OpeningError::InvalidMeta("_meta io.modelcontextprotocol/clientInfo is not an object")),
        (_, _, Some(false)) => Err(OpeningError::InvalidMeta("_meta io.modelcontextprotocol/logLevel is not a string")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MODERN: &str =
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn request(method: &str, params: &str) -> Message {
        Message::parse(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#))).unwrap()
    }

    fn code_of(result: Result<Opening, OpeningError>) -> i64 {
        result.unwrap_err().code()
    }

    #[test]
    fn the_body_decides_before_the_header() {
        let modern = Ok(Opening::Modern(Version::V2026_07_28));
        assert_eq!(classify(&request("tools/call", MODERN), Some("2026-07-28"), false), modern);
        assert_eq!(classify(&request("tools/call", MODERN), None, true), modern);
        assert_eq!(classify(&request("initialize", MODERN), None, false), modern);
        assert_eq!(code_of(classify(&request("tools/call", MODERN), Some("2025-11-25"), false)), -32020);
    }

    #[test]
    fn without_a_claim_the_request_is_legacy() {
        let call = request("tools/call", "");
        assert_eq!(classify(&request("initialize", ""), None, false), Ok(Opening::Initialize));
        assert_eq!(classify(&call, Some(" 2025-06-18 "), true), Ok(Opening::Legacy(Some(Version::V2025_06_18))));
        assert_eq!(classify(&call, None, true), Ok(Opening::Legacy(None)));
        assert_eq!(classify(&call, None, false), Ok(Opening::Legacy(Some(Version::V2025_03_26))));
    }

    #[test]
    fn contradictions_and_unknown_versions_are_refused() {
        let unknown = MODERN.replace("2026-07-28", "2199-01-01");
        for (method, params, header, code) in [
            ("tools/call", unknown.as_str(), Some("2199-01-01"), -32022),
            ("tools/call", r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#, Some("2026-07-28"), -32602),
            ("tools/call", "", Some("2026-07-28"), -32602),
            ("tools/call", "", Some("1999-01-01"), -32600),
            ("initialize", "", Some("2026-07-28"), -32020),
        ] {
            assert_eq!(code_of(classify(&request(method, params), header, false)), code, "{method} {params} {header:?}");
        }
        let answer = Message::parse(Bytes::from(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)).unwrap();
        assert_eq!(code_of(classify(&answer, Some("2026-07-28"), false)), -32600);
        assert_eq!(classify(&answer, Some("2025-11-25"), true), Ok(Opening::Legacy(Some(Version::V2025_11_25))));
    }

    #[test]
    fn an_unknown_version_is_answered_with_our_latest_legacy_one() {
        for (requested, answered) in [("2024-11-05", "2024-11-05"), ("2026-07-28", "2025-11-25"), ("1.0", "2025-11-25")] {
            assert_eq!(Version::answer_to_initialize(requested).as_str(), answered);
        }
        assert_eq!(Version::best_modern(["2025-11-25", "2026-07-28", "2199-01-01"]), Some(Version::V2026_07_28));
        assert_eq!(Version::best_modern(["2025-11-25"]), None);
    }
}
