//! The keys of limits: from tables to [`LimitsConfig`] and [`UpstreamLimits`].

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use super::{LimitsConfig, OnError, Per, Quota, Rule, Scope, StorageConfig, UpstreamLimits, quota::LONGEST_FILL};
use crate::{
    problem::Problems,
    redis,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "server.rate_limits",
    doc: "How often clients may ask.",
    keys: &[
        built("enabled", "`false` turns every limit off, those of upstreams included."),
        built("storage", "Where the tokens are counted: `\"memory\"`, or a Redis that replicas share."),
        built("global", "For all requests over HTTP together."),
        built("per_ip", "For the requests from each address; of IPv6, from each /64."),
        built("per_client", "For the calls of each client."),
    ],
};

pub const QUOTA_KEYS: Keys = Keys {
    table: "server.rate_limits.global",
    doc: "A limit; `per_ip` and `per_client` have the same keys.",
    keys: &[
        built("limit", "How many within each interval."),
        built("interval", "The interval."),
        built("burst", "How many at once after a pause."),
    ],
};

pub const STORAGE_KEYS: Keys = Keys {
    table: "server.rate_limits.storage",
    doc: "Where the tokens are counted.",
    keys: &[
        built("type", "`\"memory\"` or `\"redis\"`."),
        built("url", "The Redis or Valkey; `rediss://` is TLS."),
        built("key_prefix", "What every key begins with."),
        built("response_timeout", "From a command to its answer; no request waits longer."),
        built("connection_timeout", "Look-up, TCP, TLS and greeting together."),
        built("pool", "The connections."),
        built("tls", "How its certificate is verified, and the client certificate it gets."),
        built("on_error", "What becomes of requests while it does not answer: `\"allow\"` or `\"deny\"`."),
    ],
};

pub const UPSTREAM_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.rate_limits",
    doc: "How often an upstream is called.",
    keys: &[
        built("limit", "How many calls within each interval."),
        built("interval", "The interval."),
        built("burst", "How many at once after a pause."),
        built("per", "`\"gateway\"`: all clients share it, `\"client\"`: each has its own."),
        built("tools", "Limits of single tools, by their names; each takes the place of the upstream's."),
    ],
};

pub const TOOL_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.rate_limits.tools.TOOL",
    doc: "How often one tool is called.",
    keys: &[
        built("limit", "How many calls within each interval."),
        built("interval", "The interval."),
        built("burst", "How many at once after a pause."),
    ],
};

/// Only a Redis has these.
const REDIS_ONLY: [&str; 7] = ["url", "key_prefix", "response_timeout", "connection_timeout", "pool", "tls", "on_error"];

/// Reads `[server.rate_limits]`; absent, upstreams' limits work with tokens in memory.
pub fn read(table: Option<Table>, problems: &mut Problems) -> LimitsConfig {
    let Some(mut table) = table else { return LimitsConfig::default() };
    let enabled = table.bool("enabled", problems).unwrap_or(true);
    let storage = storage(&mut table, problems).unwrap_or(StorageConfig::Memory);
    let mut limit = |key: &str, scope: Scope, name: &str| {
        let mut table = table.table(key, problems)?;
        let quota = quota(&mut table, problems);
        table.finish(&QUOTA_KEYS, problems);
        quota.map(|quota| Rule { scope, name: name.into(), quota })
    };
    let global = limit("global", Scope::Global, "global");
    let per_ip = limit("per_ip", Scope::Ip, "ip");
    let per_client = limit("per_client", Scope::Client, "client");
    table.finish(&KEYS, problems);
    LimitsConfig { enabled, storage, global, per_ip, per_client }
}

/// Reads `[mcp.servers.NAME.rate_limits]`. `server` is NAME.
pub fn read_upstream(mut table: Table, server: &str, problems: &mut Problems) -> UpstreamLimits {
    let per = table.choice("per", &[("gateway", Per::Gateway), ("client", Per::Client)], &[], problems).unwrap_or_default();
    let tools = table.table("tools", problems).map(|tools| tools.into_tables(problems)).unwrap_or_default();
    let mut limits = HashMap::with_capacity(tools.len());
    let has_tools = !tools.is_empty();
    for (tool, mut table) in tools {
        let quota = quota(&mut table, problems);
        table.finish(&TOOL_KEYS, problems);
        let name = format!("tool:{server}:{tool}").into();
        limits.extend(quota.map(|quota| (tool.into(), Rule { scope: Scope::Tool, name, quota })));
    }
    let has_own = ["limit", "interval", "burst"].iter().any(|key| table.has(key));
    let quota = if has_own || !has_tools { quota(&mut table, problems) } else { None };
    let server = quota.map(|quota| Rule { scope: Scope::Server, name: format!("server:{server}").into(), quota });
    table.finish(&UPSTREAM_KEYS, problems);
    UpstreamLimits { server, per, tools: limits }
}

