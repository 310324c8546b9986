//! The part of an upstream that has a `url`.

use http::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use super::{
    super::config::{CredentialConfig, HttpConfig, Protocol},
    credential::{self, secret_value},
};
use crate::{
    outbound,
    problem::Problems,
    table::{Keys, Table, built, sounds_secret},
    tls::{
        TlsSettings,
        read::{self as tls_read, Leg},
    },
};

pub const HEADER_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.headers",
    doc: "One header that the upstream gets, in a list of tables.",
    keys: &[
        built("rule", "`\"insert\"` sets the header."),
        built("name", "The header's name."),
        built("value", "Its value; never printed."),
    ],
};

/// Keys that only an upstream with a `url` has, besides `tls`.
pub(super) const ONLY: [&str; 7] = ["url", "protocol", "message_url", "auth", "headers", "http_version", "proxy"];

const PROCESS: &str = "a process";

/// Reads everything but what both kinds of upstreams have.
pub(super) fn read(table: &mut Table, problems: &mut Problems) -> Option<HttpConfig> {
    let url = url(table, "url", problems);
    let protocol = protocol(table, url.as_ref(), problems);
    let plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
    let leg = if plain { Leg::Plain("an http:// URL") } else { Leg::Tls };
    let tls = table.table("tls", problems).map(|tls| tls_read::read(tls, leg, problems)).unwrap_or_default();
    let way = outbound::read::way(table, problems);
    let auth = table.table("auth", problems);
    let credential = auth.map(|auth| credential::read(auth, problems)).unwrap_or_default();
    let headers = headers(table, &credential, problems);
    let url = url?;
    let secret_key = match credential {
        CredentialConfig::None | CredentialConfig::Forward => headers.keys().any(|name| sounds_secret(name.as_str())).then_some("headers"),
        CredentialConfig::Token(_) | CredentialConfig::Header { .. } => Some("auth"),
    };
    let leaves = !is_loopback(&url) || way.proxy.is_some();
    warn(table, (&url, leaves), &tls, secret_key, problems);
    Some(HttpConfig { tls: (!plain).then_some(tls), url, protocol, way, credential, headers })
}

/// Refuses the TLS table of a process.
pub(super) fn refuse_tls(table: &mut Table, problems: &mut Problems) {
    if let Some(tls) = table.table("tls", problems) {
        tls_read::read(tls, Leg::Plain(PROCESS), problems);
    }
}

/// Whether an `http://` URL never leaves this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

fn protocol(table: &mut Table, url: Option<&Url>, problems: &mut Problems) -> Protocol {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Auto,
        Streamable,
        Sse,
    }
    let words = [("auto", Word::Auto), ("streamable-http", Word::Streamable), ("sse", Word::Sse)];
    let word = table.choice("protocol", &words, &[], problems).unwrap_or(Word::Auto);
    let messages = self::url(table, "message_url", problems);
    if messages.is_some() && word != Word::Sse {
        let why = "only servers of the HTTP+SSE transport take messages at another address";
        table.error("message_url", problems, "message_url without protocol = \"sse\"", why, "add protocol = \"sse\", or remove it");
    }
    if let (Some(messages), Some(url)) = (&messages, url)
        && messages.origin() != url.origin()
    {
        let why = "trust and credential hold for the scheme, host and port of `url`, and nothing is sent anywhere else";
        table.error("message_url", problems, "message_url is of another origin than url", why, "use the scheme, host and port of `url`");
    }
    match word {
        Word::Auto => Protocol::Auto,
        Word::Streamable => Protocol::Streamable,
        Word::Sse => Protocol::Sse { messages },
    }
}

