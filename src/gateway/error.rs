//! Why a request is answered with an error, before anything says how that looks to a client.

use std::time::Duration;

use thiserror::Error;

use crate::{limits::Limited, mcp::headers::HeaderMismatch, names::UpstreamName, session::StoreError, upstream::UpstreamError};

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
