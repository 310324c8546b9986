//! `[mcp]`: from the file to [`McpConfig`].

use std::time::Duration;

use super::{Bounds, CacheConfig, McpConfig, ParkedConfig, WhenDown};
use crate::{
    catalog::{LONGEST_TOOL_NAME, ToolsMode},
    limits::LimitsConfig,
    problem::Problems,
    session::StoreConfig,
    table::{Keys, Table, built},
    upstream::{self, CredentialConfig, EndpointConfig},
};

pub const KEYS: Keys = Keys {
    table: "mcp",
    doc: "The MCP endpoint, and what holds for all upstreams.",
    keys: &[
        built("enabled", "Whether the endpoint is served."),
        built("path", "Path of the endpoint."),
        built("sse_path", "Path of the HTTP+SSE endpoint for clients of 2024-11-05."),
        built(
            "tools",
            "`\"direct\"` lists every tool as `server__tool`, `\"search\"` the tools `search` and `execute` instead, `\"both\"` all.",
        ),
        built("enable_structured_content", "Whether `search` gives its results as structured content too."),
        built("max_tool_name", "Longest tool name in bytes; a longer one is shortened with a stable hash."),
        built("when_down", "`\"keep\"` lists the tools of an upstream that is down, `\"hide\"` does not."),
        built("call_timeout_max", "Longest time of a call, whatever progress it reports."),
        built("session_idle_timeout", "A session ends after this long without a request or a stream."),
        built("max_sessions", "Most sessions at a time."),
        built("max_sessions_per_principal", "Most of them for one caller, where callers are told apart."),
        built("list_wait", "Longest time a list waits, after the start, for upstreams that were not tried yet."),
        built("upstream_drain", "How long calls may go on with a certificate or configuration that was replaced."),
        built("bounds", "What an upstream may make the gateway hold."),
        built("parked", "Calls that wait for a client's answer."),
        built("servers", "The upstreams, each in a table of its own."),
        built("downstream_cache", "What is kept for callers whose own token an upstream takes."),
        built("headers", "Headers for all upstreams with a URL."),
    ],
};

pub const BOUNDS_KEYS: Keys = Keys {
    table: "mcp.bounds",
    doc: "What an upstream may make the gateway hold.",
    keys: &[
        built("max_event", "Largest event of an event stream."),
        built("max_line", "Longest line of a process."),
        built("max_list", "Largest list of one upstream, all pages together."),
        built("max_items", "Most items in one list."),
        built("max_pages", "Most pages of one list."),
    ],
};

pub const PARKED_KEYS: Keys = Keys {
    table: "mcp.parked",
    doc: "Calls of 2026-07-28 clients that wait while their earlier-revision server wants to know something.",
    keys: &[
        built("ttl", "How long a call waits for its client."),
        built("max", "Most calls that wait at a time."),
        built("max_per_principal", "Most of them for one caller."),
    ],
};

