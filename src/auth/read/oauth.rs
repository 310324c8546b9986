//! `[server.oauth]`

use std::time::Duration;

use url::{Host, Url};

use crate::{
    auth::{OauthConfig, ProtectedResource},
    problem::Problems,
    table::{Keys, Table, built},
    tls::read::{self as tls_read, Leg},
};

pub const KEYS: Keys = Keys {
    table: "server.oauth",
    doc: "JWT bearer tokens of one identity provider.",
    keys: &[
        built("url", "The provider's key set (JWKS)."),
        built("poll_interval", "How often the key set is read again."),
        built("expected_issuer", "The `iss` that a token must have."),
        built("expected_audience", "What must be in a token's `aud`."),
        built("required_scopes", "Scopes that every token must have."),
        built("tls", "How the provider's certificate is verified: the keys of `[mcp.servers.NAME.tls]`."),
        built("protected_resource", "What clients are told about how to get a token (RFC 9728)."),
    ],
};

pub const RESOURCE_KEYS: Keys = Keys {
    table: "server.oauth.protected_resource",
    doc: "The resource's metadata (RFC 9728).",
    keys: &[
        built("resource", "The resource's identifier: the URL that clients use."),
        built("authorization_servers", "Issuers of tokens for it."),
        built("scopes_supported", "Scopes that clients may ask for."),
    ],
};

const POLL: Duration = Duration::from_secs(300);
const SHORTEST_POLL: Duration = Duration::from_secs(10);
const LONGEST_POLL: Duration = Duration::from_secs(86_400);

/// `None`: it is refused, and the reason is recorded.
pub(super) fn read(mut table: Table, problems: &mut Problems) -> Option<OauthConfig> {
    let table = &mut table;
    let url = key_set_url(table, problems);
    let leg = if url.as_ref().is_some_and(|url| url.scheme() == "http") { Leg::Plain("an http:// URL") } else { Leg::Tls };
    let poll_interval = table.duration("poll_interval", &(SHORTEST_POLL..=LONGEST_POLL), problems).unwrap_or(POLL);
    let expected_issuer = expected(table, "expected_issuer", "tokens of every issuer that this key set serves are accepted", problems);
    let expected_audience = expected(table, "expected_audience", "tokens that were issued for other services are accepted here", problems);
    let required_scopes = scopes(table, "required_scopes", problems);
    let tls = table.table("tls", problems).map(|tls| tls_read::read(tls, leg, problems)).unwrap_or_default();
    let protected_resource = table.table("protected_resource", problems).and_then(|table| resource(table, problems));
    if !table.has("protected_resource") {
        table.warn(
            "",
            problems,
            "oauth without protected_resource",
            "a client without a token is not told where to get one, and its user has to know",
            "add [server.oauth.protected_resource] with resource and authorization_servers",
        );
    }
    table.finish(&KEYS, problems);
    let url = url?;
    Some(OauthConfig { url, poll_interval, expected_issuer, expected_audience, required_scopes, tls, protected_resource })
}

fn key_set_url(table: &mut Table, problems: &mut Problems) -> Option<Url> {
    if !table.has("url") {
        let remedy = "add url, the `jwks_uri` of the provider's /.well-known/openid-configuration";
        table.error("", problems, "oauth without `url`", "without the provider's keys no token can be verified", remedy);
        return None;
    }
    let text = table.string("url", problems)?;
    let url = web_url(&text).filter(|url| url.fragment().is_none());
    let Some(url) = url else {
        table.error(
            "url",
            problems,
            "this is no https:// URL",
            "the provider's key set is fetched from there",
            "write it as \"https://idp.example.com/.well-known/jwks.json\"",
        );
        return None;
    };
    if url.scheme() == "http" && !is_this_machine(&url) {
        table.insecure(
            "url",
            problems,
            "the provider's keys are fetched over an unencrypted connection",
            "whoever is on the way can give keys of their own, and then be anyone",
            "use the provider's https:// URL; the table tls takes a private CA",
        );
    }
    Some(url)
}

fn expected(table: &mut Table, key: &str, why: &str, problems: &mut Problems) -> Option<String> {
    let value = table.string(key, problems);
    if value.as_deref() == Some("") {
        table.error(key, problems, "the value is empty", "no token can have it", "set it to what the provider puts into its tokens");
    } else if !table.has(key) {
        let claim = if key == "expected_issuer" { "iss" } else { "aud" };
        let remedy = format!("set {key} to the `{claim}` of the provider's tokens for this gateway");
        table.insecure("", problems, format!("oauth without {key}"), why, &remedy);
    }
    value.filter(|value| !value.is_empty())
}

/// RFC 6749 §3.3: what may stand in a scope; the rest could not be told to clients.
fn scopes(table: &mut Table, key: &str, problems: &mut Problems) -> Vec<String> {
    let scopes = table.strings(key, problems).unwrap_or_default();
    let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if !scopes.iter().all(is_scope) {
        let remedy = "write each scope as an entry of its own: [\"mcp:read\", \"mcp:write\"]";
        table.error(key, problems, "one of the entries is no scope", "a scope is one word, without spaces, quotes and backslashes", remedy);
        return Vec::new();
    }
    scopes
}

fn resource(mut table: Table, problems: &mut Problems) -> Option<ProtectedResource> {
    let table = &mut table;
    for (key, remedy) in [
        ("resource", "add resource = \"https://mcp.example.com\", the URL that clients use"),
        ("authorization_servers", "add authorization_servers = [\"https://idp.example.com\"]"),
    ] {
        if !table.has(key) {
            table.error(
                "",
                problems,
                format!("protected_resource without `{key}`"),
                "clients could not find out where to get a token",
                remedy,
            );
        }
    }
    let resource = table.string("resource", problems);
    if resource.as_deref().is_some_and(|text| web_url(text).is_none_or(|url| url.fragment().is_some())) {
        table.error(
            "resource",
            problems,
            "this is no resource identifier",
            "RFC 9728 has an https:// URL without a fragment, and clients compare it with the one that they use",
            "write it as \"https://mcp.example.com\"",
        );
    }
    let servers = table.strings("authorization_servers", problems);
    if servers.as_ref().is_some_and(|servers| servers.is_empty() || servers.iter().any(|text| web_url(text).is_none())) {
        table.error(
            "authorization_servers",
            problems,
            "these are no URLs of issuers",
            "clients look there for the authorization server's metadata (RFC 8414)",
            "write it as [\"https://idp.example.com\"]",
        );
    }
    let scopes_supported = scopes(table, "scopes_supported", problems);
    table.finish(&RESOURCE_KEYS, problems);
    Some(ProtectedResource { resource: resource?, authorization_servers: servers?, scopes_supported })
}

fn web_url(text: &str) -> Option<Url> {
    let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none();
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain(url))
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}
