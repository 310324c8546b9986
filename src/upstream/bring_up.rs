//! From a configuration to a running generation: read the files, connect, find the era, greet, list.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use url::Url;

use super::{
    ClientCapabilities, EndpointConfig, Generation, HttpConfig, Protocol, SessionSpec, StdioConfig, Upstream, UpstreamConfig,
    UpstreamError,
    credential::Credential,
    generation::{Notices, Transport},
    life::Life,
    load_policy::load_policy,
    opening::initialize_process,
    own::{own_info, own_meta},
    session::{Session, SessionLink},
    stdio_host::StdioHost,
    transport::streamable_http::{HttpTransport, Wire},
    walk::{WalkBounds, walk},
};
use crate::{
    auth::PrincipalKey,
    mcp::{
        Era, Field, Id, Kind, Message, Method, Version, build,
        errors::{ErrorParts, code},
        handshake::{ServerFacts, versions_in},
        offer::{Greeting, Offer},
    },
    outbound::HttpClient,
    reason::{Explanation, Reason},
    tls::TlsPolicy,
};

/// A legacy child may never answer a method it does not know before initialize; after this we initialize anyway.
const CHILD_PROBE: Duration = Duration::from_secs(3);

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

/// What a successful bring-up gives.
pub(crate) struct BroughtUp {
    pub(crate) generation: Generation,
    pub(crate) offer: Offer,
    /// The transport and its trust in words.
    pub(crate) policy: String,
    pub(crate) warnings: Vec<String>,
}

/// # Errors
/// Why the upstream stays down.
pub(crate) async fn bring_up(upstream: &Upstream, notices: Notices) -> Result<BroughtUp, Explanation> {
    let bounds =
        WalkBounds { max_list: upstream.bounds.max_list, max_items: upstream.bounds.max_items, max_pages: upstream.bounds.max_pages };
    let config = upstream.config();
    let connected = match &config.endpoint {
        EndpointConfig::Http(http) => connect_http(upstream, &config, http).await?,
        EndpointConfig::Stdio(stdio) => connect_stdio(upstream, stdio, notices).await?,
    };
    let Connected { generation, greeting, policy, warnings } = connected;
    let offer = walk(&generation, greeting, bounds).await.map_err(|error| error.explanation())?;
    Ok(BroughtUp { generation, offer, policy, warnings })
}

struct Connected {
    generation: Generation,
    greeting: Greeting,
    policy: String,
    warnings: Vec<String>,
}

async fn connect_http(upstream: &Upstream, all: &UpstreamConfig, config: &HttpConfig) -> Result<Connected, Explanation> {
    let Trusting { tls, policy, warnings } = trusting(upstream, config).await?;
    let credential = Credential::prepare(upstream, all, config).await?;
    let mut url = config.url.clone();
    let mut redirected = false;
    loop {
        let client = HttpClient::by(config.way.clone(), &url, tls.as_ref(), all.connect_timeout)?;
        let transport = |wire| {
            let (url, credential) = (url.clone(), credential.clone());
            let (client, max_event, busy) = (client.clone(), upstream.bounds.max_event, upstream.busy.clone());
            Arc::new(HttpTransport::new(config, url, client, credential, max_event, wire, busy))
        };
        let found = match &config.protocol {
            Protocol::Streamable => {
                discover(candidate(upstream, Transport::Http(transport(Wire::Streamable)), None), upstream.known_era()).await
            }
            Protocol::Sse { messages } => open_sse(upstream, transport(Wire::Sse { messages: messages.clone() })).await,
            Protocol::Auto => {
                match discover(candidate(upstream, Transport::Http(transport(Wire::Streamable)), None), upstream.known_era()).await {
                    // A server of 2024-11-05 knows no POST at its address (MCP 2025-11-25, basic/transports, backwards
                    // compatibility). What the first attempt met is the cause, if this one meets something as well.
                    Err(first) if first.is_about_content() => {
                        open_sse(upstream, transport(Wire::Sse { messages: None })).await.map_err(|error| {
                            tracing::debug!(upstream = %upstream.name(), %error, "it does not speak HTTP with SSE either");
                            first
                        })
                    }
                    other => other,
                }
            }
        };
        match found {
            Ok((generation, greeting)) => {
                let is_sse = matches!(&generation.transport, Transport::Http(http) if http.is_sse());
                let policy = if is_sse { format!("{policy}, HTTP with SSE (2024-11-05)") } else { policy };
                return Ok(Connected { generation, greeting, policy, warnings });
            }
            Err(UpstreamError::Redirected { location, permanent_method: true }) if !redirected => {
                let target = same_origin(&url, &location).ok_or_else(|| UpstreamError::redirected(location).explanation())?;
                tracing::info!(upstream = %upstream.name(), path = target.path(), "the server redirects to another path; using it");
                url = target;
                redirected = true;
            }
            Err(error) => return Err(error.explanation()),
        }
    }
}

