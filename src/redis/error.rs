//! Why a command got no answer.

use std::fmt;

use fred::error::{Error, ErrorKind};

use crate::tls::shown;

/// What is kept of a server's own words, in characters.
const LONGEST: usize = 200;
/// What the client says of a command that a node of a cluster did not take.
const REDIRECTED: &str = "Too many redirections.";
/// What it says of its own where there is no connection, of the kind that the server's words have, too.
const NOT_SENT: [&str; 4] =
    ["Failed to route command.", "Too many failed write attempts.", "Client is not initialized.", "Failed to send command to router."];

/// A command without an answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisError {
    /// There is no connection, or it ended before the answer came.
    NotConnected,
    /// No answer within `response_timeout`; or the server did not answer others, and is left alone for a moment.
    TimedOut,
    /// More commands wait than the client holds.
    Busy,
    /// The cluster has moved the key to another node, or is about to. Nothing ran.
    Moved,
    /// The server's own error.
    Refused(String),
    /// The answer is none to that command.
    Nonsense,
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("there is no connection to Redis"),
            Self::TimedOut => f.write_str("Redis did not answer in time"),
            Self::Busy => f.write_str("too many commands wait for Redis"),
            Self::Moved => f.write_str("the Redis cluster is moving the key to another node"),
            Self::Refused(words) => write!(f, "Redis refused: {words}"),
            Self::Nonsense => f.write_str("Redis answered something else"),
        }
    }
}

impl std::error::Error for RedisError {}

impl RedisError {
    /// Whether the server is a copy of another, and takes no writes.
    pub(super) fn is_of_a_copy(&self) -> bool {
        // A script's error has the same words, after a word of its own in some versions.
        matches!(self, Self::Refused(words) if words.contains("READONLY") || words.contains("read only replica"))
    }

    /// Whether the server has forgotten the script, or never knew it.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Refused(words) if words.starts_with("NOSCRIPT"))
    }
}

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::TimedOut,
            ErrorKind::Backpressure => Self::Busy,
            ErrorKind::Routing if error.details() == REDIRECTED => Self::Moved,
            ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Tls | ErrorKind::Sentinel => Self::NotConnected,
            ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::NotFound => Self::Nonsense,
            // A conversion of an answer fails with `InvalidArgument`, too, but so does a key of another type.
            ErrorKind::InvalidArgument if !error.details().starts_with("WRONGTYPE") => Self::Nonsense,
            ErrorKind::Unknown if NOT_SENT.contains(&error.details()) => Self::NotConnected,
            _ => Self::Refused(words(error.details())),
        }
    }
}

/// A server's text, as it may be shown.
pub(super) fn words(text: &str) -> String {
    // A server that knows no AUTH repeats what came with it.
    let text = text.split_once("with args").map_or(text, |(before, _)| before.trim_end_matches([',', ' ']));
    shown(&text.chars().take(LONGEST).collect::<String>())
}
