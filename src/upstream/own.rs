//! Who the gateway says it is when it speaks for itself.

use bytes::Bytes;

use crate::mcp::{Version, build, build::RequestMeta};

/// The gateway's own `clientInfo` and `serverInfo`.
pub(crate) fn own_info() -> Bytes {
    build::implementation("nexus", env!("CARGO_PKG_VERSION"))
}

/// The `_meta` of the gateway's own requests: it can do nothing that a server could ask a client for.
pub(crate) fn own_meta() -> RequestMeta {
    RequestMeta {
        version: Version::LATEST_MODERN,
        client_info: Some(own_info()),
        client_capabilities: Bytes::from_static(b"{}"),
        log_level: None,
    }
}