/// An upstream's files after they were read.
pub(super) struct Trusting {
    /// Absent for `http://`.
    pub(super) tls: Option<TlsPolicy>,
    /// The transport and its trust in words.
    pub(super) policy: String,
    pub(super) warnings: Vec<String>,
}

/// # Errors
/// A `local_*` reason.
pub(super) async fn trusting(upstream: &Upstream, config: &HttpConfig) -> Result<Trusting, Explanation> {
    let tls = match &config.tls {
        None => None,
        Some(settings) => {
            let host = config.url.host_str().unwrap_or_default();
            let policy = load_policy(upstream, settings, host).await?;
            if let Ok(running) = upstream.generation()
                && let Transport::Http(transport) = &running.transport
                && let Some(running) = transport.policy()
            {
                policy.may_follow(running)?;
            }
            Some(policy)
        }
    };
    let mut policy = tls.as_ref().map_or_else(|| "plain HTTP".to_owned(), |tls| format!("HTTPS, {}", tls.words()));
    if let Some(words) = config.way.words() {
        policy = format!("{policy}, {words}");
    }
    let warnings = tls.as_ref().map(|tls| tls.warnings().to_vec()).unwrap_or_default();
    Ok(Trusting { tls, policy, warnings })
}

/// A redirect is learned only within one scheme, host and port: `/mcp` to `/mcp/`.
fn same_origin(from: &Url, location: &str) -> Option<Url> {
    let to = from.join(location).ok()?;
    (to.origin() == from.origin() && to.username().is_empty() && to.password().is_none() && to != *from).then_some(to)
}

async fn connect_stdio(upstream: &Upstream, config: &StdioConfig, notices: Notices) -> Result<Connected, Explanation> {
    let make = || StdioHost::new(upstream, config.clone(), notices.clone());
    let patience = config.startup_timeout;
    let work = async {
        match discover_child(upstream, make()).await {
            // A child that ends on an unknown method gets a second life without the probe.
            Err(error) if error.reason() == Reason::Exited => {
                let host = make();
                let process = host.start_own().await.map_err(|explanation| UpstreamError::Failed { explanation, never_sent: true })?;
                let session = Arc::new(initialize_process(process, &own_spec()).await?);
                legacy(candidate(upstream, Transport::Stdio(Box::new(host)), None), session)
            }
            other => other,
        }
    };
    let timed = tokio::time::timeout(patience, work).await;
    let (generation, greeting) = timed
        .unwrap_or_else(|_| {
            let detail = format!("the process did not answer initialize within {patience:?}");
            Err(UpstreamError::Failed {
                explanation: Explanation::new(
                    Reason::SpawnFailed,
                    detail,
                    "raise startup_timeout; run the command by hand to see what it waits for",
                ),
                never_sent: true,
            })
        })
        .map_err(|error| error.explanation())?;
    let program = config.cmd.first().map(String::as_str).unwrap_or_default();
    Ok(Connected { generation, greeting, policy: format!("process {program}"), warnings: Vec::new() })
}

async fn discover_child(upstream: &Upstream, host: StdioHost) -> Result<(Generation, Greeting), UpstreamError> {
    let process = host.start_own().await.map_err(|explanation| UpstreamError::Failed { explanation, never_sent: true })?;
    let session = Arc::new(Session::new(Version::V2026_07_28, SessionLink::Process(Arc::clone(&process)), b""));
    let generation = candidate(upstream, Transport::Stdio(Box::new(host)), Some(Arc::clone(&session)));
    match tokio::time::timeout(CHILD_PROBE, ask_discover(&generation, Some(&session))).await {
        Ok(Ok(message)) => {
            if let Some(greeting) = modern_greeting(&message)? {
                return Ok((generation, greeting));
            }
        }
        Ok(Err(error)) if error.reason() == Reason::Exited => return Err(error),
        Ok(Err(error)) => tracing::debug!(upstream = %upstream.name(), %error, "no answer to server/discover; initializing"),
        Err(_) => tracing::debug!(upstream = %upstream.name(), "no answer to server/discover yet; initializing"),
    }
    let session = Arc::new(initialize_process(process, &own_spec()).await?);
    legacy(generation, session)
}

pub(super) fn next_number() -> u64 {
    GENERATIONS.fetch_add(1, Ordering::Relaxed)
}

fn candidate(upstream: &Upstream, transport: Transport, own_session: Option<Arc<Session>>) -> Generation {
    let config = upstream.config();
    Generation {
        number: next_number(),
        era: Era::Modern,
        refuses_legacy: AtomicBool::new(false),
        version: Version::V2026_07_28,
        transport,
        own_session,
        own_ids: AtomicU64::new(1),
        call_timeout: config.call_timeout,
        list_timeout: config.list_timeout,
        life: Life::default(),
    }
}

