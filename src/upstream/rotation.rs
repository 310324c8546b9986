//! Replaces a running generation when its files change: read, validate, try, swap. What runs goes on until that succeeds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Concern, EndpointConfig, Generation, Upstream, UpstreamConfig, UpstreamError,
    bring_up::{Trusting, discover_body, next_number, trusting},
    condition::insecure_credential,
    credential::Credential,
    generation::Transport,
    life::Life,
    transport::streamable_http::{HttpTransport, Wire},
};
use crate::{
    events::{EventKind, News},
    finding::Severity,
    mcp::{Id, Method, build},
    outbound::HttpClient,
    reason::{Explanation, Reason},
    tls::TlsPolicy,
};

/// What was rejected is tried again after this, also without a change: the server may have learned what it lacked.
const RETRY: Duration = Duration::from_secs(60);
/// A key that does not fit its certificate is half of a pair whose other half is on its way; only after this is it said.
const TORN: Duration = Duration::from_secs(5);

/// A generation that may take its predecessor's place.
pub(crate) struct Rotated {
    pub(crate) generation: Generation,
    /// The transport and its trust in words.
    pub(crate) policy: String,
    pub(crate) warnings: Vec<String>,
}

/// Waits for other files or another configuration, and gives the generation made of them. Until then `running` goes on,
/// and what is wrong with the new ones is said. Not cancel-safe: dropped half-way, a change is seen again later.
pub(crate) async fn rotated(upstream: &Upstream, running: &Generation) -> Rotated {
    // What was rejected by a bring-up, or before one, is tried again too.
    let mut again = upstream.has_concern(Concern::Reload).then(|| Instant::now() + RETRY);
    let mut torn_since: Option<Instant> = None;
    loop {
        tokio::select! {
            () = upstream.files.changed() => {}
            () = upstream.reconfigured.notified() => {}
            () = at(again) => {}
        }
        upstream.room_to_drain().await;
        match attempt(upstream, running).await {
            Ok(rotated) => return rotated,
            Err(why) if why.reason == Reason::LocalKeyMismatch && torn_since.is_none_or(|since| since.elapsed() < TORN) => {
                tracing::debug!(upstream = %upstream.name(), detail = %why.detail, "certificate and key do not fit yet");
                let since = *torn_since.get_or_insert_with(Instant::now);
                again = Some(since + TORN);
            }
            Err(why) => {
                torn_since = None;
                again = Some(Instant::now() + RETRY);
                reject(upstream, running, &why);
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn attempt(upstream: &Upstream, running: &Generation) -> Result<Rotated, Explanation> {
    let config = upstream.config();
    let rotated = prepare(upstream, &config, running).await?;
    if !upstream.tries_before_swap() {
        return Ok(rotated);
    }
    match trial(&rotated.generation).await {
        Err(error) if speaks_against(&error) && may_go_on(upstream, running, error.reason()) => match trial(running).await {
            // Nothing is lost with the old one, and the new one may be what is needed.
            Err(old) if speaks_against(&old) => Ok(rotated),
            // An upstream that is not there says nothing about either.
            Ok(()) | Err(_) => Err(error.explanation()),
        },
        Ok(()) | Err(_) => Ok(rotated),
    }
}

/// Reads and validates everything, and builds the client: nothing is contacted.
async fn prepare(upstream: &Upstream, config: &UpstreamConfig, running: &Generation) -> Result<Rotated, Explanation> {
    let (EndpointConfig::Http(http), Transport::Http(before)) = (&config.endpoint, &running.transport) else {
        return Err(Explanation::new(Reason::ReloadRejected, "a process is replaced as a whole", "look at the log above"));
    };
    let Trusting { tls, policy, warnings } = trusting(upstream, http).await?;
    let client = HttpClient::by(http.way.clone(), before.url(), tls.as_ref(), config.connect_timeout)?;
    let credential = Credential::prepare(upstream, config, http).await?;
    let (url, busy) = (before.url().clone(), upstream.busy.clone());
    let transport = HttpTransport::new(http, url, client, credential, upstream.bounds.max_event, Wire::Streamable, busy);
    let generation = Generation {
        number: next_number(),
        era: running.era,
        refuses_legacy: AtomicBool::new(running.refuses_legacy.load(Ordering::Relaxed)),
        version: running.version,
        transport: Transport::Http(Arc::new(transport)),
        own_session: running.own_session.clone(),
        own_ids: AtomicU64::new(running.own_ids.load(Ordering::Relaxed)),
        call_timeout: config.call_timeout,
        list_timeout: config.list_timeout,
        life: Life::default(),
    };
    Ok(Rotated { generation, policy, warnings })
}

/// A harmless request of the gateway's own, over a connection of this generation. What a handshake alone does not show is
/// seen too: a front such as nginx refuses a client certificate in HTTP, and a token is refused there in any case.
pub(crate) async fn trial(generation: &Generation) -> Result<(), UpstreamError> {
    let id = generation.own_id();
    let (session, method, body) = match &generation.own_session {
        Some(session) => (Some(session), Method::Ping, build::request(&Id::from_u64(id), Method::Ping, None)),
        None => (None, Method::Discover, discover_body(id)),
    };
    generation.ask(session, method, id, body).await.map(drop)
}

/// Whether a failure is about who we are and whom we trust. An upstream that cannot be reached, or has trouble of its own,
/// does not keep a new certificate from being used.
fn speaks_against(error: &UpstreamError) -> bool {
    is_about_identity(error.reason())
}

pub(crate) fn is_about_identity(reason: Reason) -> bool {
    reason.code().starts_with("tls_") || reason.code().starts_with("local_") || reason == Reason::AuthRequired
}

/// Whether what runs may go on although nothing can take its place for this reason. Connections that it has open are not
/// verified again, so that they say nothing about a server whose certificate was revoked or whose excuse is over, or whose key
/// is not the one that was asked for.
pub(crate) fn may_go_on(upstream: &Upstream, running: &Generation, why: Reason) -> bool {
    let is_forbidden = matches!(why, Reason::TlsRevoked | Reason::TlsCrlExpired | Reason::TlsPinMismatch);
    !is_forbidden && !excuse_has_lapsed(upstream, running)
}

/// Open connections were made while expired certificates were excused, and are not verified again by themselves.
pub(crate) fn excuse_has_lapsed(upstream: &Upstream, generation: &Generation) -> bool {
    let Transport::Http(transport) = &generation.transport else { return false };
    transport.policy().and_then(TlsPolicy::excused_until).is_some_and(|until| upstream.clock.now() >= until)
}

pub(crate) fn reject(upstream: &Upstream, running: &Generation, why: &Explanation) {
    let detail = format!("what is configured now does not work, and what ran before goes on (generation {}): {why}", running.number);
    let rejected = Explanation::new(Reason::ReloadRejected, detail, why.remedy.clone());
    if upstream.concern(Concern::Reload, Some(&rejected)) {
        tracing::warn!(upstream = %upstream.name(), reason = why.reason.code(), detail = %why.detail, fix = %why.remedy, "a reload was rejected");
        upstream.note(EventKind::ReloadRejected, Severity::Error, Some(why.reason), rejected.detail);
    }
    upstream.reloads.rejected();
}

impl Upstream {
    /// The new generation takes over: calls that have begun end on the old one.
    pub(crate) fn swap(self: &Arc<Self>, rotated: Rotated, old: Arc<Generation>) -> Arc<Generation> {
        let Rotated { generation, policy, warnings } = rotated;
        self.warn_of(&warnings);
        let generation = Arc::new(generation);
        self.now_serving(Some(Arc::clone(&generation)));
        self.concern(Concern::Reload, None);
        self.concern(Concern::Insecure, insecure_credential(self).as_ref());
        self.now_up(Some(policy));
        self.reloads.succeeded(self.clock.now());
        let (number, before) = (generation.number, old.number);
        tracing::info!(upstream = %self.name(), generation = number, before, "its files changed; a new generation serves");
        self.note(EventKind::Reloaded, Severity::Info, None, format!("generation {number} has taken the place of generation {before}"));
        self.retire(old, &generation);
        generation
    }

    pub(crate) fn note(&self, kind: EventKind, severity: Severity, reason: Option<Reason>, detail: String) {
        // What concerns all is noted once, by what all share.
        if self.is_personal() {
            return;
        }
        self.events.note(News { kind, severity, upstream: Some(self.name().to_string()), listener: None, reason, detail });
    }
}