fn url(table: &mut Table, key: &'static str, problems: &mut Problems) -> Option<Url> {
    let text = table.string(key, problems)?;
    if text.contains(['?', '@']) {
        // A query or user information may be a secret.
        table.hide(key);
    }
    let refuse = |table: &Table, problems: &mut Problems, what: &str, why: &str, remedy: &str| {
        table.error(key, problems, what, why, remedy);
        None
    };
    let example = "write it as \"https://mcp.example.com/mcp\"";
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(error) => {
            return refuse(table, problems, &format!("this is no URL: {error}"), "the gateway cannot know where to connect", example);
        }
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refuse(table, problems, "the URL is neither https:// nor http://", "no other scheme carries MCP", example);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let why = "user information in a URL ends up in logs and messages, and would not be sent";
        return refuse(table, problems, "the URL holds a user or a password", why, "move it to [auth] with type = \"header\"");
    }
    if url.fragment().is_some() {
        return refuse(
            table,
            problems,
            "the URL has a fragment",
            "what follows `#` is never sent to a server",
            "remove `#` and what follows",
        );
    }
    Some(url)
}

fn headers(table: &mut Table, credential: &CredentialConfig, problems: &mut Problems) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for mut rule in table.tables("headers", problems) {
        let built = rule.choice("rule", &[("insert", ())], &["forward", "remove", "rename"], problems);
        if !rule.has("rule") {
            rule.error("", problems, "a header rule without `rule`", "it says what is done with the header", "add rule = \"insert\"");
        } else if built.is_none() {
            // Another rule has other keys.
            continue;
        }
        let name = header_name(&mut rule, problems);
        let value = secret_value(&mut rule, "value", name.as_ref().map_or("", HeaderName::as_str), problems);
        rule.finish(&HEADER_KEYS, problems);
        let Some((name, value)) = name.zip(value) else { continue };
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else { continue };
        value.set_sensitive(true);
        if let Some(what) = taken_by_credential(&name, credential) {
            let why = "two credentials would be sent, and which of them counts is up to the server";
            rule.error("name", problems, what, why, "remove the header, or the [auth] table");
        } else if headers.contains_key(&name) {
            let why = "only one value can be sent, and which of them was meant is not certain";
            rule.error("name", problems, "this header is inserted twice", why, "remove one of the two");
        } else {
            headers.insert(name, value);
        }
    }
    headers
}

fn header_name(rule: &mut Table, problems: &mut Problems) -> Option<HeaderName> {
    if !rule.has("name") {
        rule.error("", problems, "a header rule without `name`", "it says which header is meant", "add name = \"X-…\"");
    }
    let name = credential::header_name(rule, problems)?;
    if credential::is_reserved_header(name.as_str()) {
        let why = "the gateway sets or removes this header itself; another value would break the connection or the protocol";
        rule.error("name", problems, "this header cannot be configured", why, "remove the rule");
        return None;
    }
    Some(name)
}

fn taken_by_credential(name: &HeaderName, credential: &CredentialConfig) -> Option<&'static str> {
    match credential {
        CredentialConfig::None => None,
        CredentialConfig::Token(_) | CredentialConfig::Forward => {
            (name == http::header::AUTHORIZATION).then_some("Authorization is already set by [auth]")
        }
        CredentialConfig::Header { name: taken, .. } => {
            (name == taken || name == http::header::AUTHORIZATION).then_some("the credential is already set by [auth]")
        }
    }
}

/// What is allowed and must be known: a leg that others can read or stand in for. `leaves`: it leaves this machine, be it to a
/// proxy, whose own machine a loopback URL then means.
fn warn(table: &Table, (url, leaves): (&Url, bool), tls: &TlsSettings, secret_key: Option<&str>, problems: &mut Problems) {
    if url.scheme() == "https" {
        if let Some(key) = secret_key.filter(|_| tls.is_unverified()) {
            let why = "the server's certificate or name is not verified, so whoever stands in for the server gets the credential";
            table.insecure(
                key,
                problems,
                "a credential is sent over an unverified connection",
                why,
                "verify the server: set root_ca_cert_path or server_name",
            );
        }
    } else if leaves {
        let why = "everyone on the way can read the calls and change the answers";
        table.insecure("url", problems, "an unencrypted connection off this machine", why, "use the server's https:// URL");
        if let Some(key) = secret_key {
            let why = "everyone on the way can read and use it";
            table.insecure(key, problems, "a credential is sent over an unencrypted connection", why, "use the server's https:// URL");
        }
    }
}