/// Finds the era of an HTTP upstream: `server/discover` first, then `initialize` (MCP 2026-07-28, basic/versioning).
///
/// Only an answer that a modern server gives makes it modern. A refused credential or a failed connection says nothing
/// about the era and ends the attempt.
async fn discover(generation: Generation, known: Option<Era>) -> Result<(Generation, Greeting), UpstreamError> {
    // Another caller has found it; whatever speaks against that is found out the long way.
    if known == Some(Era::Legacy) {
        match generation.initialize(&own_spec()).await {
            Ok(session) => return legacy(generation, session),
            Err(error) if error.is_about_content() || error.is_no_initialize() => {}
            Err(error) => return Err(error),
        }
    }
    let first = match ask_discover(&generation, None).await {
        Ok(message) => match modern_greeting(&message)? {
            Some(greeting) => return Ok((generation, greeting)),
            None => None,
        },
        Err(error) if error.is_about_content() => Some(error),
        Err(error) => return Err(error),
    };
    match generation.initialize(&own_spec()).await {
        Ok(session) => legacy(generation, session),
        // The first cause is the better one when both attempts met the same wall.
        Err(second) => Err(match first {
            Some(first) if second.reason() == first.reason() => first,
            _ => second,
        }),
    }
}

/// Asks `server/discover`, and once more where the server refuses the version but names it as one it speaks: a client is to
/// try again with one of those (MCP 2026-07-28, basic/versioning).
async fn ask_discover(generation: &Generation, session: Option<&Arc<Session>>) -> Result<Message, UpstreamError> {
    let ask = || {
        let id = session.map_or_else(|| generation.own_id(), |session| session.next_id());
        generation.ask(session, Method::Discover, id, discover_body(id))
    };
    let message = ask().await?;
    if refuses_what_it_speaks(&message) { ask().await } else { Ok(message) }
}

fn refuses_what_it_speaks(message: &Message) -> bool {
    let Some(error) = ErrorParts::of(message).filter(|error| error.code == code::UNSUPPORTED_PROTOCOL_VERSION) else { return false };
    let supported = error.data.map(|data| versions_in(data.of(message.bytes()), "supported")).unwrap_or_default();
    Version::best_modern(supported.iter().map(String::as_str)).is_some()
}

/// Opens the gateway's own session with a server of 2024-11-05.
async fn open_sse(upstream: &Upstream, transport: Arc<HttpTransport>) -> Result<(Generation, Greeting), UpstreamError> {
    let generation = candidate(upstream, Transport::Http(transport), None);
    let session = generation.initialize(&own_spec()).await?;
    legacy(generation, session)
}

fn legacy(mut generation: Generation, session: Arc<Session>) -> Result<(Generation, Greeting), UpstreamError> {
    let message = Message::parse(session.greeting.clone()).map_err(|error| UpstreamError::protocol(error.to_string()))?;
    let result = message.raw(Field::Result).unwrap_or_default();
    let greeting = Greeting::new(ServerFacts::from_initialize(&result).map_err(|error| UpstreamError::protocol(error.to_string()))?);
    generation.era = Era::Legacy;
    generation.version = session.version;
    generation.own_session = Some(session);
    Ok((generation, greeting))
}

/// `None`: the answer is not one of a modern server.
fn modern_greeting(message: &Message) -> Result<Option<Greeting>, UpstreamError> {
    if message.kind() == Kind::ErrorResponse {
        return match ErrorParts::of(message).map(|error| error.code) {
            Some(code @ (code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY)) => {
                Err(UpstreamError::protocol(format!("server/discover was answered with error {code}")))
            }
            // Legacy servers of one SDK answer -32022 too, but name old versions only.
            _ => Ok(None),
        };
    }
    let Some(result) = message.raw(Field::Result) else { return Ok(None) };
    Ok(ServerFacts::from_discover(&result).ok().filter(|facts| facts.best_modern().is_some()).map(Greeting::new))
}

pub(super) fn discover_body(id: u64) -> Bytes {
    build::discover(&Id::from_u64(id), &own_meta())
}

/// The gateway's own session: it lists and listens, and can do nothing that a client could be asked for.
pub(crate) fn own_spec() -> SessionSpec {
    SessionSpec {
        principal: PrincipalKey::Local,
        version: Version::LATEST_LEGACY,
        capabilities: ClientCapabilities::default().to_json(),
        client_info: own_info(),
        log_level: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_learned_within_one_origin_only() {
        let from = Url::parse("https://crm.test/mcp").unwrap();
        assert_eq!(same_origin(&from, "/mcp/").unwrap().as_str(), "https://crm.test/mcp/");
        assert_eq!(same_origin(&from, "https://crm.test:443/x").unwrap().as_str(), "https://crm.test/x");
        for elsewhere in
            ["https://evil.test/mcp", "http://crm.test/mcp", "https://crm.test:8443/mcp", "//evil.test/", "https://u:p@crm.test/", "/mcp"]
        {
            assert_eq!(same_origin(&from, elsewhere), None, "{elsewhere}");
        }
    }
}
