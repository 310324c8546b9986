//! The limits of the configuration, checked.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Rule,
    demand::{Demand, Whose},
};
use crate::{auth::Caller, redis::RedisConfig};

/// `[server.rate_limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// `false` turns off those of upstreams, too.
    pub enabled: bool,
    pub storage: StorageConfig,
    /// For all requests over HTTP together.
    pub global: Option<Rule>,
    /// For the requests over HTTP from each address.
    pub per_ip: Option<Rule>,
    /// For the calls of each client.
    pub per_client: Option<Rule>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { enabled: true, storage: StorageConfig::Memory, global: None, per_ip: None, per_client: None }
    }
}

impl LimitsConfig {
    /// The buckets of a request over HTTP, of which nothing is known but where it comes from.
    pub(super) fn at_door(&self, address: Option<IpAddr>) -> [Option<Demand<'_>>; 2] {
        let global = self.global.as_ref().map(|rule| Demand { rule, whose: Whose::Everyone });
        let per_ip = self.per_ip.as_ref().zip(address);
        [global, per_ip.map(|(rule, address)| Demand { rule, whose: Whose::Address(address.into()) })]
    }

    /// The bucket of a call's client.
    pub(super) fn of_client<'a>(&'a self, caller: &'a Caller) -> Option<Demand<'a>> {
        self.per_client.as_ref().map(|rule| Demand { rule, whose: Whose::Caller(caller) })
    }
}

/// Where the buckets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageConfig {
    /// In this process.
    Memory,
    /// Where all replicas share them.
    Redis { redis: Box<RedisConfig>, on_error: OnError },
}

/// What becomes of a request while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    #[default]
    Allow,
    Deny,
}

/// `[mcp.servers.NAME.rate_limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// For all calls but those of the tools below.
    pub server: Option<Rule>,
    pub per: Per,
    /// By the upstream's own names.
    pub tools: HashMap<Box<str>, Rule>,
}

/// Who shares a bucket of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Per {
    /// Everybody.
    #[default]
    Gateway,
    /// Each client has its own.
    Client,
}

impl UpstreamLimits {
    /// The bucket of a call. `tool`: what is called, if a tool is; its own limit takes the place of the server's.
    pub(super) fn demand<'a>(&'a self, caller: &'a Caller, tool: Option<&str>) -> Option<Demand<'a>> {
        let rule = tool.and_then(|tool| self.tools.get(tool)).or(self.server.as_ref())?;
        let whose = match self.per {
            Per::Gateway => Whose::Everyone,
            Per::Client => Whose::Caller(caller),
        };
        Some(Demand { rule, whose })
    }

    /// Its buckets that everybody shares.
    pub(super) fn shared(&self) -> impl Iterator<Item = Demand<'_>> {
        let all = self.server.iter().chain(self.tools.values()).filter(|_| self.per == Per::Gateway);
        all.map(|rule| Demand { rule, whose: Whose::Everyone })
    }
}
