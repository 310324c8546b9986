//! `[mcp.servers.NAME]`: from the file to [`UpstreamConfig`].

mod headers;
mod http;
mod stdio;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use globset::Glob;

pub use headers::{ALL_HEADER_KEYS, HEADER_KEYS, read as read_headers};
pub use http::{secret_header, unsafe_leg};
pub use stdio::STDERR_KEYS;

use super::config::{EndpointConfig, UpstreamConfig};
pub use super::credential::read::{AUTH_KEYS, is_reserved_header};
use crate::{
    auth, limits,
    names::{SEPARATOR, UpstreamName},
    problem::Problems,
    table::{Keys, Span, Table, built, planned},
};

pub const KEYS: Keys = Keys {
    table: "mcp.servers.NAME",
    doc: "One upstream: an HTTP server (`url`) or a process (`cmd`).",
    keys: &[
        built("enabled", "`false` leaves it out; its variables and files need not exist."),
        built("url", "Address of an HTTP server."),
        built("protocol", "`\"auto\"`, `\"streamable-http\"`, or `\"sse\"` for HTTP+SSE of 2024-11-05."),
        built("message_url", "Where an `\"sse\"` server takes messages, if not where it says."),
        built("tls", "How its certificate is verified, and the client certificate it gets."),
        built("auth", "The credential it gets."),
        built("headers", "Headers that it gets."),
        built("http_version", "`\"1.1\"`, `\"2\"`, or `\"auto\"`: what the server prefers."),
        built("proxy", "A forward proxy, as `http://[USER:PASSWORD@]HOST:PORT`; those of the environment are never used."),
        built("cmd", "Program and arguments of a process; no shell is involved."),
        built("env", "Environment variables of the process."),
        built("inherit_env", "Further variables of the gateway's own environment that the process may see."),
        built("cwd", "Working directory of the process."),
        built("stderr", "What happens to the process's error output."),
        built("isolation", "Who shares a process: `\"principal\"`, `\"session\"` or `\"shared\"`."),
        built("startup_timeout", "From the start of the process to its answer to initialize."),
        built("idle_timeout", "A process without work is ended after this long."),
        built("max_processes", "Most processes at a time."),
        built("required", "`/readyz` waits until it was up once."),
        built("prefix", "What its names are shown under."),
        built("expose", "Globs of the names that are shown."),
        built("hide", "Globs of the names that are never shown; wins over `expose`."),
        built("connect_timeout", "Dialling and the TLS handshake together."),
        built("list_timeout", "One page of a list, and the initialize request."),
        built("call_timeout", "From a call's start, or its last progress notification, to its answer."),
        planned("retry", "Repeats of what cannot run twice."),
        planned("circuit_breaker", "A pause after failures."),
        built("allow", "Groups that may use it; without the key, everybody may."),
        built("deny", "Groups that may not; wins over `allow`."),
        built("tools", "`allow` and `deny` for single tools, each in a table of its own; they come before the server's."),
        built("rate_limits", "How often it is called."),
    ],
};

/// One entry as read: its name and prefix are compared with the others' even when the rest is refused.
struct Entry {
    name: String,
    prefix: String,
    table: Table,
    enabled: bool,
    config: Option<UpstreamConfig>,
}

/// Reads all upstreams, in file order. Disabled ones are checked like the others, and left out.
pub fn read_all(servers: Table, problems: &mut Problems) -> Vec<UpstreamConfig> {
    let tables = servers.into_tables(problems);
    let entries: Vec<Entry> = tables.into_iter().map(|(name, table)| read(name, table, problems)).collect();
    check_prefixes(&entries, problems);
    entries.into_iter().filter(|entry| entry.enabled).filter_map(|entry| entry.config).collect()
}

fn read(name: String, mut table: Table, problems: &mut Problems) -> Entry {
    let seconds = Duration::from_secs;
    let valid_name = UpstreamName::parse(&name);
    if let Err(what) = valid_name {
        table.error(
            "",
            problems,
            what,
            "tools are listed as `name__tool`, and clients accept few characters in tool names",
            "rename the table",
        );
    }
    let enabled = table.bool("enabled", problems).unwrap_or(true);
    let prefix = prefix(&name, &mut table, problems);
    let required = table.bool("required", problems).unwrap_or(false);
    let expose = globs(&mut table, "expose", problems).unwrap_or_else(|| vec!["*".to_owned()]);
    let hide = globs(&mut table, "hide", problems).unwrap_or_default();
    if expose.is_empty() {
        table.warn(
            "expose",
            problems,
            "nothing of this upstream is shown",
            "the list of globs is empty",
            "write \"*\" into it, or set enabled = false",
        );
    }
    let access = auth::read_access(&mut table, problems);
    let timeouts: Span = Duration::from_millis(100)..=seconds(24 * 60 * 60);
    let connect_timeout = table.duration("connect_timeout", &timeouts, problems).unwrap_or(Duration::from_secs(5));
    let list_timeout = table.duration("list_timeout", &timeouts, problems).unwrap_or(Duration::from_secs(15));
    let call_timeout = table.duration("call_timeout", &timeouts, problems).unwrap_or(Duration::from_secs(300));
    let rate_limits = table.table("rate_limits", problems).map(|table| Arc::new(limits::read::read_upstream(table, &name, problems)));
    let endpoint = endpoint(&mut table, problems);
    table.finish(&KEYS, problems);
    let config = valid_name.ok().zip(endpoint).map(|(name, endpoint)| UpstreamConfig {
        name,
        endpoint,
        prefix: prefix.clone(),
        required,
        expose,
        hide,
        access,
        connect_timeout,
        list_timeout,
        call_timeout,
        rate_limits,
    });
    Entry { name, prefix, table, enabled, config }
}

