//! `--from-grafbase`: what a file of Grafbase's Nexus does differently here. docs/migrating-from-grafbase-nexus.md says why.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::{
    config::{Config, Loaded},
    upstream::{EndpointConfig, UpstreamConfig},
};

const PAGE: &str = "docs/migrating-from-grafbase-nexus.md";

/// One thing that is different, and where in the file.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    /// The heading on the page.
    topic: &'static str,
    places: Vec<Place>,
    /// What Grafbase's Nexus does.
    there: &'static str,
    /// What this gateway does.
    here: &'static str,
}

#[derive(Debug, Serialize)]
struct Place {
    key: String,
    /// `null` for what the file does not say.
    line: Option<u32>,
}

/// When a difference concerns a file.
enum When {
    /// It has a key like this; `NAME` is any one part of the path.
    Has(&'static str),
    /// It does not have this key.
    Lacks(&'static str),
    /// It has an upstream like this, and then each of them is a place.
    Upstream(fn(&UpstreamConfig) -> bool),
    /// Something else about it; the key names the place.
    Holds(&'static str, fn(&Config) -> bool),
}

struct Known {
    when: When,
    topic: &'static str,
    there: &'static str,
    here: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        when: When::Lacks("mcp.tools"),
        topic: "search",
        there: "agents see two tools, search and execute",
        here: "agents see every tool as server__tool, and calls of search and execute are answered too; tools = \"search\" lists these two only",
    },
    Known {
        when: When::Has("mcp.servers.NAME.tls.root_ca_cert_path"),
        topic: "ca-files",
        there: "the file's CAs are trusted beside those of the system",
        here: "they are the only ones that are trusted for this server; include_system_cas = true trusts both",
    },
    Known {
        when: When::Has("mcp.servers.NAME.tls.client_key_path"),
        topic: "key-files",
        there: "a key that others may read is used",
        here: "it keeps the upstream down until chmod 600; key_permissions = \"warn\" uses it with a warning",
    },
    Known {
        when: When::Has("mcp.servers.NAME.tls.accept_invalid_hostnames"),
        topic: "names-and-verification",
        there: "any name passes once this is true, whatever CAs are trusted",
        here: "true needs root_ca_cert_path or spki_pins; server_name or expected_sans say which name is right",
    },
    Known {
        when: When::Upstream(is_http),
        topic: "proxies-and-redirects",
        there: "HTTPS_PROXY and its like are obeyed, and redirects are followed anywhere",
        here: "only `proxy` of the upstream is used, and a redirect to another origin is a failure",
    },
    Known {
        when: When::Upstream(|upstream| !is_http(upstream)),
        topic: "processes",
        there: "a process inherits the gateway's whole environment, and one process serves everybody",
        here: "it sees PATH, HOME and a few more, `env`, and what inherit_env names; each caller has a process of its own, isolation = \"shared\" has one",
    },
    Known {
        when: When::Upstream(|upstream| !is_http(upstream)),
        topic: "processes",
        there: "what a process writes to stderr is discarded unless `stderr` says otherwise",
        here: "it goes to the log unless `stderr` says otherwise",
    },
    Known {
        when: When::Has("mcp.servers.NAME.auth.type"),
        topic: "forwarded-tokens",
        there: "the caller's token goes to any URL, over whatever connection",
        here: "it goes over verified TLS only; allow_insecure_forward = true lifts that",
    },
    Known {
        when: When::Has("mcp.servers.NAME.tools"),
        topic: "allow-and-deny",
        there: "a tool with rules of its own knows nothing of the server's, so a deny alone opens it to everybody else",
        here: "a tool's deny takes away and gives nothing: the server's lists still hold",
    },
    Known {
        when: When::Holds("mcp.servers", |config| {
            let has_rules = |upstream: &UpstreamConfig| upstream.access.server.allow.is_some() || !upstream.access.server.deny.is_empty();
            config.mcp.upstreams.iter().any(has_rules)
        }),
        topic: "allow-and-deny",
        there: "allow and deny hold for tools",
        here: "a server's lists hold for its prompts, resources and templates too",
    },
    Known {
        when: When::Lacks("server.cors"),
        topic: "browsers",
        there: "without [server.cors] a web page of any origin may read answers",
        here: "none may, and a browser's request from another origin gets 403",
    },
    Known {
        when: When::Has("server.csrf.enabled"),
        topic: "browsers",
        there: "every client must send the header",
        here: "browsers must, and other programs need not",
    },
    Known {
        when: When::Holds("server.listen_address", |config| !config.server.listen_address.ip().is_loopback()),
        topic: "who-may-call",
        there: "a listener off loopback serves everyone",
        here: "it needs oauth, api_keys or required client certificates, or allow_anonymous = true",
    },
    Known {
        when: When::Has("server.oauth"),
        topic: "tokens",
        there: "a token that is signed with a shared secret (HS256) is accepted where the key set has one",
        here: "HS256 and its like are never accepted, and who lacks a token is led to one by the metadata of RFC 9728",
    },
    Known {
        when: When::Has("server.client_identification"),
        topic: "identification",
        there: "a header is believed whoever sends it",
        here: "headers count from server.client_ip.trusted_proxies only; several groups in one claim all count",
    },
    Known {
        when: When::Has("server.client_ip"),
        topic: "identification",
        there: "X-Real-IP and X-Forwarded-For are believed whoever sends them",
        here: "they count from trusted_proxies only",
    },
    Known {
        when: When::Has("server.rate_limits"),
        topic: "limits",
        there: "a refusal does not say when to come again",
        here: "it does, and `burst` says how many calls may come at once: as many as `limit`, unless it is set",
    },
    Known {
        when: When::Has("mcp.servers.NAME.rate_limits"),
        topic: "limits",
        there: "a server's limits count only while [server.rate_limits] is enabled",
        here: "they work by themselves; enabled = false in [server.rate_limits] turns all limits off",
    },
    Known {
        when: When::Has("telemetry"),
        topic: "telemetry",
        there: "traces, metrics and logs are exported by OpenTelemetry",
        here: "nothing is sent yet; /metrics of [admin] serves Prometheus, and `audit` writes a line for each call",
    },
];

/// Of a table that is left out before anything is read of it.
const LLM: Known = Known {
    when: When::Has("llm"),
    topic: "llm",
    there: "LLM providers are routed to",
    here: "this gateway is for MCP alone, and skips the table",
};

fn is_http(upstream: &UpstreamConfig) -> bool {
    matches!(upstream.endpoint, EndpointConfig::Http(_))
}

/// What is different for this very file, in the order of the page.
pub(super) fn differences(loaded: &Loaded) -> Vec<Difference> {
    let config = loaded.config.as_ref().or(loaded.draft.as_ref());
    let of = |known: &Known, places: Vec<Place>| Difference { topic: known.topic, places, there: known.there, here: known.here };
    let mut found: Vec<_> = KNOWN.iter().map(|known| of(known, places(&known.when, &loaded.lines, config))).collect();
    let llm = loaded.problems.iter().filter(|problem| problem.key == "llm");
    found.push(of(&LLM, llm.map(|problem| Place { key: problem.key.clone(), line: problem.at.as_ref().map(|at| at.line) }).collect()));
    found.retain(|difference| !difference.places.is_empty());
    found
}

fn places(when: &When, lines: &BTreeMap<String, u32>, config: Option<&Config>) -> Vec<Place> {
    let at = |key: &str| Place { key: key.to_owned(), line: lines.get(key).copied() };
    match when {
        When::Has(pattern) => lines.keys().filter(|path| is_like(path, pattern)).map(|path| at(path)).collect(),
        When::Lacks(key) => {
            if lines.contains_key(*key) {
                Vec::new()
            } else {
                vec![at(key)]
            }
        }
        When::Upstream(is_so) => {
            let upstreams = config.map(|config| &config.mcp.upstreams[..]).unwrap_or_default();
            upstreams.iter().filter(|upstream| is_so(upstream)).map(|upstream| at(&format!("mcp.servers.{}", upstream.name))).collect()
        }
        When::Holds(key, is_so) => config.filter(|config| is_so(config)).map(|_| at(key)).into_iter().collect(),
    }
}

fn is_like(path: &str, pattern: &str) -> bool {
    let (mut parts, mut wanted) = (path.split('.'), pattern.split('.'));
    loop {
        match (parts.next(), wanted.next()) {
            (None, None) => return true,
            (Some(part), Some(pattern)) if part == pattern || pattern == "NAME" => {}
            _ => return false,
        }
    }
}

pub(super) fn write(path: &Path, differences: &[Difference], out: &mut dyn Write) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "\nnothing in this file behaves differently from Grafbase's Nexus");
    }
    writeln!(out, "\ndifferent from Grafbase's Nexus with this file:")?;
    for Difference { topic, places, there, here } in differences {
        writeln!(out)?;
        for place in places {
            match place.line {
                Some(line) => writeln!(out, "{} ({}:{line})", place.key, path.display())?,
                None => writeln!(out, "{} (not in the file)", place.key)?,
            }
        }
        writeln!(out, "  there: {there}\n  here:  {here}\n  why:   {PAGE}#{topic}")?;
    }
    Ok(())
}
