//! A legacy session with an upstream, or the child process that takes its place.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Notify;

use super::{
    ClientCapabilities, Generation, UpstreamError, crowd::Crowd, interest::Interest, life::Life, sharing::Shared,
    transport::channel::Channel,
};
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
    /// Shared by a principal's subscriptions at a legacy server: a session has one stream of its own, and to that of a pooled
    /// session its calls listen.
    Listening(PrincipalKey),
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
    /// Who wants to hear of which resource in it.
    pub(super) interest: Interest,
    pub(super) next_id: AtomicU64,
    /// Where other replicas find it.
    pub(super) shared: OnceLock<Box<Shared>>,
    /// The server does not know it any more. Read by every call.
    lost: AtomicBool,
    /// Told when it is lost.
    told: Notify,
    crowd: Crowd,
}

pub(crate) enum SessionLink {
    Http {
        id: Option<HeaderValue>,
        version: HeaderValue,
    },
    Process(Arc<Channel>),
    /// A legacy event stream; it ends with the generation that opened it.
    Sse {
        channel: Arc<Channel>,
        life: Life,
    },
}

impl Session {
    /// Copies the greeting: as a slice it would keep a whole read buffer for as long as the session lives.
    pub(crate) fn new(version: Version, link: SessionLink, greeting: &[u8]) -> Self {
        let greeting = Bytes::copy_from_slice(greeting);
        Self {
            version,
            link,
            greeting,
            interest: Interest::default(),
            next_id: AtomicU64::new(1),
            shared: OnceLock::new(),
            lost: AtomicBool::new(false),
            told: Notify::new(),
            crowd: Crowd::default(),
        }
    }

    /// A request id that is unique among all that use this session.
    pub fn next_id(&self) -> u64 {
        match &self.link {
            SessionLink::Http { .. } => self.next_id.fetch_add(1, Ordering::Relaxed),
            SessionLink::Process(channel) | SessionLink::Sse { channel, .. } => channel.next_id(),
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

    /// Requests share one channel, on which their answers come back in any order.
    pub fn is_channel(&self) -> bool {
        matches!(self.link, SessionLink::Process(_) | SessionLink::Sse { .. })
    }

    /// It is a child process, whose requests may be several downstream sessions'.
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
            SessionLink::Process(channel) | SessionLink::Sse { channel, .. } => channel.is_idle(),
        }
    }

    /// Ends the process or the event stream, if it is one.
    pub(crate) fn stop(&self) {
        if let SessionLink::Process(channel) | SessionLink::Sse { channel, .. } = &self.link {
            channel.stop();
        }
    }

    /// Whether a request of this generation may travel in it. An event stream belongs to the connection that it was opened
    /// over, and so to one generation's trust and credential.
    pub(crate) fn serves(&self, generation: &Generation) -> bool {
        !self.has_ended() && !matches!(&self.link, SessionLink::Sse { life, .. } if !life.is(&generation.life))
    }

    /// Why the channel behind this session does not answer any more.
    pub(crate) async fn end_error(&self) -> UpstreamError {
        match &self.link {
            SessionLink::Http { .. } => UpstreamError::SessionLost,
            SessionLink::Process(channel) | SessionLink::Sse { channel, .. } => {
                UpstreamError::Failed { explanation: channel.ended().await, never_sent: false }
            }
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        match &self.link {
            SessionLink::Http { .. } => self.lost.load(Ordering::Relaxed),
            SessionLink::Process(channel) | SessionLink::Sse { channel, .. } => channel.has_ended(),
        }
    }

    /// The server has said that it does not know this session; nothing is sent in it any more.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Waits until it is of no use any more.
    pub(crate) async fn gone(&self) {
        match &self.link {
            SessionLink::Http { .. } => loop {
                // Waits from here on, so that no end is missed after the look.
                let mut told = std::pin::pin!(self.told.notified());
                told.as_mut().enable();
                if self.lost.load(Ordering::Acquire) {
                    return;
                }
                told.await;
            },
            SessionLink::Process(channel) | SessionLink::Sse { channel, .. } => drop(channel.ended().await),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("version", &self.version).field("process", &self.is_process()).finish_non_exhaustive()
    }
}
