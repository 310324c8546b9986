//! A client's session with an upstream that all replicas use: one of them opens it, the others go on with it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http::HeaderValue;
use tokio::time::sleep;

use super::{
    EndpointConfig, Generation, Session, SessionSpec, Upstream, UpstreamError,
    generation::{Transport, version_header},
    session::SessionLink,
};
use crate::{
    mcp::digest::digest_of_parts,
    session::{Place, Placed, UpstreamRecord},
};

/// Pauses while another replica opens a session.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Ids of requests begin below this, so that they stay whole numbers in every language (RFC 8259 §6).
const IDS: u64 = 1 << 52;

/// Where other replicas find a session.
#[derive(Debug)]
pub(super) struct Shared {
    place: Place,
    record: UpstreamRecord,
}

impl Shared {
    /// The upstream does not know it any more.
    pub(super) async fn forget(&self) {
        self.place.forget(&self.record).await;
    }
}

impl Session {
    /// A session that another replica opened; `None` where its id is none.
    pub(super) fn of_record(record: &UpstreamRecord) -> Option<Self> {
        let id = match &record.id {
            None => None,
            Some(id) => {
                let mut id = HeaderValue::from_bytes(id).ok()?;
                id.set_sensitive(true);
                Some(id)
            }
        };
        let session = Self::new(record.version, SessionLink::Http { id, version: version_header(record.version) }, b"");
        session.number_apart();
        Some(session)
    }

    /// Other replicas may use it, too.
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// As other replicas can use it; `None` of what belongs to this process.
    pub fn record(&self) -> Option<UpstreamRecord> {
        self.shared.get().map(|shared| shared.record.clone())
    }

    /// A server tells requests in one session apart by their ids, and two replicas must not use the same.
    fn number_apart(&self) {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).expect("the operating system provides randomness");
        self.next_id.store(u64::from_be_bytes(bytes) % IDS + 1, Ordering::Relaxed);
    }

    fn is_found_at(&self, place: Place, record: UpstreamRecord) {
        // A session is opened once, and so is this.
        let _ = self.shared.set(Box::new(Shared { place, record }));
    }
}

impl Generation {
    /// Whether another process could go on with a session that was opened here.
    pub(super) fn shares_sessions(&self) -> bool {
        matches!(&self.transport, Transport::Http(http) if !http.is_sse())
    }
}

impl Upstream {
    /// Of the server that is meant: after a change of this, a session with the one before is of no use.
    pub fn identity(&self) -> [u8; 32] {
        match &self.config.load().endpoint {
            EndpointConfig::Http(http) => {
                let protocol = format!("{:?}", http.protocol);
                digest_of_parts([b"http".as_slice(), http.url.as_str().as_bytes(), protocol.as_bytes()])
            }
            EndpointConfig::Stdio(_) => digest_of_parts([b"stdio".as_slice()]),
        }
    }
}

/// The session of a place: what is there, or one that is opened and put there. Without a store it is this replica's own, for the
/// time being.
///
/// # Errors
/// [`UpstreamError`] when it cannot be opened; the next who wants one tries again.
pub(super) async fn open_at(generation: &Generation, spec: &SessionSpec, place: Place) -> Result<Arc<Session>, UpstreamError> {
    let mut pause = FIRST_PAUSE;
    let mut useless = None;
    loop {
        let claim = match place.claim().await {
            // A store that only lets itself be read, as a copy does, forgets nothing.
            Ok(Placed::Kept(record)) if useless.as_ref() == Some(&record) => None,
            Ok(Placed::Kept(record)) => {
                if let Some(session) = go_on_with(generation, spec, &record).await? {
                    session.is_found_at(place, record);
                    return Ok(session);
                }
                place.forget(&record).await;
                useless = Some(record);
                continue;
            }
            Ok(Placed::Ours(claim)) => Some(claim),
            Ok(Placed::Taken) => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            Ok(Placed::Gone) | Err(_) => None,
        };
        let opened = generation.open(spec).await;
        let (session, claim) = match (opened, claim) {
            (Ok(session), claim) => (session, claim),
            (Err(error), Some(claim)) => {
                place.release(&claim).await;
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        let SessionLink::Http { id, .. } = &session.link else { return Ok(session) };
        session.number_apart();
        let record = UpstreamRecord { version: session.version, id: id.as_ref().map(|id| bytes::Bytes::copy_from_slice(id.as_bytes())) };
        let is_kept = match &claim {
            Some(claim) => place.fill(claim, &record).await.unwrap_or(true),
            None => true,
        };
        if is_kept {
            session.is_found_at(place, record);
            return Ok(session);
        }
        // It took too long, and another was faster.
        generation.close(&session).await;
    }
}

/// `None`: the upstream does not know it any more.
async fn go_on_with(generation: &Generation, spec: &SessionSpec, record: &UpstreamRecord) -> Result<Option<Arc<Session>>, UpstreamError> {
    let Some(session) = Session::of_record(record).map(Arc::new) else { return Ok(None) };
    // The client may have changed its mind since it was opened.
    let Some(level) = &spec.log_level else { return Ok(Some(session)) };
    match generation.set_log_level(&session, level).await {
        Ok(()) => Ok(Some(session)),
        Err(UpstreamError::SessionLost) => Ok(None),
        Err(error) => Err(error),
    }
}
