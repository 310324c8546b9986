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
use url::Url;

use crate::{admin::AdminConfig, outbound::HttpClient};

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

/// Asks the admin listener of this configuration.
///
/// # Errors
/// Nobody listens there, or it does not take us, or it is not ours.
pub(super) async fn ask(admin: &AdminConfig) -> Result<Answers, Trouble> {
    let ready = get(admin, "/readyz").await?.0 == StatusCode::OK;
    Ok(Answers {
        ready,
        upstreams: list::<Upstream>(admin, "upstreams", |upstream, raw| upstream.raw = raw).await?,
        certificates: list::<Value>(admin, "certificates", |_, _| ()).await?,
        tools: list::<Tool>(admin, "tools", |_, _| ()).await?,
        events: list::<Event>(admin, "events", |event, raw| event.raw = raw).await?,
    })
}

/// The list that `/api/v1/KEY` has under `KEY`.
async fn list<T: DeserializeOwned>(admin: &AdminConfig, key: &str, keep: impl Fn(&mut T, Value)) -> Result<Vec<T>, Trouble> {
    let path = format!("/api/v1/{key}");
    let (status, body) = get(admin, &path).await?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return Err(Trouble {
                what: format!("the gateway at {} does not take the token of this file", address(admin)),
                remedy: "use the configuration, and the variables in it, that the gateway was started with".to_owned(),
            });
        }
        other => {
            return Err(Trouble {
                what: format!("the gateway at {} answered {path} with {other}", address(admin)),
                remedy: "look whether something else listens there, or another version of nexus".to_owned(),
            });
        }
    }
    let not_ours = || Trouble {
        what: format!("what answers at {} is not the admin listener of this version of nexus", address(admin)),
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

async fn get(admin: &AdminConfig, path: &str) -> Result<(StatusCode, Bytes), Trouble> {
    let address = address(admin);
    let url = Url::parse(&format!("http://{address}{path}")).expect("an address and a path make a URL");
    let unusable = |why: String| Trouble { what: why, remedy: "correct [admin]".to_owned() };
    let client = HttpClient::new(&url, None, CONNECT_TIMEOUT).map_err(|explanation| unusable(explanation.to_string()))?;
    let mut request = Request::new(Bytes::new());
    if let Some(token) = &admin.token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|error| unusable(error.to_string()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let silent = |why: String| Trouble {
        what: format!("no gateway answers at {address}: {why}"),
        remedy: "start it with `nexus serve` on this file; one that runs may have been started before [admin] was added".to_owned(),
    };
    let exchange = async {
        let response = client.send(request).await.map_err(|error| silent(error.explanation.detail.clone()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|_| silent("the answer broke off".to_owned()))?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(silent(format!("no answer within {PATIENCE:?}"))))
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
