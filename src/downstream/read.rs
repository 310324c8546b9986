//! `[server]`: from the file to [`ServerConfig`].

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use url::{Position, Url};

use super::{
    ClientIp, Cors, Csrf,
    config::{HealthConfig, Insecure, ServerConfig},
};
pub use super::{client_ip::KEYS as CLIENT_IP_KEYS, cors::KEYS as CORS_KEYS, csrf::KEYS as CSRF_KEYS};
use crate::{
    auth, limits,
    problem::Problems,
    table::{Keys, Table, built},
    tls,
};

pub const KEYS: Keys = Keys {
    table: "server",
    doc: "Where clients connect, and who may.",
    keys: &[
        built("listen_address", "Address and port of the listener."),
        built("public_url", "The URL that clients use, when it differs from the listener's."),
        built("allowed_hosts", "Further host names that requests may be sent to; `*.` covers all names below."),
        built("allowed_origins", "Further browser origins that may call."),
        built("max_body_size", "Largest request body."),
        built("max_connections", "Most connections at a time."),
        built("request_timeout", "Longest time a request may stay open without a byte flowing."),
        built("shutdown_grace", "How long open requests may go on after SIGTERM."),
        built("insecure", "`\"forbid\"` refuses what weakens security, `\"warn\"` only says so."),
        built("allow_anonymous", "Serves everyone who can reach an address off loopback."),
        built("tls", "HTTPS for clients."),
        built("health", "The health path."),
        built("cors", "Answers for other browser origins."),
        built("csrf", "A header that a web page cannot send."),
        built("client_ip", "Whose forwarded addresses are believed."),
        built("oauth", "JWT bearer tokens."),
        built("api_keys", "Static keys."),
        built("client_identification", "Who a client is, for limits and access."),
        built("rate_limits", "How often clients may ask."),
    ],
};

pub const HEALTH_KEYS: Keys = Keys {
    table: "server.health",
    doc: "The health path.",
    keys: &[
        built("enabled", "Whether it is served."),
        built("path", "Its path."),
        built("listen", "A listener of its own, so that it is not on the MCP port."),
    ],
};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Reads the table; absent, everything has its default. `listen` is the command line's address, which wins.
pub fn read(table: Option<Table>, listen: Option<SocketAddr>, problems: &mut Problems) -> ServerConfig {
    let mut table = table.unwrap_or_else(|| Table::absent("server"));
    let table = &mut table;
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let in_file = address(table, "listen_address", problems);
    let client_ip = table.table("client_ip", problems).map(|table| ClientIp::read(table, problems)).unwrap_or_default();
    let tls = table.table("tls", problems).and_then(|table| tls::server_read::read(table, &tls::server_read::KEYS, problems));
    let around = auth::read::Around {
        names_proxies: client_ip.names_proxies(),
        asks_for_certificates: tls.as_ref().is_some_and(|tls| tls.clients.is_some()),
    };
    let config = ServerConfig {
        listen_address: listen.or(in_file).unwrap_or(LISTEN),
        public_url: public_url(table, problems),
        allowed_hosts: allowed_hosts(table, problems),
        allowed_origins: allowed_origins(table, problems),
        max_body_size: table.size("max_body_size", &(1024..=1 << 30), problems).unwrap_or(4 << 20),
        max_connections: table.integer("max_connections", 1..=1_000_000, problems).unwrap_or(10_000),
        request_timeout: table
            .duration("request_timeout", &(Duration::from_secs(1)..=hours(24)), problems)
            .unwrap_or(Duration::from_secs(600)),
        shutdown_grace: table.duration("shutdown_grace", &(Duration::ZERO..=hours(1)), problems).unwrap_or(Duration::from_secs(30)),
        insecure: table.choice("insecure", &[("warn", Insecure::Warn), ("forbid", Insecure::Forbid)], &[], problems).unwrap_or_default(),
        allow_anonymous: table.bool("allow_anonymous", problems).unwrap_or(false),
        tls,
        health: health(table.table("health", problems), problems),
        rate_limits: limits::read::read(table.table("rate_limits", problems), problems),
        client_ip,
        cors: table.table("cors", problems).map(|table| Cors::read(table, problems)),
        csrf: table.table("csrf", problems).and_then(|table| Csrf::read(table, problems)),
        auth: auth::read::read(table, around, problems),
    };
    table.finish(&KEYS, problems);
    let usable = listen.is_some() || in_file.is_some() || !table.has("listen_address");
    // A [server.tls] that could not be read may be meant to ask for client certificates.
    let usable = usable && (config.tls.is_some() || !table.has("tls"));
    // The same for what says who may call.
    let usable = usable && (config.auth.demands_credentials() || !(table.has("oauth") || table.has("api_keys")));
    if usable && config.is_exposed() {
        check_exposure(&config, table, problems);
    }
    check_scheme(&config, table, problems);
    config
}