fn quota(table: &mut Table, problems: &mut Problems) -> Option<Quota> {
    let limit = table.integer("limit", 1..=u32::MAX, problems).and_then(positive);
    let interval = table.duration("interval", &(Duration::from_millis(1)..=LONGEST_FILL), problems);
    let burst = table.integer("burst", 1..=u32::MAX, problems).and_then(positive);
    let missing: Vec<&str> = ["limit", "interval"].into_iter().filter(|key| !table.has(key)).collect();
    if !missing.is_empty() {
        let what = format!("a limit without {}", missing.join(" and "));
        table.error(
            "",
            problems,
            what,
            "a limit says how many, and within which time",
            "write limit = 100 and interval = \"60s\", or what fits",
        );
    }
    let (limit, interval) = (limit?, interval?);
    if burst.is_none() && table.has("burst") {
        return None;
    }
    let Some(quota) = Quota::new(limit, interval, burst.unwrap_or(limit)) else {
        let key = if table.has("burst") { "burst" } else { "interval" };
        let why = "after a burst it would take more than a year until another one is possible";
        table.error(key, problems, "this burst is too large for its rate", why, "lower burst, or allow more within the interval");
        return None;
    };
    let possible = interval.as_nanos() / quota.period().as_nanos();
    if possible + 1 < u128::from(limit.get()) {
        let what = format!("this comes to {possible} within the interval");
        let why = "the time between two is a whole number of microseconds, rounded up";
        table.warn("limit", problems, what, why, &format!("write limit = {possible}, or do without this limit"));
    }
    Some(quota)
}

fn positive(number: usize) -> Option<NonZeroU32> {
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}

/// `storage = "memory"`, or a table with its type.
fn storage(table: &mut Table, problems: &mut Problems) -> Option<StorageConfig> {
    let types = [("memory", false), ("redis", true)];
    if !table.holds_table("storage") {
        if table.choice("storage", &types, &[], problems)? {
            let remedy = "write [server.rate_limits.storage] with type = \"redis\" and url = \"redis://…\"";
            table.error("storage", problems, "a Redis without a url", "the gateway cannot know where it is", remedy);
        }
        return None;
    }
    let mut storage = table.table("storage", problems)?;
    let is_redis = storage.choice("type", &types, &[], problems);
    if !storage.has("type") {
        storage.error("", problems, "a storage without a type", "it is memory or Redis", "add type = \"memory\" or type = \"redis\"");
    }
    let read = match is_redis {
        Some(true) => redis(&mut storage, problems),
        Some(false) => {
            storage.ignore(&REDIS_ONLY);
            for key in REDIS_ONLY {
                if !storage.has(key) {
                    continue;
                }
                storage.hide(key);
                let what = format!("{key} with type = \"memory\"");
                storage.error(key, problems, what, "it would be ignored", &format!("remove {key}, or write type = \"redis\""));
            }
            None
        }
        None => {
            storage.ignore(&REDIS_ONLY);
            None
        }
    };
    storage.finish(&STORAGE_KEYS, problems);
    read
}

fn redis(storage: &mut Table, problems: &mut Problems) -> Option<StorageConfig> {
    let words = [("allow", OnError::Allow), ("deny", OnError::Deny)];
    let on_error = storage.choice("on_error", &words, &[], problems).unwrap_or_default();
    let redis = redis::read::read(storage, "url", "nexus:", problems);
    if !storage.has("url") {
        let remedy = "add url = \"redis://127.0.0.1:6379\"";
        storage.error("", problems, "a Redis without a url", "the gateway cannot know where it is", remedy);
    }
    Some(StorageConfig::Redis { redis: Box::new(redis?), on_error })
}
