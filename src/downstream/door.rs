//! Who may knock: Host and Origin checks against DNS rebinding (MCP 2025-11-25 and 2026-07-28, basic/transports, security).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
};
use url::Url;

use super::{LiveServer, ServerConfig, listener::Told};

/// Names that always mean this machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The names and origins under which clients may call.
#[derive(Debug)]
pub(crate) struct Door {
    server: LiveServer,
    bound: SocketAddr,
    names: ArcSwap<Names>,
    told: Told,
}

/// What one configuration says of them.
#[derive(Debug)]
struct Names {
    of: Arc<ServerConfig>,
    /// Lower case, without a port. `None`: any, on a listener that others reach and that was given no name.
    hosts: Option<Vec<String>>,
    origins: Vec<String>,
    loopback: bool,
}

/// Why a request is refused before its body is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Host(String),
    Origin(String),
}

impl Refused {
    /// The stable word for the audit trail.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Origin(_) => "origin",
        }
    }
}

impl Door {
    pub(crate) fn new(server: &LiveServer, bound: SocketAddr) -> Self {
        let names = ArcSwap::from_pointee(Names::new(server.now(), bound));
        Self { server: server.clone(), bound, names, told: Told::default() }
    }

    fn names(&self) -> Arc<Names> {
        let (names, now) = (self.names.load_full(), self.server.now());
        if Arc::ptr_eq(&names.of, &now) {
            return names;
        }
        let names = Arc::new(Names::new(now, self.bound));
        self.names.store(Arc::clone(&names));
        names
    }

    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        self.names().check(uri, headers)
    }

    /// Tells the operator which key would have let a request in, and gives the words for the client. Anyone may knock, so a
    /// flood is told of a few times and then counted.
    pub(crate) fn refuse(&self, listener: &str, refused: &Refused) -> String {
        let (what, which, key) = match refused {
            Refused::Host(host) => ("Host", host, "server.allowed_hosts or server.public_url"),
            Refused::Origin(origin) => ("Origin", origin, "server.allowed_origins or server.cors.allow_origins"),
        };
        if let Some(others) = self.told.next() {
            tracing::warn!(
                listener, header = what, value = %which, key, others,
                "request refused; add the value to the key if it is meant to be served"
            );
        }
        format!("{what} is not allowed here")
    }
}

