//! A legacy session with an upstream, or the child process that takes its place.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderValue;

use super::{ClientCapabilities, UpstreamError, crowd::Crowd, transport::process::Process};
use crate::{
    auth::PrincipalKey,
    mcp::{Era, Version},
    session::SessionId,
};

/// What must be equal for requests to share an upstream session. Never crosses principals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// Belongs to one downstream session.
    Owned(SessionId),
    /// Shared by a principal's requests of one era that declare the same capabilities.
    Pooled(PrincipalKey, ClientCapabilities, Era),
}

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Who it is for.
    pub principal: PrincipalKey,
    /// Version to ask for; its era decides whether the session begins with initialize.
    pub version: Version,
    /// Raw `capabilities` object.
    pub capabilities: Bytes,
    /// Raw `clientInfo` object.
    pub client_info: Bytes,
    /// Level to set right after the session was opened, a raw JSON string.
    pub log_level: Option<Bytes>,
}

/// An open session with one upstream.
pub struct Session {
    pub(crate) version: Version,
    pub(crate) link: SessionLink,
    /// The upstream's answer to initialize, whole; empty for a process without sessions.
    pub(crate) greeting: Bytes,
    next_id: AtomicU64,
    crowd: Crowd,
}

pub(crate) enum SessionLink {
    Http { id: Option<HeaderValue>, version: HeaderValue },
    Process(Arc<Process>),
}

impl Session {
    /// Copies the greeting: as a slice it would keep a whole read buffer for as long as the session lives.
    pub(crate) fn new(version: Version, link: SessionLink, greeting: &[u8]) -> Self {
        let greeting = Bytes::copy_from_slice(greeting);
        Self { version, link, greeting, next_id: AtomicU64::new(1), crowd: Crowd::default() }
    }

    /// A request id that is unique among all that use this session.
    pub fn next_id(&self) -> u64 {
        match &self.link {
            SessionLink::Http { .. } => self.next_id.fetch_add(1, Ordering::Relaxed),
            SessionLink::Process(process) => process.next_id(),
        }
    }

    /// The calls of modern clients that share it.
    pub fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// The upstream's answer to initialize.
    pub fn greeting(&self) -> &Bytes {
        &self.greeting
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn era(&self) -> Era {
        self.version.era()
    }

    /// Requests of several downstream sessions may be in flight on it at once.
    pub fn is_process(&self) -> bool {
        matches!(self.link, SessionLink::Process(_))
    }

    /// Whether it is this process.
    pub fn is_of_process(&self, number: u64) -> bool {
        matches!(&self.link, SessionLink::Process(process) if process.number() == number)
    }

    /// Whether nothing waits for an answer in it, as far as that is known.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.link {
            SessionLink::Http { .. } => true,
            SessionLink::Process(process) => process.is_idle(),
        }
    }

    /// Ends the process, if it is one.
    pub(crate) fn stop(&self) {
        if let SessionLink::Process(process) = &self.link {
            process.stop();
        }
    }

    /// Why the process behind this session does not answer any more.
    pub(crate) async fn end_error(&self) -> UpstreamError {
        match &self.link {
            SessionLink::Http { .. } => UpstreamError::SessionLost,
            SessionLink::Process(process) => UpstreamError::Failed { explanation: process.ended().await, never_sent: false },
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        match &self.link {
            SessionLink::Http { .. } => false,
            SessionLink::Process(process) => process.has_ended(),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version).field("process", &self.is_process()).finish_non_exhaustive()
    }
}
