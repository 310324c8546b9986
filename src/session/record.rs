//! What is remembered of a legacy client's session.

use bytes::Bytes;

use crate::{auth::PrincipalKey, mcp::Version, session::SessionId};

/// A legacy session as the client opened it (MCP 2025-11-25, basic/lifecycle). Plain data.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    pub id: SessionId,
    /// Only this principal may use the session.
    pub principal: PrincipalKey,
    /// The version that was agreed on.
    pub version: Version,
    /// `capabilities` of the client's initialize request, raw JSON.
    pub capabilities: Bytes,
    /// `clientInfo` of the client's initialize request, raw JSON.
    pub client_info: Bytes,
}
