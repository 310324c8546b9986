//! `[mcp]`: the endpoint and what holds for all upstreams.

use std::time::Duration;

use crate::upstream::UpstreamConfig;

/// The MCP side of the configuration, checked.
#[derive(Clone, Debug)]
pub struct McpConfig {
    pub enabled: bool,
    /// Path of the MCP endpoint, such as `/mcp`.
    pub path: String,
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

/// `[mcp.bounds]`: what an upstream may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest SSE event in bytes.
    pub max_event: usize,
    /// Longest line of a stdio upstream in bytes.
    pub max_line: usize,
    /// Largest list of one upstream in bytes, all pages together.
    pub max_list: usize,
    pub max_items: usize,
    pub max_pages: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_event: 16 << 20, max_line: 16 << 20, max_list: 32 << 20, max_items: 20_000, max_pages: 200 }
    }
}
