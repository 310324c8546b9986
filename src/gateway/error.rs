//! Why a request is answered with an error, before anything says how that looks to a client.

use std::time::Duration;

use thiserror::Error;

use crate::{
    audit::RequestId,
    limits::Limited,
    mcp::{Era, errors::code, headers::HeaderMismatch},
    names::UpstreamName,
    reason::Reason,
    session::StoreError,
    upstream::UpstreamError,
};

/// One variant per thing that a client or an operator can act on.
#[derive(Debug, Error)]
pub enum GatewayError {
    #[error("unknown {kind}: {name:?}")]
    Unknown { kind: ItemKind, name: String },
    #[error("{name:?} is offered by several upstreams")]
    Ambiguous { name: String, candidates: Vec<String> },
    /// `execute` was asked to run a tool that is not known.
    #[error("unknown tool to execute: {name:?}")]
    UnknownToExecute { name: String },
    /// Our own index broke; the log says why.
    #[error("the search failed")]
    SearchFailed,
    #[error("unknown method {0:?}")]
    MethodNotFound(String),
    /// `Mcp-Param-*` headers that do not repeat the arguments.
    #[error(transparent)]
    HeaderMismatch(#[from] HeaderMismatch),
    #[error("{0}")]
    InvalidParams(&'static str),
    /// A `requestState` that is not, or not any more, good for this request.
    #[error("the request state is not valid")]
    InvalidState,
    #[error("upstream {upstream}: {error}")]
    Upstream {
        upstream: UpstreamName,
        error: UpstreamError,
        /// Wall-clock time since which the upstream is down, if it is.
        since: Option<Duration>,
        /// Of the request, where it has one already.
        request_id: Option<RequestId>,
    },
    /// What is asked for needs an extension that the client does not declare (MCP 2026-07-28, basic, "Error Codes").
    #[error("the request does not declare the extension {0}")]
    MissingExtension(&'static str),
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error("too many sessions")]
    TooManySessions,
    /// What replicas share cannot be looked at or changed right now.
    #[error("the store of sessions gives no answer")]
    NoStore(#[source] StoreError),
}

impl GatewayError {
    /// The JSON-RPC code with which a client of this era is told.
    pub fn code(&self, era: Era) -> i64 {
        match self {
            // Renamed by 2026-07-28 (server/resources, error handling).
            Self::Unknown { kind: ItemKind::Resource, .. } if era == Era::Legacy => code::RESOURCE_NOT_FOUND,
            // Grafbase's Nexus says "method not found", and so do we to the clients that it has. To a modern client that is HTTP 404
            // and means that there are no tools at all (MCP 2026-07-28, basic/transports).
            Self::UnknownToExecute { .. } if era == Era::Legacy => code::METHOD_NOT_FOUND,
            Self::Unknown { .. } | Self::UnknownToExecute { .. } | Self::Ambiguous { .. } | Self::InvalidParams(_) | Self::InvalidState => {
                code::INVALID_PARAMS
            }
            Self::MethodNotFound(_) => code::METHOD_NOT_FOUND,
            Self::HeaderMismatch(_) => code::HEADER_MISMATCH,
            Self::MissingExtension(_) => code::MISSING_CLIENT_CAPABILITY,
            Self::Upstream { error, .. } if error.reason() == Reason::NeedsCaller => code::INVALID_REQUEST,
            Self::Upstream { error: UpstreamError::Busy { .. }, .. } | Self::Limited(_) | Self::TooManySessions | Self::NoStore(_) => {
                code::SERVER_ERROR
            }
            Self::Upstream { .. } | Self::SearchFailed => code::INTERNAL_ERROR,
        }
    }

    /// The stable word for the cause.
    pub fn reason_word(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::UnknownToExecute { .. } => "unknown",
            Self::Ambiguous { .. } => "ambiguous",
            Self::SearchFailed => "search_failed",
            Self::MethodNotFound(_) => "method_not_found",
            Self::HeaderMismatch(_) => "header_mismatch",
            Self::InvalidParams(_) => "invalid_params",
            Self::InvalidState => "invalid_request_state",
            Self::Upstream { error, .. } => error.reason().code(),
            Self::MissingExtension(_) => "missing_extension",
            Self::Limited(_) => "rate_limited",
            Self::TooManySessions => "too_many_sessions",
            Self::NoStore(_) => "no_store",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    Tool,
    Prompt,
    Resource,
    Task,
}

impl std::fmt::Display for ItemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Task => "task",
        })
    }
}
