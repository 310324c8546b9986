//! `redis://USER:PASSWORD@HOST:PORT/DATABASE` and its relatives.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::secret::Secret;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// More nodes than these need not be named: the others are found through them.
const MAX_NODES: usize = 64;

/// Where a Redis is, and as whom it is spoken to. Shows neither user nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) kind: Kind,
    pub(super) tls: bool,
    /// Host, without brackets, and port; never empty.
    pub(super) nodes: Vec<(String, u16)>,
    pub(super) database: Option<u8>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    /// For the Sentinels, which do not get those of Redis.
    pub(super) sentinel_user: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
}

/// What answers at the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Single,
    Cluster,
    /// Sentinels, who know where the primary of this name is.
    Sentinel(String),
}

impl RedisUrl {
    /// Reads `redis://`, `rediss://`, `valkey://` and `valkeys://`, each also with `-cluster` and `-sentinel`: further nodes
    /// are named by `node=HOST:PORT` in the query, and the primary of Sentinels by `sentinelServiceName=NAME`. Sentinels that
    /// want a password have it from `sentinelPassword`, and `sentinelUsername`.
    ///
    /// # Errors
    /// Why it is none, in words that hold nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "it is no URL")?;
        let (scheme, variant) = url.scheme().split_once('-').unwrap_or_else(|| (url.scheme(), ""));
        let tls = match scheme {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err("it begins with another scheme"),
        };
        let (mut service, mut sentinel_user, mut sentinel_password) = (None, None, None);
        let mut others = Vec::new();
        for part in url.query().unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            // A plus sign is one here, too: passwords have some.
            let value = decoded(value).map_err(|_| "a part of its query is not UTF-8")?;
            match (variant, key) {
                ("sentinel", "sentinelServiceName") => service = Some(value),
                ("sentinel", "sentinelUsername") => sentinel_user = Some(value),
                ("sentinel", "sentinelPassword") => sentinel_password = Some(value),
                ("sentinel" | "cluster", "node") => others.push(node(&value).ok_or("a node in its query is no HOST:PORT")?),
                _ => return Err("its query has a part that means nothing here"),
            }
        }
        if sentinel_user.is_some() && sentinel_password.is_none() {
            return Err("it has a user for the Sentinels, and no password");
        }
        let kind = match (variant, service) {
            ("", _) => Kind::Single,
            ("cluster", _) => Kind::Cluster,
            ("sentinel", Some(service)) if !service.is_empty() => Kind::Sentinel(service),
            ("sentinel", _) => return Err("it does not say which primary the Sentinels watch (sentinelServiceName)"),
            _ => return Err("it begins with another scheme"),
        };
        if url.fragment().is_some() {
            return Err("it has a fragment");
        }
        let port = url.port().unwrap_or(if matches!(kind, Kind::Sentinel(_)) { SENTINEL_PORT } else { PORT });
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let mut nodes = vec![(bare(host).to_owned(), port)];
        nodes.extend(others);
        if nodes.len() > MAX_NODES {
            return Err("it names more than 64 nodes");
        }
        let database = match url.path().trim_matches('/') {
            "" => None,
            _ if kind == Kind::Cluster => return Err("a cluster has one database only"),
            number => Some(number.parse().map_err(|_| "its path is no number of a database")?),
        };
        let user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
        let password = Some(decoded(url.password().unwrap_or_default())?).filter(|password| !password.is_empty());
        let (password, sentinel_password) = (password.map(Secret::new), sentinel_password.map(Secret::new));
        Ok(Self { kind, tls, nodes, database, user, password, sentinel_user, sentinel_password })
    }

    /// Whether it asks for TLS.
    pub fn uses_tls(&self) -> bool {
        self.tls
    }

    pub fn has_password(&self) -> bool {
        self.password.is_some() || self.sentinel_password.is_some()
    }

    /// The host that is named first: every node's certificate is verified for it, unless the TLS table says other names.
    pub fn host(&self) -> &str {
        self.nodes.first().map_or("", |(host, _)| host)
    }

    /// Whether nothing leaves this machine. Where others say which nodes there are, they may be anywhere.
    pub fn is_loopback(&self) -> bool {
        let is_loopback = |host: &str| match host.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        matches!(self.kind, Kind::Single) && self.nodes.iter().all(|(host, _)| is_loopback(host))
    }
}

