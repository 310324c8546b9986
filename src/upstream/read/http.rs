//! The part of an upstream that has a `url`.

use http::HeaderName;
use url::{Host, Url};

use super::super::{
    config::{HttpConfig, Protocol},
    credential::{
        CredentialConfig, HeaderRule, HeaderRules,
        read::{self as credential, Read},
    },
};
use super::headers::{self, HEADER_KEYS};
use crate::{
    outbound::{self, Way},
    problem::Problems,
    table::{Table, sounds_secret},
    tls::{
        TlsSettings,
        read::{self as tls_read, Leg},
    },
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
    let Read { credential, allow_insecure_forward } = auth.map(|auth| credential::read(auth, problems)).unwrap_or_default();
    let headers = headers::read(table, &HEADER_KEYS, &credential, problems);
    let url = url?;
    let secret_key = match credential {
        CredentialConfig::None => {
            headers.rules().iter().filter_map(HeaderRule::target).any(|name| sounds_secret(name.as_str())).then_some("headers")
        }
        CredentialConfig::Token(_) | CredentialConfig::Header { .. } => Some("auth"),
        // Has rules of its own.
        CredentialConfig::Forward | CredentialConfig::ClientCredentials(_) | CredentialConfig::TokenExchange(_) => None,
    };
    let leaves = !is_loopback(&url) || way.proxy.is_some();
    warn(table, (&url, leaves), &tls, secret_key, problems);
    may_travel(table, (&url, &way), &tls, &credential, allow_insecure_forward, problems);
    Some(HttpConfig { tls: (!plain).then_some(tls), url, protocol, way, credential, headers })
}

/// Why what is sent to this upstream can be read or taken by others, and what helps; `None`: it cannot.
pub fn unsafe_leg(http: &HttpConfig) -> Option<(&'static str, &'static str)> {
    // Behind a proxy, its own machine is what a loopback URL means.
    let leaves = !is_loopback(&http.url) || http.way.proxy.is_some();
    match &http.tls {
        Some(tls) if tls.is_unverified() => {
            Some(("over TLS that is not verified", "set root_ca_cert_path, and remove verify_certs or accept_invalid_hostnames"))
        }
        None if leaves => Some(("without encryption", "use the server's https:// URL")),
        Some(_) | None => None,
    }
}

/// The first header with a fixed value that sounds like a credential.
pub fn secret_header(rules: &HeaderRules) -> Option<&HeaderName> {
    let inserted = rules.rules().iter().filter(|rule| matches!(rule, HeaderRule::Insert { .. }));
    inserted.filter_map(HeaderRule::target).find(|name| sounds_secret(name.as_str()))
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

/// Callers' own tokens, and tokens that are had, go to nobody else: only over TLS that verifies the server, or within this
/// machine. That holds for the way to the server and for that to the token endpoint.
fn may_travel(
    table: &Table,
    (url, way): (&Url, &Way),
    tls: &TlsSettings,
    credential: &CredentialConfig,
    is_allowed: bool,
    problems: &mut Problems,
) {
    let whose = match credential {
        CredentialConfig::None | CredentialConfig::Token(_) | CredentialConfig::Header { .. } => return,
        CredentialConfig::Forward | CredentialConfig::TokenExchange(_) => "callers' own tokens",
        CredentialConfig::ClientCredentials(_) => "tokens",
    };
    let legs = [(Some(url), "sent"), (credential.token().map(|token| &token.url), "had")];
    for (url, done) in legs.into_iter().filter_map(|(url, done)| Some((url?, done))) {
        let leaves = !is_loopback(url) || way.proxy.is_some();
        let (what, remedy) = match url.scheme() {
            "https" if !tls.is_unverified() => continue,
            "https" => ("over a connection that does not verify the server", "verify the server: set root_ca_cert_path or server_name"),
            _ if leaves => ("over an unencrypted connection", "use the https:// URL"),
            _ => {
                let what = format!("{whose} are {done} over an unencrypted connection of this machine");
                table.warn("auth", problems, what, "everybody who can read this machine's traffic can use them", "use an https:// URL");
                continue;
            }
        };
        let what = format!("{whose} are {done} {what}");
        if is_allowed {
            let why = "allow_insecure_forward is set; whoever stands between can use them wherever they are accepted";
            table.insecure("auth", problems, what, why, remedy);
        } else {
            let why = "whoever stands between would get them, and can use them wherever they are accepted";
            let remedy = format!("{remedy}; or, if you accept that, set allow_insecure_forward = true in [auth]");
            table.error("auth", problems, what, why, &remedy);
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
