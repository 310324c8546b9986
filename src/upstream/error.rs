//! Why an exchange with an upstream failed, and whether it may be repeated.

use std::time::Duration;

use thiserror::Error;

use crate::reason::{Explanation, Reason};

/// A failed exchange. Each variant is one thing to act on; none carries what a client must not see except inside the
/// [`Explanation`], which goes to the log.
#[derive(Clone, Debug, Error)]
pub enum UpstreamError {
    /// Known to be down: nothing was tried.
    #[error("down: {0}")]
    Down(Explanation),
    /// The request could not be delivered, or its answer did not come back whole.
    #[error("{explanation}")]
    Failed {
        explanation: Explanation,
        /// The request provably never reached the server, so that a repeat cannot run it twice.
        never_sent: bool,
    },
    /// HTTP 404 for a session id, or the process that held the session is gone: not executed (MCP 2025-11-25,
    /// basic/transports, session management).
    #[error("the upstream session is gone")]
    SessionLost,
    /// A modern server that does not know `initialize`: not executed.
    #[error("the server speaks the modern era only")]
    WrongEra,
    /// The answer to `initialize` says that the server does not know it: not executed.
    #[error("{0}")]
    NoInitialize(Explanation),
    /// A redirect, which is never followed on a call. At bring-up one to the same origin is learned.
    #[error("redirected")]
    Redirected {
        location: String,
        /// 307 or 308: the method and the body stay as they are.
        permanent_method: bool,
    },
    /// Something that one era has and the other lacks, and that is not bridged yet.
    #[error("{0}")]
    NotBridged(&'static str),
    /// In the middle of a call it asks for what this client cannot give. Nothing was asked of the client.
    #[error("{0}")]
    CannotAsk(&'static str),
    /// No answer and no progress within this time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

impl UpstreamError {
    pub(crate) fn protocol(detail: impl Into<String>) -> Self {
        let remedy = "look at the upstream's own log; the gateway passes on only well-formed MCP";
        Self::Failed { explanation: Explanation::new(Reason::Protocol, detail, remedy), never_sent: false }
    }

    pub(crate) fn redirected(location: String) -> Self {
        Self::Redirected { location, permanent_method: false }
    }

    /// The server was reached and answered, only not as a server of the era that was tried would.
    pub(crate) fn is_about_content(&self) -> bool {
        matches!(self.reason(), Reason::HttpStatus | Reason::NotMcp | Reason::Protocol)
    }

    /// The server does not know `initialize`, so it speaks the modern era only.
    pub(crate) fn is_no_initialize(&self) -> bool {
        matches!(self, Self::NoInitialize(_))
    }

    pub fn reason(&self) -> Reason {
        match self {
            Self::Down(e) | Self::NoInitialize(e) | Self::Failed { explanation: e, .. } => e.reason,
            Self::SessionLost | Self::WrongEra | Self::NotBridged(_) | Self::CannotAsk(_) => Reason::Protocol,
            Self::Redirected { .. } => Reason::HttpRedirect,
            Self::TimedOut(_) => Reason::CallTimeout,
        }
    }

    /// What a client may read.
    pub fn words(&self) -> &'static str {
        match self {
            Self::NotBridged(what) | Self::CannotAsk(what) => what,
            other => other.reason().words(),
        }
    }

    /// Whether the same request may be sent again although it may change something.
    pub fn is_safe_to_repeat(&self) -> bool {
        match self {
            Self::Failed { never_sent, .. } => *never_sent,
            Self::SessionLost | Self::WrongEra | Self::NoInitialize(_) => true,
            Self::Down(_) | Self::TimedOut(_) | Self::Redirected { .. } | Self::NotBridged(_) | Self::CannotAsk(_) => false,
        }
    }

    /// Whether the upstream may be at work for somebody who does not wait any more: an end of our own, not of the exchange.
    pub(crate) fn leaves_it_working(&self) -> bool {
        matches!(self, Self::TimedOut(_))
            || matches!(self, Self::Failed { never_sent: false, explanation } if explanation.reason == Reason::Drained)
    }

    /// What an operator reads.
    pub fn explanation(&self) -> Explanation {
        match self {
            Self::Down(e) | Self::NoInitialize(e) | Self::Failed { explanation: e, .. } => e.clone(),
            Self::SessionLost | Self::WrongEra => {
                Explanation::new(Reason::Protocol, "the upstream forgot its session twice", "look at the upstream's own log")
            }
            Self::NotBridged(what) => {
                Explanation::new(Reason::Protocol, *what, "use a client that speaks the same protocol era as the server for this")
            }
            Self::CannotAsk(what) => {
                Explanation::new(Reason::Protocol, *what, "use a client that can be asked this; a server must not ask any other")
            }
            Self::Redirected { location, .. } => Explanation::new(
                Reason::HttpRedirect,
                format!("the server redirects to {}", location.chars().filter(|c| !c.is_control()).take(128).collect::<String>()),
                "set `url` to the final address, if you trust it",
            ),
            Self::TimedOut(after) => Explanation::new(
                Reason::CallTimeout,
                format!("no answer and no progress within {after:?}"),
                "raise call_timeout, or let the tool report progress",
            ),
        }
    }
}