pub const CACHE_KEYS: Keys = Keys {
    table: "mcp.downstream_cache",
    doc: "What is kept for callers whose own token an upstream takes: connections, sessions and catalog of each.",
    keys: &[
        built("max_size", "Most callers at a time; whoever was not here for the longest time makes room."),
        built("idle_timeout", "What is kept for a caller ends after this long without a request of its own."),
    ],
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Reads the table and the upstreams in it; absent, everything has its default and there are no upstreams.
pub fn read(table: Option<Table>, problems: &mut Problems) -> McpConfig {
    let mut table = table.unwrap_or_else(|| Table::absent("mcp"));
    let table = &mut table;
    let seconds = Duration::from_secs;
    let modes = [ToolsMode::Direct, ToolsMode::Search, ToolsMode::Both].map(|mode| (mode.word(), mode));
    let for_all = upstream::read::read_headers(table, &upstream::read::ALL_HEADER_KEYS, &CredentialConfig::None, problems);
    let mut config = McpConfig {
        enabled: table.bool("enabled", problems).unwrap_or(true),
        path: table.endpoint_path("path", problems).unwrap_or_else(|| "/mcp".to_owned()),
        sse_path: table.endpoint_path("sse_path", problems),
        tools: table.choice("tools", &modes, &[], problems).unwrap_or_default(),
        structured: table.bool("enable_structured_content", problems).unwrap_or(true),
        max_tool_name: table.integer("max_tool_name", 16..=u32::from(LONGEST_TOOL_NAME), problems).unwrap_or(52),
        when_down: table.choice("when_down", &[("keep", WhenDown::Keep), ("hide", WhenDown::Hide)], &[], problems).unwrap_or_default(),
        call_timeout_max: table.duration("call_timeout_max", &(seconds(1)..=HOUR * 168), problems).unwrap_or(HOUR),
        session_idle_timeout: table.duration("session_idle_timeout", &(seconds(1)..=HOUR * 168), problems).unwrap_or(HOUR),
        max_sessions: table.integer("max_sessions", 1..=10_000_000, problems).unwrap_or(100_000),
        max_sessions_per_principal: table.integer("max_sessions_per_principal", 1..=10_000_000, problems).unwrap_or(1000),
        list_wait: table.duration("list_wait", &(Duration::ZERO..=seconds(60)), problems).unwrap_or(Duration::from_secs(3)),
        upstream_drain: table.duration("upstream_drain", &(Duration::ZERO..=HOUR * 24), problems).unwrap_or(Duration::from_secs(600)),
        probe_before_swap: true,
        bounds: bounds(table.table("bounds", problems), problems),
        parked: parked(table.table("parked", problems), problems),
        downstream_cache: downstream_cache(table.table("downstream_cache", problems), problems),
        state_secrets: Vec::new(),
        store: StoreConfig::Memory,
        limits: LimitsConfig::default(),
        upstreams: table.table("servers", problems).map(|servers| upstream::read::read_all(servers, problems)).unwrap_or_default(),
    };
    for upstream in &mut config.upstreams {
        if let EndpointConfig::Http(http) = &mut upstream.endpoint {
            http.headers.after(&for_all);
            if let (Some(header), Some((how, remedy))) = (upstream::read::secret_header(&for_all), upstream::read::unsafe_leg(http)) {
                let what = format!("the header {header} goes to \"{}\" {how}", upstream.name);
                table.insecure("headers", problems, what, "everyone on the way, or in the server's place, can use it", remedy);
            }
        }
    }
    if config.enabled && !table.has("servers") {
        let remedy = "add [mcp.servers.NAME] with a url or a cmd, or make one from a client's configuration with `nexus import`";
        table.warn("", problems, "there is no upstream", "clients will see an empty list of tools", remedy);
    }
    table.finish(&KEYS, problems);
    config
}

fn downstream_cache(table: Option<Table>, problems: &mut Problems) -> CacheConfig {
    let Some(mut table) = table else { return CacheConfig::default() };
    let default = CacheConfig::default();
    let cache = CacheConfig {
        max_size: table.integer("max_size", 1..=1_000_000, problems).unwrap_or(default.max_size),
        idle_timeout: table.duration("idle_timeout", &(Duration::from_secs(1)..=HOUR * 24), problems).unwrap_or(default.idle_timeout),
    };
    table.finish(&CACHE_KEYS, problems);
    cache
}

fn bounds(table: Option<Table>, problems: &mut Problems) -> Bounds {
    let Some(mut table) = table else { return Bounds::default() };
    let default = Bounds::default();
    let sizes = 64 << 10..=1 << 30;
    let bounds = Bounds {
        max_event: table.size("max_event", &sizes, problems).unwrap_or(default.max_event),
        max_line: table.size("max_line", &sizes, problems).unwrap_or(default.max_line),
        max_list: table.size("max_list", &sizes, problems).unwrap_or(default.max_list),
        max_items: table.integer("max_items", 1..=1_000_000, problems).unwrap_or(default.max_items),
        max_pages: table.integer("max_pages", 1..=100_000, problems).unwrap_or(default.max_pages),
    };
    table.finish(&BOUNDS_KEYS, problems);
    bounds
}

fn parked(table: Option<Table>, problems: &mut Problems) -> ParkedConfig {
    let Some(mut table) = table else { return ParkedConfig::default() };
    let default = ParkedConfig::default();
    let parked = ParkedConfig {
        ttl: table.duration("ttl", &(Duration::from_secs(1)..=HOUR * 24), problems).unwrap_or(default.ttl),
        max: table.integer("max", 0..=100_000, problems).unwrap_or(default.max),
        max_per_principal: table.integer("max_per_principal", 0..=100_000, problems).unwrap_or(default.max_per_principal),
    };
    table.finish(&PARKED_KEYS, problems);
    parked
}