fn node(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    Some((bare(host).to_owned(), port.parse().ok()?)).filter(|_| is_host)
}

/// Without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "its user or password is not UTF-8")?;
    Ok(decoded.into_owned())
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Kind and nodes.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Single => "Redis at ",
            Kind::Cluster => "Redis cluster at ",
            Kind::Sentinel(_) => "Redis behind the Sentinels at ",
        })?;
        for (index, (host, port)) in self.nodes.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_as_whom_and_shows_no_secret() {
        let url = RedisUrl::parse("rediss://ada:p%40ss@redis.test:6390/3").unwrap();
        assert!(url.uses_tls() && url.has_password() && !url.is_loopback());
        assert_eq!((url.host(), url.database, url.user.as_deref()), ("redis.test", Some(3), Some("ada")));
        assert_eq!(url.password.as_ref().unwrap().expose(), "p@ss");
        assert_eq!(format!("{url:?}"), "Redis at redis.test:6390");

        for url in ["redis-cluster://127.0.0.1:7000", "redis-sentinel://localhost?sentinelServiceName=main"] {
            assert!(!RedisUrl::parse(url).unwrap().is_loopback(), "{url} leads to wherever they say");
        }
        let url = RedisUrl::parse("valkey://[::1]").unwrap();
        assert!(!url.uses_tls() && url.is_loopback());
        assert_eq!(url.nodes, [("::1".to_owned(), 6379)]);
        assert_eq!(url.to_string(), "Redis at [::1]:6379");
    }

    #[test]
    fn sentinels_and_clusters_name_their_nodes() {
        let url = RedisUrl::parse("redis-sentinel://:secret@a.test?sentinelServiceName=main&node=b.test:26380").unwrap();
        assert_eq!(url.kind, Kind::Sentinel("main".to_owned()));
        assert_eq!(url.nodes, [("a.test".to_owned(), 26379), ("b.test".to_owned(), 26380)]);
        assert!(url.sentinel_user.is_none() && url.sentinel_password.is_none());
        let watched = "redis-sentinel://a.test?sentinelServiceName=main&sentinelUsername=ada&sentinelPassword=p%26+s";
        let url = RedisUrl::parse(watched).unwrap();
        assert!(url.has_password() && url.password.is_none());
        assert_eq!(url.sentinel_user.as_deref(), Some("ada"));
        assert_eq!(url.sentinel_password.as_ref().unwrap().expose(), "p&+s");
        assert!(!format!("{url:?}").contains("ada"));
        let url = RedisUrl::parse("rediss-cluster://a.test:7000?node=[::1]:7001").unwrap();
        assert_eq!((url.kind, url.tls), (Kind::Cluster, true));
        assert_eq!(url.nodes, [("a.test".to_owned(), 7000), ("::1".to_owned(), 7001)]);
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "redis.test:6379",
            "http://redis.test",
            "redis+unix:///tmp/redis.sock",
            "redis-other://redis.test",
            "redis://",
            "redis:///1",
            "redis://redis.test/one",
            "redis://redis.test/256",
            "redis://redis.test?node=b.test:1",
            "redis://redis.test#x",
            "redis-cluster://redis.test/1",
            "redis-cluster://redis.test?node=b.test",
            "redis-sentinel://redis.test",
            "redis-sentinel://redis.test?sentinelServiceName=",
            "redis-sentinel://redis.test?sentinelServiceName=main&sentinelUsername=ada",
            "redis-sentinel://redis.test?sentinelServiceName=%ff",
            "redis-cluster://redis.test?sentinelPassword=x",
            "redis://%ff@redis.test",
        ] {
            assert!(RedisUrl::parse(text).is_err(), "{text}");
        }
    }
}
