//! `[mcp]`: the endpoint and what holds for all upstreams.

use std::time::Duration;

use crate::upstream::{Bounds, UpstreamConfig};

/// The MCP side of the configuration, checked.
#[derive(Clone, Debug)]
pub struct McpConfig {
    pub enabled: bool,
    /// Path of the MCP endpoint, such as `/mcp`.
    pub path: String,
    /// Path of the endpoint of 2024-11-05 for old clients, if it is served.
    pub sse_path: Option<String>,
    /// Longest aggregated tool name in bytes; a longer one is shortened with a stable hash.
    pub max_tool_name: usize,
    pub when_down: WhenDown,
    /// Hard limit of a call, whatever progress it reports.
    pub call_timeout_max: Duration,
    /// A legacy client's session ends after this long without a request or stream.
    pub session_idle_timeout: Duration,
    pub max_sessions: usize,
    /// Longest a list waits, after start, for upstreams that were not tried yet.
    pub list_wait: Duration,
    /// Longest time that calls go on in a generation of an upstream that was replaced.
    pub upstream_drain: Duration,
    /// A new identity or CA set is tried before it takes over; of `[certificates]`.
    pub probe_before_swap: bool,
    pub bounds: Bounds,
    /// In file order, which settles collisions. Disabled ones are left out.
    pub upstreams: Vec<UpstreamConfig>,
}

/// Whether a down upstream's last known catalog stays listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenDown {
    #[default]
    Keep,
    Hide,
}
