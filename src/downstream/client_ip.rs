//! `[server.client_ip]`: from which address a request comes, where proxies stand in between.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::{
    problem::Problems,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "server.client_ip",
    doc: "Which address a client has behind proxies.",
    keys: &[
        built("x_real_ip", "Believes `X-Real-IP` of trusted proxies."),
        built("x_forwarded_for_trusted_hops", "Believes `X-Forwarded-For` of trusted proxies: how many of its last entries are proxies."),
        built("trusted_proxies", "Addresses and networks of the proxies whose headers are believed."),
    ],
};

const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Proxies in a row that anyone has.
const MAX_HOPS: u32 = 32;

/// Whose word on a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIp {
    x_real_ip: bool,
    /// Entries at the end of `X-Forwarded-For` that are skipped; `None`: the header is not read.
    trusted_hops: Option<usize>,
    trusted_proxies: Vec<Network>,
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// Bits that count.
    prefix: u32,
}

impl ClientIp {
    /// Whether what this peer says of others is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }

    /// Whether the file names any proxy.
    pub fn names_proxies(&self) -> bool {
        !self.trusted_proxies.is_empty()
    }

    pub(super) fn read(mut table: Table, problems: &mut Problems) -> Self {
        let config = Self {
            x_real_ip: table.bool("x_real_ip", problems).unwrap_or(false),
            trusted_hops: table.integer("x_forwarded_for_trusted_hops", 0..=MAX_HOPS, problems),
            trusted_proxies: trusted_proxies(&mut table, problems),
        };
        for key in ["x_real_ip", "x_forwarded_for_trusted_hops"] {
            let is_on = if key == "x_real_ip" { config.x_real_ip } else { config.trusted_hops.is_some() };
            if is_on && !table.has("trusted_proxies") {
                table.warn(
                    key,
                    problems,
                    format!("{key} without trusted_proxies: no such header is believed"),
                    "anyone can send it, and would choose the address that limits count",
                    "add trusted_proxies, with the addresses or networks of your proxies, such as [\"10.0.0.0/8\"]",
                );
            }
        }
        table.finish(&KEYS, problems);
        config
    }
}

/// The address that limits count a request for: the peer's own, unless the peer is a trusted proxy that says for whom it asks.
///
/// `X-Real-IP` comes first. Of `X-Forwarded-For` (all its lines are one list, RFC 9110 §5.3) the last `trusted_hops` entries are
/// skipped, and the one before them counts. A header that says no address is not there.
pub fn client_address(config: &ClientIp, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.ip().to_canonical();
    if !config.trusts(peer) {
        return peer;
    }
    let real = || {
        let mut values = headers.get_all(REAL_IP).iter();
        // Two answers are none.
        let (only, None) = (values.next()?, values.next()) else { return None };
        address(only.to_str().ok()?)
    };
    let forwarded = || {
        let hops = config.trusted_hops?;
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        address(entries.nth(hops)?)
    };
    let told = if config.x_real_ip { real() } else { None };
    told.or_else(forwarded).unwrap_or(peer)
}

/// An address as proxies write it: bare, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        let matches = |bits: u32, ours: u128, theirs: u128| self.prefix == 0 || (ours ^ theirs) >> (bits - self.prefix) == 0;
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => matches(32, u32::from(ours).into(), u32::from(theirs).into()),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => matches(128, ours.into(), theirs.into()),
            _ => false,
        }
    }
}

fn trusted_proxies(table: &mut Table, problems: &mut Problems) -> Vec<Network> {
    let typed = table.strings("trusted_proxies", problems).unwrap_or_default();
    let networks: Vec<Network> = typed.iter().filter_map(|text| Network::parse(text)).collect();
    if networks.len() < typed.len() {
        table.error(
            "trusted_proxies",
            problems,
            "one of the entries is no address and no network",
            "the address that a connection comes from is compared with them",
            "write \"10.0.0.7\", \"10.0.0.0/8\" or \"fd00::/8\"",
        );
    }
    if networks.iter().any(|network| network.prefix == 0) {
        table.insecure(
            "trusted_proxies",
            problems,
            "every address is a trusted proxy",
            "whoever reaches the listener chooses the address that limits count, and the identity where headers say it",
            "name only the networks of your proxies",
        );
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(x_real_ip: bool, trusted_hops: Option<usize>, proxies: &[&str]) -> ClientIp {
        let trusted_proxies = proxies.iter().map(|text| Network::parse(text).unwrap()).collect();
        ClientIp { x_real_ip, trusted_hops, trusted_proxies }
    }

    fn seen(config: &ClientIp, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        client_address(config, peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks() {
        let config = config(true, Some(0), &["10.0.0.0/8"]);
        for headers in [[("x-real-ip", "203.0.113.9")], [("x-forwarded-for", "203.0.113.9")]] {
            assert_eq!(seen(&config, "10.1.2.3:5", &headers), "203.0.113.9");
            assert_eq!(seen(&config, "[::ffff:10.1.2.3]:5", &headers), "203.0.113.9");
            assert_eq!(seen(&config, "11.1.2.3:5", &headers), "11.1.2.3");
            assert_eq!(seen(&config, "[2001:db8::1]:5", &headers), "2001:db8::1");
        }
    }

    #[test]
    fn hops_are_counted_from_the_end_over_all_lines() {
        let headers = [("x-forwarded-for", "198.51.100.66, 203.0.113.9"), ("x-forwarded-for", "10.0.0.2")];
        for (hops, expected) in [(0, "10.0.0.2"), (1, "203.0.113.9"), (2, "198.51.100.66"), (3, "10.0.0.1")] {
            assert_eq!(seen(&config(false, Some(hops), &["10.0.0.1"]), "10.0.0.1:5", &headers), expected, "{hops}");
        }
    }

    #[test]
    fn a_header_that_is_not_asked_for_or_says_no_address_counts_for_nothing() {
        let real = config(true, None, &["10.0.0.0/8"]);
        assert_eq!(seen(&real, "10.0.0.1:5", &[("x-forwarded-for", "203.0.113.9")]), "10.0.0.1");
        assert_eq!(seen(&real, "10.0.0.1:5", &[("x-real-ip", "unknown")]), "10.0.0.1");
        assert_eq!(seen(&real, "10.0.0.1:5", &[("x-real-ip", "203.0.113.9"), ("x-real-ip", "203.0.113.8")]), "10.0.0.1");
        assert_eq!(seen(&config(false, None, &["10.0.0.0/8"]), "10.0.0.1:5", &[("x-real-ip", "203.0.113.9")]), "10.0.0.1");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        let config = config(false, Some(0), &["::1"]);
        for (typed, expected) in [
            (" 203.0.113.9 ", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("", "::1"),
        ] {
            assert_eq!(seen(&config, "[::1]:5", &[("x-forwarded-for", typed)]), expected, "{typed}");
        }
    }

    #[test]
    fn networks_are_compared_by_their_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("fd00::/8", "fd12::1", "fe00::1"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()) && !network.contains(outside.parse().unwrap()), "{network:?}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "proxy.test", ""] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
