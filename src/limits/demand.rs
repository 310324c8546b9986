//! What a request asks of the limits: tokens out of buckets.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
};

use super::Quota;
use crate::auth::{Caller, Network};

/// Which limit said no. The words are those of replies, metrics and the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything together.
    Global,
    /// One address; of IPv6 one /64.
    Ip,
    /// One client, over all upstreams.
    Client,
    /// One upstream.
    Server,
    /// One tool.
    Tool,
    /// The upstream itself asked to wait.
    Upstream,
    /// Nobody could be asked, and the configuration says that this is a no.
    Storage,
}

impl Scope {
    pub const ALL: [Self; 7] = [Self::Global, Self::Ip, Self::Client, Self::Server, Self::Tool, Self::Upstream, Self::Storage];

    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Ip => "ip",
            Self::Client => "client",
            Self::Server => "server",
            Self::Tool => "tool",
            Self::Upstream => "upstream",
            Self::Storage => "storage",
        }
    }

    /// Whether it is about all requests, whatever is in them.
    pub(super) const fn is_of_door(self) -> bool {
        matches!(self, Self::Global | Self::Ip)
    }
}

/// One limit of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub scope: Scope,
    /// What nothing else is called; a reload finds its buckets by it.
    pub name: Box<str>,
    pub quota: Quota,
}

/// Whose bucket of a limit.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// All share one.
    Everyone,
    /// Each address has its own.
    Address(Network),
    /// Each client has its own: see [`Caller::account`].
    Caller(&'a Caller),
}

/// One token of one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    pub rule: &'a Rule,
    pub whose: Whose<'a>,
}

/// Most buckets that one request to one upstream asks: of everybody, of its address, of its client, and of the upstream or tool.
pub(super) const MOST: usize = 4;

/// The buckets that are asked together, each once; either all give a token or none does. A request that becomes several asks more
/// than [`MOST`].
pub type Demands<'a> = [Option<Demand<'a>>];

/// Which demand was refused, and how long it takes until none would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub at: usize,
    /// Microseconds.
    pub wait: u64,
}

impl Refused {
    pub(super) fn keep_longest(longest: &mut Option<Self>, at: usize, wait: u64) {
        if longest.is_none_or(|longest| longest.wait < wait) {
            *longest = Some(Self { at, wait });
        }
    }
}

/// Two buckets are the same when these are.
impl Hash for Demand<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rule.name.hash(state);
        match self.whose {
            Whose::Everyone => 0_u8.hash(state),
            Whose::Address(network) => (1_u8, network).hash(state),
            Whose::Caller(caller) => (2_u8, caller.account()).hash(state),
        }
    }
}

impl Demand<'_> {
    /// What the bucket is called where others can read it: callers by a digest. Never the same for two buckets.
    pub(super) fn name(&self) -> String {
        let rule = &self.rule.name;
        // What comes before the rule's name, which may hold anything, has no colon in it.
        match self.whose {
            Whose::Everyone => format!("all:{rule}"),
            Whose::Address(network) => match network.address() {
                IpAddr::V4(address) => format!("{address}:{rule}"),
                IpAddr::V6(address) => format!("{:016x}:{rule}", address.to_bits() >> 64),
            },
            Whose::Caller(caller) => {
                let hex: String = caller.account().as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                format!("c{hex}:{rule}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, num::NonZeroU32, time::Duration};

    use super::*;

    fn rule(name: &str) -> Rule {
        let one = NonZeroU32::MIN;
        Rule { scope: Scope::Ip, name: name.into(), quota: Quota::new(one, Duration::from_secs(1), one).unwrap() }
    }

    fn name(rule: &Rule, address: &str) -> String {
        Demand { rule, whose: Whose::Address(address.parse::<IpAddr>().unwrap().into()) }.name()
    }

    #[test]
    fn an_ipv6_customer_has_one_bucket_and_an_ipv4_address_one_of_its_own() {
        let rule = rule("ip");
        assert_eq!(name(&rule, "2001:db8:1:2:3:4:5:6"), name(&rule, "2001:db8:1:2:ffff::"));
        assert_ne!(name(&rule, "2001:db8:1:2::"), name(&rule, "2001:db8:1:3::"));
        assert_ne!(name(&rule, "192.0.2.1"), name(&rule, "192.0.2.2"));
        assert_eq!(name(&rule, "192.0.2.1"), name(&rule, "::ffff:192.0.2.1"));
    }

    #[test]
    fn no_two_buckets_have_one_name() {
        let (local, rules) = (Caller::local(), [rule("a"), rule("all:a"), rule("a:a")]);
        let whose = [Whose::Everyone, Whose::Address(IpAddr::from([1, 2, 3, 4]).into()), Whose::Caller(&local)];
        let names: HashSet<String> = rules.iter().flat_map(|rule| whose.map(|whose| Demand { rule, whose }.name())).collect();
        assert_eq!(names.len(), 9);
    }
}
