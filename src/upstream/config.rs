//! `[mcp.servers.NAME]`: one upstream as the operator wants it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::credential::{CredentialConfig, HeaderRules};
use crate::{auth::AccessRules, limits::UpstreamLimits, names::UpstreamName, outbound::Way, secret::Secret, tls::TlsSettings};

/// One upstream, checked.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    pub name: UpstreamName,
    pub endpoint: EndpointConfig,
    /// What its names are shown under; empty: they pass as they are.
    pub prefix: String,
    /// `/readyz` waits for it; it never ends the process.
    pub required: bool,
    /// Globs over tool, prompt and resource names; what matches none is not shown.
    pub expose: Vec<String>,
    /// Globs of what is never shown; wins over `expose`.
    pub hide: Vec<String>,
    /// Which groups may use it.
    pub access: AccessRules,
    /// Dialling and the TLS handshake together.
    pub connect_timeout: Duration,
    /// One page of a list, and the initialize request.
    pub list_timeout: Duration,
    /// From a call's start, or its last progress notification, to its answer.
    pub call_timeout: Duration,
    pub rate_limits: Option<Arc<UpstreamLimits>>,
}

/// How a configuration differs from the one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    None,
    /// Only in how it is shown, and how often it may be called.
    Shown,
    /// The same server, reached with another certificate, credential or patience: sessions go on.
    Rotation,
    /// Another server, or another process.
    Replacement,
}

impl UpstreamConfig {
    /// Whether a caller's own token is needed to reach it.
    pub fn takes_callers_token(&self) -> bool {
        matches!(&self.endpoint, EndpointConfig::Http(http) if http.credential.is_the_callers())
    }

    /// Headers of callers that it gets.
    pub fn forwarded_headers(&self) -> impl Iterator<Item = &http::HeaderName> {
        let http = match &self.endpoint {
            EndpointConfig::Http(http) => Some(http),
            EndpointConfig::Stdio(_) => None,
        };
        http.into_iter().flat_map(|http| http.headers.forwarded())
    }

    /// How `wanted`, of the same name, differs from this.
    pub fn difference(&self, wanted: &Self) -> Difference {
        let shown = |config: &Self| {
            let Self { prefix, required, expose, hide, access, rate_limits, .. } = config.clone();
            (prefix, required, expose, hide, access, rate_limits)
        };
        let times = |config: &Self| (config.connect_timeout, config.list_timeout, config.call_timeout);
        let is_same_way = self.endpoint == wanted.endpoint && times(self) == times(wanted);
        match (&self.endpoint, &wanted.endpoint) {
            _ if is_same_way && shown(self) == shown(wanted) => Difference::None,
            _ if is_same_way => Difference::Shown,
            (EndpointConfig::Http(before), EndpointConfig::Http(after))
                if before.url == after.url
                    && before.protocol == after.protocol
                    && before.credential.is_the_callers() == after.credential.is_the_callers() =>
            {
                Difference::Rotation
            }
            _ => Difference::Replacement,
        }
    }
}

/// Where the upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointConfig {
    Http(Box<HttpConfig>),
    Stdio(Box<StdioConfig>),
}

/// An upstream over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub url: Url,
    pub protocol: Protocol,
    /// Absent for an `http://` URL, present for `https://`.
    pub tls: Option<TlsSettings>,
    /// HTTP version and forward proxy.
    pub way: Way,
    pub credential: CredentialConfig,
    /// `[[mcp.headers]]`, then its own, each in file order.
    pub headers: HeaderRules,
}

/// The HTTP transport that an upstream speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Streamable HTTP, or HTTP with SSE where the server has nothing else.
    #[default]
    Auto,
    /// Streamable HTTP, of any revision since 2025-03-26.
    Streamable,
    /// HTTP with SSE of 2024-11-05.
    Sse {
        /// Takes the messages instead of the path that the server names; of the same origin as the URL.
        messages: Option<Url>,
    },
}

/// A child process that speaks newline-delimited JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StdioConfig {
    /// Program and arguments, never empty; no shell is involved.
    pub cmd: Vec<String>,
    pub env: BTreeMap<String, Secret>,
    pub cwd: Option<PathBuf>,
    /// Further variables of our own environment that the child may see.
    pub inherit_env: Vec<String>,
    pub stderr: StderrConfig,
    pub isolation: Isolation,
    /// From the spawn to the answer to initialize; a first `npx -y` downloads.
    pub startup_timeout: Duration,
    /// A process without work is ended after this long (`principal` and `session` isolation).
    pub idle_timeout: Duration,
    pub max_processes: usize,
}

/// What happens to a child's stderr.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum StderrConfig {
    /// Each line becomes a log line, bounded.
    #[default]
    Log,
    Discard,
    /// Straight to the gateway's own stderr.
    Inherit,
    /// Appended to a file.
    File(PathBuf),
}

/// Who shares a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// One process per principal and client capabilities.
    #[default]
    Principal,
    /// One process per downstream session.
    Session,
    /// One process for all; it is told of no client capabilities.
    Shared,
}

/// `[mcp.bounds]`: what an upstream may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest SSE event in bytes.
    pub max_event: usize,
    /// Longest line of a stdio upstream in bytes.
    pub max_line: usize,
    /// Largest list of one upstream in bytes, all pages together.
    pub max_list: usize,
    pub max_items: usize,
    pub max_pages: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_event: 16 << 20, max_line: 16 << 20, max_list: 32 << 20, max_items: 20_000, max_pages: 200 }
    }
}
