//! What is known of an upstream's condition.

use std::time::Duration;

use crate::reason::Explanation;

/// Serving or not. Each change is one log line and one message to whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not tried to the end yet.
    Starting,
    /// Ready to serve callers whose own credential it takes; none has shown one yet.
    Waiting(Explanation),
    Up,
    /// Serving, with something an operator should look at.
    Degraded(Explanation),
    /// Serving as far as is known, but the last checks failed.
    Suspect(Explanation),
    /// Not serving; tried again with back-off.
    Down(Explanation),
}

impl State {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting(_) => "waiting",
            Self::Up => "up",
            Self::Degraded(_) => "degraded",
            Self::Suspect(_) => "suspect",
            Self::Down(_) => "down",
        }
    }

    pub fn serves(&self) -> bool {
        matches!(self, Self::Up | Self::Degraded(_) | Self::Suspect(_))
    }

    pub fn explanation(&self) -> Option<&Explanation> {
        match self {
            Self::Waiting(e) | Self::Degraded(e) | Self::Suspect(e) | Self::Down(e) => Some(e),
            Self::Starting | Self::Up => None,
        }
    }
}

/// What an operator should look at although the upstream serves; the first one present is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// A credential is sent over a connection that is not verified or not encrypted.
    Insecure,
    /// A certificate that it depends on comes to its end.
    Certificate,
    /// What is configured now does not work; what ran before goes on.
    Reload,
    /// Some of its items are left out.
    Quarantine,
    /// Some of its names are another upstream's.
    Collision,
}

/// A [`State`] and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Wall-clock time of the last change, since 1970.
    pub since: Duration,
    /// It was tried to the end at least once, successfully or not.
    pub tried: bool,
    /// The transport in words, such as `HTTPS, private CA (ca.pem)`.
    pub policy: String,
}
