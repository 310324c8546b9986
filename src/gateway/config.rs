//! `[mcp]`: the endpoint and what holds for all upstreams.

use std::time::Duration;

use super::CacheConfig;
use crate::{
    catalog::{Naming, Rules, ToolsMode},
    limits::LimitsConfig,
    secret::Secret,
    session::StoreConfig,
    upstream::{Bounds, UpstreamConfig},
};

/// The MCP side of the configuration, checked.
#[derive(Clone, Debug)]
pub struct McpConfig {
    pub enabled: bool,
    /// Path of the MCP endpoint, such as `/mcp`.
    pub path: String,
    /// Path of the endpoint of 2024-11-05 for old clients, if it is served.
    pub sse_path: Option<String>,
    /// How agents get at the tools.
    pub tools: ToolsMode,
    /// Whether `search` gives its results as structured content besides the text.
    pub structured: bool,
    /// Longest aggregated tool name in bytes; a longer one is shortened with a stable hash.
    pub max_tool_name: usize,
    pub when_down: WhenDown,
    /// Hard limit of a call, whatever progress it reports.
    pub call_timeout_max: Duration,
    /// A legacy client's session ends after this long without a request or stream.
    pub session_idle_timeout: Duration,
    pub max_sessions: usize,
    /// Most of them for one caller, where callers are told apart.
    pub max_sessions_per_principal: usize,
    /// Longest a list waits, after start, for upstreams that were not tried yet.
    pub list_wait: Duration,
    /// Longest time that calls go on in a generation of an upstream that was replaced.
    pub upstream_drain: Duration,
    /// A new identity or CA set is tried before it takes over; of `[certificates]`.
    pub probe_before_swap: bool,
    pub bounds: Bounds,
    pub parked: ParkedConfig,
    pub downstream_cache: CacheConfig,
    /// What seals the state that clients hold; of `[state]`. Empty: random at start.
    pub state_secrets: Vec<Secret>,
    /// Where legacy clients' sessions live; of `[state]`.
    pub store: StoreConfig,
    /// `[server.rate_limits]`.
    pub limits: LimitsConfig,
    /// In file order, which settles collisions. Disabled ones are left out.
    pub upstreams: Vec<UpstreamConfig>,
}

impl McpConfig {
    /// How the catalog is made.
    pub(super) fn rules(&self) -> Rules {
        let naming = Naming { max: self.max_tool_name, keeps_own: self.tools.lists_own() };
        Rules { mode: self.tools, naming, structured: self.structured }
    }
}

/// Whether a down upstream's last known catalog stays listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenDown {
    #[default]
    Keep,
    Hide,
}

/// Calls of modern clients that wait for what their legacy server asked for.
#[derive(Clone, Copy, Debug)]
pub struct ParkedConfig {
    /// How long one waits for its client.
    pub ttl: Duration,
    pub max: usize,
    pub max_per_principal: usize,
}

impl Default for ParkedConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(600), max: 1000, max_per_principal: 32 }
    }
}