/// Clients that follow an `http://` URL to an HTTPS port get no further.
fn check_scheme(config: &ServerConfig, table: &Table, problems: &mut Problems) {
    if config.tls.is_some() && config.public_url.as_ref().is_some_and(|url| url.scheme() == "http") {
        table.warn(
            "public_url",
            problems,
            "public_url begins with http://, and the listener speaks HTTPS",
            "clients that use the URL as it stands are answered that they spoke plain HTTP",
            "write it with https://, or remove [server.tls] if something in front of the gateway ends TLS",
        );
    }
}

/// A listener that others can reach, without anything that says who is calling.
fn check_exposure(config: &ServerConfig, table: &Table, problems: &mut Problems) {
    let by_certificate = config.tls.as_ref().is_some_and(tls::ServerTlsSettings::requires_client_certificates);
    let identifies_callers = by_certificate || config.auth.demands_credentials();
    let what = format!("the listener {} can be reached by others, and nothing identifies callers", config.listen_address);
    let why = "whoever reaches it calls every upstream with this gateway's client certificates and tokens";
    if identifies_callers {
        // Nobody gets in without a certificate of the operator's own CA, a token or a key.
    } else if config.allow_anonymous {
        let remedy = "listen on 127.0.0.1, or let only trusted machines reach the port";
        table.insecure("listen_address", problems, what, why, remedy);
    } else {
        let remedy = "listen on 127.0.0.1, identify callers with [server.oauth], [[server.api_keys]] or [server.tls] client_ca, or set allow_anonymous = true if everyone who reaches it may call";
        table.error("listen_address", problems, what, why, remedy);
    }
    if config.public_url.is_none() && config.allowed_hosts.is_empty() {
        table.warn(
            "listen_address",
            problems,
            "every Host header is accepted",
            "off loopback, with neither public_url nor allowed_hosts, the gateway cannot know its own names; a web page can reach it by DNS rebinding",
            "set public_url to the URL that clients use, or list the names in allowed_hosts",
        );
    }
}

/// An IP address with a port.
pub(crate) fn address(table: &mut Table, key: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let text = table.string(key, problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        table.error(
            key,
            problems,
            "this is no address with a port",
            "an IP address says which interfaces are listened on; a name could mean several",
            "write \"127.0.0.1:8000\", \"[::1]:8000\" or \"0.0.0.0:8000\"",
        );
    }
    address
}

fn public_url(table: &mut Table, problems: &mut Problems) -> Option<Url> {
    let text = table.string("public_url", problems)?;
    let url = Url::parse(&text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && plain
    });
    if url.is_none() {
        table.hide("public_url");
        table.error(
            "public_url",
            problems,
            "this is no URL that clients can use",
            "it is what clients connect to: http or https, a host, perhaps a port and a path",
            "write it as \"https://mcp.example.com\"",
        );
    }
    url
}

fn allowed_hosts(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let hosts = table.strings("allowed_hosts", problems).unwrap_or_default();
    let hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    if hosts.iter().any(|host| !is_host(host.strip_prefix("*.").unwrap_or(host))) {
        table.error(
            "allowed_hosts",
            problems,
            "one of the entries is no host name",
            "entries are compared with the Host header, without its port",
            "write names such as \"mcp.example.com\" or \"*.example.com\", without a scheme or a port",
        );
    }
    hosts
}

fn is_host(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name = !host.is_empty()
        && host.split('.').all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
    is_name || host.parse::<IpAddr>().is_ok()
}

fn allowed_origins(table: &mut Table, problems: &mut Problems) -> Vec<String> {
    let typed = table.strings("allowed_origins", problems).unwrap_or_default();
    let origins: Vec<String> = typed.iter().filter_map(|origin| parse_origin(origin)).collect();
    if origins.len() < typed.len() {
        table.error(
            "allowed_origins",
            problems,
            "one of the entries is no origin",
            "browsers send scheme, host and port only, and entries are compared with that",
            "write \"https://app.example.com\", without a path; `*` is not accepted",
        );
    }
    origins
}

/// The origin as browsers send it: lower case, the scheme's own port left out (RFC 6454 §6.2).
fn parse_origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    // Desktop hosts have schemes of their own, such as `vscode-webview://`, for which the parser adds no path.
    let bare = bare || (url.path().is_empty() && url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
    (bare && url.has_host()).then(|| url[..Position::BeforePath].to_owned())
}

fn health(table: Option<Table>, problems: &mut Problems) -> HealthConfig {
    let mut table = table.unwrap_or_else(|| Table::absent("server.health"));
    let enabled = table.bool("enabled", problems).unwrap_or(true);
    let path = table.endpoint_path("path", problems).unwrap_or_else(|| "/health".to_owned());
    let listen = address(&mut table, "listen", problems);
    table.finish(&HEALTH_KEYS, problems);
    HealthConfig { enabled, path, listen }
}
