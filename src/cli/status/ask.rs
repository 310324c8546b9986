//! The questions to the admin listener, and their answers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::{
    admin::AdminConfig,
    outbound::{HttpClient, SendError, system_cas},
    secret::Secret,
    sources::{MemorySources, Sources},
    tls::{TlsPolicy, TlsSettings},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for one whole answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer: every tool of every upstream.
const MAX_ANSWER: usize = 256 << 20;

/// Everything that is asked for at once.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) ready: bool,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) certificates: Vec<Value>,
    pub(super) tools: Vec<Tool>,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) since: String,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) remedy: Option<String>,
    pub(super) version: Option<String>,
    pub(super) policy: String,
    pub(super) generation: Option<u64>,
    pub(super) tools: usize,
    /// As it came.
    #[serde(skip)]
    pub(super) raw: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    pub(super) name: Option<String>,
    pub(super) upstream: String,
    pub(super) own_name: Option<String>,
    pub(super) visibility: String,
    pub(super) why: Option<String>,
    /// The list of groups that denies it.
    pub(super) list: Option<String>,
    #[serde(default)]
    pub(super) restricted: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) at: String,
    pub(super) kind: String,
    pub(super) upstream: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) detail: String,
    #[serde(skip)]
    pub(super) raw: Value,
}

/// How the gateway is asked.
struct Line<'a> {
    address: SocketAddr,
    token: Option<&'a Secret>,
    tls: Option<TlsPolicy>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Answers {
    /// All upstreams, or the one of this name; `None` without such a one.
    pub(super) fn selected(&self, server: Option<&str>) -> Option<Vec<&Upstream>> {
        let selected: Vec<_> = self.upstreams.iter().filter(|upstream| server.is_none_or(|server| server == upstream.name)).collect();
        (server.is_none() || !selected.is_empty()).then_some(selected)
    }

    pub(super) fn certificates_of(&self, server: Option<&str>) -> Vec<&Value> {
        let is_its = |certificate: &&Value| server.is_none_or(|server| certificate.get("upstream").and_then(Value::as_str) == Some(server));
        self.certificates.iter().filter(is_its).collect()
    }

    pub(super) fn last_events(&self, server: Option<&str>, most: usize) -> Vec<&Event> {
        let concerns = |event: &&Event| server.is_none() || event.upstream.as_deref() == server;
        let all: Vec<_> = self.events.iter().filter(concerns).collect();
        all.into_iter().rev().take(most).rev().collect()
    }

    pub(super) fn last_reload(&self) -> Option<&Event> {
        self.events.iter().rev().find(|event| matches!(event.kind.as_str(), "reloaded" | "reload_rejected"))
    }
}

/// Asks the admin listener of this configuration, for the tools as somebody in `groups` sees them.
///
/// # Errors
/// Nobody listens there, or it does not take us, or it is not ours.
pub(super) async fn ask(admin: &AdminConfig, sources: &dyn Sources, now: Duration, groups: &[String]) -> Result<Answers, Trouble> {
    let line = Line { address: address(admin), token: admin.token.as_ref(), tls: trust(admin, sources, now)? };
    let line = &line;
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(groups.iter().map(|group| ("as", group))).finish();
    let ready = get(line, "/readyz").await?.0 == StatusCode::OK;
    Ok(Answers {
        ready,
        upstreams: list::<Upstream>(line, "upstreams", "", |upstream, raw| upstream.raw = raw).await?,
        certificates: list::<Value>(line, "certificates", "", |_, _| ()).await?,
        tools: list::<Tool>(line, "tools", &query, |_, _| ()).await?,
        events: list::<Event>(line, "events", "", |event, raw| event.raw = raw).await?,
    })
}

/// The list that `/api/v1/KEY` has under `KEY`.
async fn list<T: DeserializeOwned>(line: &Line<'_>, key: &str, query: &str, keep: impl Fn(&mut T, Value)) -> Result<Vec<T>, Trouble> {
    let path = format!("/api/v1/{key}");
    let (status, body) = get(line, &format!("{path}?{query}")).await?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(Trouble {
                what: format!("the gateway at {} does not take the token of this file", line.address),
                remedy: "use the configuration, and the variables in it, that the gateway was started with".to_owned(),
            });
        }
        other => {
            return Err(Trouble {
                what: format!("the gateway at {} answered {path} with {other}", line.address),
                remedy: "look whether something else listens there, or another version of nexus".to_owned(),
            });
        }
    }
    let not_ours = || Trouble {
        what: format!("what answers at {} is not the admin listener of this version of nexus", line.address),
        remedy: "look what listens there, and restart the gateway with this program".to_owned(),
    };
    let mut whole: Value = serde_json::from_slice(&body).map_err(|_| not_ours())?;
    let Some(Value::Array(items)) = whole.get_mut(key).map(Value::take) else { return Err(not_ours()) };
    let read = |raw: Value| {
        let mut item: T = serde_json::from_value(raw.clone()).map_err(|_| not_ours())?;
        keep(&mut item, raw);
        Ok(item)
    };
    items.into_iter().map(read).collect()
}

async fn get(line: &Line<'_>, path: &str) -> Result<(StatusCode, Bytes), Trouble> {
    let address = line.address;
    let scheme = if line.tls.is_some() { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{address}{path}")).expect("an address and a path make a URL");
    let unusable = |why: String| Trouble { what: why, remedy: "correct [admin]".to_owned() };
    let client = HttpClient::new(&url, line.tls.as_ref(), CONNECT_TIMEOUT).map_err(|explanation| unusable(explanation.to_string()))?;
    let mut request = Request::new(Bytes::new());
    if let Some(token) = line.token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|error| unusable(error.to_string()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let silent = |why: String| Trouble {
        what: format!("no gateway answers at {address}: {why}"),
        remedy: "start it with `nexus serve` on this file; one that runs may have been started before [admin] was added".to_owned(),
    };
    let failed = |error: SendError| match error.explanation {
        why if why.reason.code().starts_with("tls_") => Trouble {
            what: format!("the gateway at {address} is not the one of this file: {why}"),
            remedy: "it may run with other files than those on disk; look at its log, or reload it".to_owned(),
        },
        why => silent(why.detail),
    };
    let exchange = async {
        let response = client.send(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|_| silent("the answer broke off".to_owned()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(silent(format!("no answer within {PATIENCE:?}"))))
}

/// Trusts the certificate that stands in the file, and no other: the token goes to nobody else.
fn trust(admin: &AdminConfig, sources: &dyn Sources, now: Duration) -> Result<Option<TlsPolicy>, Trouble> {
    const LEAF: &str = "/admin.tls";
    let Some(settings) = &admin.tls else { return Ok(None) };
    let tls = settings.load(sources, now).map_err(|problem| Trouble { what: problem.what.clone(), remedy: problem.remedy.clone() })?;
    let only_this = MemorySources::default().with_file(LEAF, tls.leaf_der());
    // It is this very certificate, so the name in it says nothing more, and the address is seldom in it.
    let policy = TlsSettings { root_ca_cert_path: Some(LEAF.into()), accept_invalid_hostnames: true, ..TlsSettings::default() };
    let host = address(admin).ip().to_string();
    let policy = policy.load(&host, &only_this, &system_cas, now);
    policy.map(Some).map_err(|why| Trouble { what: why.detail, remedy: why.remedy })
}

/// The address as this machine reaches it.
fn address(admin: &AdminConfig) -> SocketAddr {
    let ip = match admin.listen_address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.listen_address.port())
}