fn endpoint(table: &mut Table, problems: &mut Problems) -> Option<EndpointConfig> {
    match (table.has("url"), table.has("cmd")) {
        (true, false) => {
            refuse_keys(table, &stdio::ONLY, "this setting is for a process, and the upstream has a url", problems);
            http::read(table, problems).map(|config| EndpointConfig::Http(Box::new(config)))
        }
        (false, true) => {
            refuse_keys(table, &http::ONLY, "this setting is for a url, and the upstream is a process", problems);
            http::refuse_tls(table, problems);
            stdio::read(table, problems).map(|config| EndpointConfig::Stdio(Box::new(config)))
        }
        (true, true) => {
            let remedy = "keep one of them, or make two upstreams of it";
            table.error("cmd", problems, "url and cmd together", "an upstream is either an HTTP server or a process", remedy);
            http::read(table, problems);
            stdio::read(table, problems);
            None
        }
        (false, false) => {
            let remedy = "add url = \"https://…\" or cmd = [\"program\", \"argument\"]";
            table.error("", problems, "neither url nor cmd", "the gateway cannot know how to reach this upstream", remedy);
            table.ignore(&http::ONLY);
            table.ignore(&stdio::ONLY);
            table.ignore(&["tls"]);
            None
        }
    }
}

fn refuse_keys(table: &mut Table, keys: &[&str], what: &str, problems: &mut Problems) {
    table.ignore(keys);
    for key in keys {
        if table.has(key) {
            table.hide(key);
            table.error(key, problems, what, "it would be ignored", &format!("remove {key}"));
        }
    }
}

fn prefix(name: &str, table: &mut Table, problems: &mut Problems) -> String {
    let Some(prefix) = table.string("prefix", problems) else { return name.to_owned() };
    if !prefix.is_empty() && UpstreamName::parse(&prefix).is_err() {
        let why = "names are shown as `prefix__name`: the prefix may hold letters, digits, `_`, `.` and `-`, and not `__` itself";
        table.error(
            "prefix",
            problems,
            "this prefix cannot be used",
            why,
            "shorten it to those characters, or leave it out to use the server's name",
        );
    }
    prefix
}

fn globs(table: &mut Table, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let globs = table.strings(key, problems)?;
    for (at, glob) in globs.iter().enumerate() {
        let entry = at + 1;
        if let Err(error) = Glob::new(glob) {
            let what = format!("entry {entry} of the list is no glob: {}", error.kind());
            let why = "a pattern that matches nothing would show or hide the wrong names";
            table.error(key, problems, what, why, "correct the pattern, such as \"delete_*\"");
        }
        if globs.iter().take(at).any(|earlier| earlier == glob) {
            let what = format!("entry {entry} of the list repeats an earlier one");
            table.error(key, problems, what, "one of them was probably meant to be another", "remove or correct it");
        }
    }
    Some(globs)
}

/// No name that is shown may lead to two upstreams.
fn check_prefixes(entries: &[Entry], problems: &mut Problems) {
    let enabled = || entries.iter().filter(|entry| entry.enabled);
    let names: BTreeMap<&str, &str> = enabled().map(|entry| (entry.name.as_str(), entry.prefix.as_str())).collect();
    let mut first: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in enabled() {
        let Some(earlier) = first.get(entry.prefix.as_str()) else {
            first.insert(&entry.prefix, entry);
            if entry.prefix != entry.name && names.get(entry.prefix.as_str()).is_some_and(|other| *other != entry.prefix) {
                let what = format!("the prefix is the name of the server \"{}\"", entry.prefix);
                let why =
                    format!("`{}{SEPARATOR}tool` would mean both, because a server's name is always accepted as a prefix", entry.prefix);
                entry.table.error("prefix", problems, what, &why, "choose another prefix");
            }
            continue;
        };
        if entry.prefix.is_empty() {
            let what = format!("a second upstream with prefix = \"\", after \"{}\"", earlier.name);
            let why = "names pass unchanged for one upstream only, so that no name can mean two things";
            entry.table.error("prefix", problems, what, why, "give one of the two a prefix");
        } else {
            let what = format!("the prefix is already that of \"{}\"", earlier.name);
            let why = format!("`{}{SEPARATOR}tool` would mean both", entry.prefix);
            entry.table.error("prefix", problems, what, &why, "give one of the two another prefix");
        }
    }
}
