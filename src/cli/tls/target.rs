//! What a command is to probe: upstreams of the file, or any URL.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use url::Url;

use super::super::{USAGE, World, fail, start};
use crate::{
    config::Config,
    finding::{Finding, Severity},
    outbound::{
        self, Way,
        probe::{ProbeTarget, Prober},
    },
    reason::Explanation,
    tls::{ClientIdentityFiles, Report, TlsPolicy, TlsSettings},
    upstream::{EndpointConfig, HttpConfig},
};

/// Most handshakes at once.
const AT_ONCE: usize = 16;

/// Files and names that replace the configured ones, to try tomorrow's on today's server.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Replacements {
    /// Trust the CAs of this file, and nobody else
    #[arg(long, value_name = "FILE")]
    pub(super) root_ca: Option<PathBuf>,
    /// Show this client certificate
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(super) client_cert: Option<PathBuf>,
    /// The key of --client-cert
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(super) client_key: Option<PathBuf>,
    /// SNI and name to verify, instead of the URL's host
    #[arg(long, value_name = "NAME")]
    pub(super) server_name: Option<String>,
}

impl Replacements {
    fn apply(&self, settings: &mut TlsSettings) {
        if let Some(path) = &self.root_ca {
            settings.root_ca_cert_path = Some(path.clone());
            settings.include_system_cas = false;
            settings.verify_certs = true;
        }
        if let (Some(cert_path), Some(key_path)) = (&self.client_cert, &self.client_key) {
            settings.client_identity = Some(ClientIdentityFiles { cert_path: cert_path.clone(), key_path: key_path.clone() });
            settings.client_key_password = None;
            settings.client_pkcs12 = None;
        }
        if let Some(name) = &self.server_name {
            settings.server_name = Some(name.clone());
            settings.accept_invalid_hostnames = false;
        }
    }
}

/// One server to probe.
pub(in crate::cli) struct Probed {
    /// The upstream's, or the URL's host.
    pub(in crate::cli) name: String,
    pub(in crate::cli) url: Url,
    /// The keys of the findings belong to this table; absent for a URL.
    pub(in crate::cli) table: Option<String>,
    settings: TlsSettings,
    way: Way,
}

/// Finds what `wanted` names; without any, every configured upstream that has TLS. The file is read only where it is needed.
///
/// # Errors
/// The exit code, once the problem was said.
pub(super) fn find(world: &World, wanted: &[String], replacements: &Replacements) -> Result<Vec<Probed>, u8> {
    let needs_file = wanted.is_empty() || wanted.iter().any(|wanted| !wanted.contains("://"));
    let config = if needs_file { Some(start::load(world).map_err(|refused| refused.code)?.1) } else { None };
    let mut probed = match (&config, wanted) {
        (Some(config), []) => all(config),
        _ => wanted.iter().map(|wanted| one(wanted, config.as_ref())).collect::<Result<_, _>>()?,
    };
    if probed.is_empty() {
        return Err(fail(USAGE, "error: no upstream of the file has an https:// URL\n  fix: name a URL, such as https://mcp.example.com"));
    }
    for probed in &mut probed {
        replacements.apply(&mut probed.settings);
    }
    Ok(probed)
}

/// Every configured upstream that has TLS.
pub(in crate::cli) fn all(config: &Config) -> Vec<Probed> {
    config
        .mcp
        .upstreams
        .iter()
        .filter_map(|upstream| match &upstream.endpoint {
            EndpointConfig::Http(http) => configured(upstream.name.as_str(), http),
            EndpointConfig::Stdio(_) => None,
        })
        .collect()
}

fn configured(name: &str, http: &HttpConfig) -> Option<Probed> {
    let settings = http.tls.clone()?;
    let table = Some(format!("{}.tls", crate::table::join("mcp.servers", name)));
    Some(Probed { name: name.to_owned(), url: http.url.clone(), table, settings, way: http.way.clone() })
}

fn one(wanted: &str, config: Option<&Config>) -> Result<Probed, u8> {
    if wanted.contains("://") {
        return by_url(wanted);
    }
    let upstreams = config.map(|config| config.mcp.upstreams.as_slice()).unwrap_or_default();
    let Some(upstream) = upstreams.iter().find(|upstream| upstream.name.as_str() == wanted) else {
        let names: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let known = if names.is_empty() { "the file has none".to_owned() } else { format!("the file has {}", names.join(", ")) };
        return Err(fail(
            USAGE,
            &format!("error: there is no upstream \"{wanted}\"; {known}\n  fix: name one of these, or a URL such as https://{wanted}"),
        ));
    };
    let found = match &upstream.endpoint {
        EndpointConfig::Http(http) => configured(wanted, http),
        EndpointConfig::Stdio(_) => None,
    };
    found.ok_or_else(|| fail(USAGE, &format!("error: the upstream \"{wanted}\" has no TLS: it is a process, or its url is http://")))
}

fn by_url(text: &str) -> Result<Probed, u8> {
    let refuse = |why: &str| fail(USAGE, &format!("error: {text}: {why}\n  fix: write it as https://HOST[:PORT]"));
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if url.scheme() != "https" {
        return Err(refuse("only an https:// URL has TLS"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("a user name or password has no place here"));
    }
    let Some(host) = url.host_str() else { return Err(refuse("it has no host")) };
    let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(Probed { name, url, table: None, settings: TlsSettings::default(), way: Way::default() })
}

/// Probes all of them, some at a time.
pub(in crate::cli) async fn probe_all(world: &World, probed: &[Probed]) -> Vec<Arc<Report>> {
    let prober = Prober::new(AT_ONCE);
    futures_util::future::join_all(probed.iter().map(|probed| probe_one(world, &prober, probed))).await
}

async fn probe_one(world: &World, prober: &Prober, probed: &Probed) -> Arc<Report> {
    match ready(world, probed) {
        Ok((target, policy)) => prober.try_out(&target, &policy).await,
        Err(explanation) => {
            let finding = Finding::new(explanation.reason, Severity::Error, explanation.detail, explanation.remedy);
            Arc::new(Report::failed("the policy cannot be used", finding, world.clock.now()))
        }
    }
}

fn ready(world: &World, probed: &Probed) -> Result<(ProbeTarget, TlsPolicy), Explanation> {
    let host = probed.url.host_str().unwrap_or_default();
    let policy = probed.settings.load(host, &*world.sources, &outbound::system_cas, world.clock.now())?;
    Ok((ProbeTarget::new(&probed.url, probed.way.clone())?, policy))
}