impl Names {
    fn new(config: Arc<ServerConfig>, bound: SocketAddr) -> Self {
        let loopback = bound.ip().is_loopback();
        let mut hosts: Vec<String> = config.allowed_hosts.clone();
        let public = config.public_url.as_ref();
        hosts.extend(public.and_then(|url| url.host_str()).map(str::to_ascii_lowercase));
        let open = !loopback && hosts.is_empty();
        hosts.extend(LOOPBACK.map(str::to_owned));
        if !bound.ip().is_unspecified() {
            hosts.push(match bound.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            });
        }
        let mut origins = config.allowed_origins.clone();
        origins.extend(public.map(|url| url.origin().ascii_serialization()));
        Self { of: config, hosts: (!open).then_some(hosts), origins, loopback }
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let mut named = headers.get_all(HOST).iter();
        let host = match (uri.authority(), named.next(), named.next()) {
            (authority, Some(host), None) => {
                let host = host.to_str().map_err(|_| Refused::Host("not readable".into()))?;
                // HTTP/2 and a proxy's requests name the host in the target, which wins; two answers are one too many
                // (RFC 9113 §8.3.1, RFC 9112 §3.2.2).
                if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
                    return Err(Refused::Host("one in the target, another in the header".into()));
                }
                host
            }
            (Some(authority), None, None) => authority.as_str(),
            _ => return Err(Refused::Host("none, or several".into())),
        };
        if !self.is_ours(host) {
            return Err(Refused::Host(shorten(host)));
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().map_err(|_| Refused::Origin("not readable".into()))?;
            if !self.may_embed(origin, host) {
                return Err(Refused::Origin(shorten(origin)));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let name = without_port(host).to_ascii_lowercase();
        hosts.iter().any(|allowed| match allowed.strip_prefix("*.") {
            Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => *allowed == name,
        })
    }

    /// A page may call if it was named, if it came from this very host, or, on loopback, from this machine.
    fn may_embed(&self, origin: &str, host: &str) -> bool {
        let is_shared_with = self.of.cors.as_ref().is_some_and(|cors| cors.allows(origin));
        if is_shared_with || self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Ok(url) = Url::parse(origin) else { return false };
        let Some(name) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else { return false };
        if self.loopback && LOOPBACK.contains(&name) {
            return true;
        }
        let authority = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        self.hosts.is_some() && authority.eq_ignore_ascii_case(host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        downstream::{HealthConfig, Insecure},
        limits::LimitsConfig,
    };

    fn config() -> ServerConfig {
        ServerConfig {
            rate_limits: LimitsConfig::default(),
            listen_address: "127.0.0.1:8000".parse().unwrap(),
            public_url: None,
            allowed_hosts: vec![],
            allowed_origins: vec![],
            max_body_size: 1,
            max_connections: 1,
            request_timeout: std::time::Duration::from_secs(1),
            shutdown_grace: std::time::Duration::from_secs(1),
            insecure: Insecure::Warn,
            allow_anonymous: false,
            tls: None,
            health: HealthConfig { enabled: true, path: "/health".into(), listen: None },
            client_ip: crate::downstream::ClientIp::default(),
            cors: None,
            csrf: None,
            auth: crate::auth::AuthConfig::default(),
        }
    }

    fn knock(door: &Door, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        door.check(&Uri::from_static("/mcp"), &headers).is_ok()
    }

    #[test]
    fn loopback_is_called_by_its_own_names_only() {
        let door = Door::new(&config().into(), "127.0.0.1:8000".parse().unwrap());
        for (host, origin, expected) in [
            ("127.0.0.1:8000", None, true),
            ("localhost", None, true),
            ("LOCALHOST:1", None, true),
            ("[::1]:8000", None, true),
            ("evil.test", None, false),
            ("localhost.evil.test", None, false),
            ("127.0.0.1:8000", Some("http://localhost:3000"), true),
            ("127.0.0.1:8000", Some("http://evil.test"), false),
            ("127.0.0.1:8000", Some("null"), false),
            ("127.0.0.1:8000", Some("http://127.0.0.1.evil.test"), false),
        ] {
            assert_eq!(knock(&door, host, origin), expected, "{host} {origin:?}");
        }
    }

    #[test]
    fn a_host_in_the_target_is_the_one_that_counts() {
        let door = Door::new(&config().into(), "127.0.0.1:8000".parse().unwrap());
        for (target, host, expected) in [
            ("https://localhost:8000/mcp", None, true),
            ("https://localhost:8000/mcp", Some("LOCALHOST:8000"), true),
            ("https://evil.test/mcp", None, false),
            ("https://evil.test/mcp", Some("localhost:8000"), false),
            ("https://localhost:8000/mcp", Some("evil.test"), false),
            ("/mcp", None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            assert_eq!(door.check(&Uri::from_static(target), &headers).is_ok(), expected, "{target} {host:?}");
        }
    }

    #[test]
    fn a_public_name_and_wildcards_are_honoured() {
        let mut config = config();
        config.public_url = Some(Url::parse("https://mcp.contoso.com").unwrap());
        config.allowed_hosts = vec!["*.corp.test".into()];
        config.allowed_origins = vec!["https://app.contoso.com".into()];
        let door = Door::new(&config.into(), "10.0.0.1:8000".parse().unwrap());
        for (host, origin, expected) in [
            ("mcp.contoso.com", None, true),
            ("a.b.corp.test", None, true),
            ("corp.test", None, false),
            (".corp.test", None, false),
            ("10.0.0.1:8000", None, true),
            ("other.test", None, false),
            ("mcp.contoso.com", Some("https://mcp.contoso.com"), true),
            ("mcp.contoso.com", Some("https://app.contoso.com"), true),
            ("mcp.contoso.com", Some("https://other.contoso.com"), false),
            ("mcp.contoso.com", Some("http://localhost:3000"), false),
        ] {
            assert_eq!(knock(&door, host, origin), expected, "{host} {origin:?}");
        }
    }

    #[test]
    fn another_configuration_holds_from_the_next_request_on() {
        let server = LiveServer::from(config());
        let door = Door::new(&server, "127.0.0.1:8000".parse().unwrap());
        assert!(!knock(&door, "mcp.contoso.com", None));
        server.set(ServerConfig { allowed_hosts: vec!["mcp.contoso.com".into()], ..config() });
        assert!(knock(&door, "mcp.contoso.com", None) && knock(&door, "localhost", None));
        server.set(config());
        assert!(!knock(&door, "mcp.contoso.com", None));
    }

    #[test]
    fn a_listener_for_others_without_a_name_takes_any_host_but_no_page() {
        let door = Door::new(&config().into(), "0.0.0.0:8000".parse().unwrap());
        assert!(knock(&door, "anything.test", None));
        assert!(!knock(&door, "anything.test", Some("http://anything.test")));
    }
}
