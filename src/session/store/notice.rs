//! What replicas tell one another.

use bytes::Bytes;

use super::pack::{pack, unpack};
use crate::{mcp::digest::digest_of_parts, session::SessionId};

/// Longest notice, in bytes: a client's answer to a server may hold a picture.
pub(super) const MAX_NOTICE: usize = 8 << 20;

/// One thing that another replica has to know of a session that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The client answered what this replica asked it. A raw message.
    Answered(SessionId, Bytes),
    /// The client cancels a call that may be under way here. A raw message.
    Cancelled(SessionId, Bytes),
    /// The client says something to the servers. A raw message, and the upstreams that were told already.
    Said(SessionId, Bytes, Vec<String>),
    /// A server takes back what the client was asked here: a raw message as this upstream says it.
    TakenBack(SessionId, Bytes, String),
    /// For the client, on its stream of messages that answer no request. A raw message.
    ForClient(SessionId, Bytes),
    /// Its log level, its subscriptions or its upstream sessions are other than before.
    Changed(SessionId),
    /// The client has opened its stream at another replica: the one here is of no use any more.
    StreamMoved(SessionId),
    Ended(SessionId),
}

/// Names of upstreams hold no line break.
const BETWEEN: &str = "\n";

impl Notice {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, session, message, told): (&[u8], _, &[u8], String) = match self {
            Self::Answered(session, message) => (b"answered", session, message, String::new()),
            Self::Cancelled(session, message) => (b"cancelled", session, message, String::new()),
            Self::Said(session, message, told) => (b"said", session, message, told.join(BETWEEN)),
            Self::TakenBack(session, message, upstream) => (b"taken back", session, message, upstream.clone()),
            Self::ForClient(session, message) => (b"for the client", session, message, String::new()),
            Self::Changed(session) => (b"changed", session, b"", String::new()),
            Self::StreamMoved(session) => (b"stream moved", session, b"", String::new()),
            Self::Ended(session) => (b"ended", session, b"", String::new()),
        };
        pack(&[kind, session.as_bytes(), message, told.as_bytes()])
    }

    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let [kind, session, message, told] = unpack(raw)?;
        let session = SessionId::from_bytes(session)?;
        let message = || Bytes::copy_from_slice(message);
        Some(match kind {
            b"answered" => Self::Answered(session, message()),
            b"cancelled" => Self::Cancelled(session, message()),
            b"said" => {
                let told = std::str::from_utf8(told).ok()?.split(BETWEEN).filter(|name| !name.is_empty());
                Self::Said(session, message(), told.map(str::to_owned).collect())
            }
            b"taken back" => Self::TakenBack(session, message(), std::str::from_utf8(told).ok()?.to_owned()),
            b"for the client" => Self::ForClient(session, message()),
            b"changed" => Self::Changed(session),
            b"stream moved" => Self::StreamMoved(session),
            b"ended" => Self::Ended(session),
            _ => return None,
        })
    }
}

/// The list from which a replica reads, and nobody else.
pub(super) fn inbox(replica: &str) -> String {
    format!("inbox:{replica}")
}

/// A notice opens in the inbox of the replica that it is for only.
pub(super) fn bond(replica: &str) -> [u8; 32] {
    digest_of_parts([b"inbox".as_slice(), replica.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_as_they_were_written_and_nothing_else_is_one() {
        let (id, message) = (SessionId::random(), Bytes::from_static(b"{}"));
        for notice in [
            Notice::Answered(id, message.clone()),
            Notice::Cancelled(id, message.clone()),
            Notice::Said(id, message.clone(), vec!["a".to_owned(), "b".to_owned()]),
            Notice::Said(id, message.clone(), Vec::new()),
            Notice::TakenBack(id, message.clone(), "a".to_owned()),
            Notice::ForClient(id, message),
            Notice::Changed(id),
            Notice::StreamMoved(id),
            Notice::Ended(id),
        ] {
            let raw = notice.encode();
            assert_eq!(Notice::decode(&raw), Some(notice));
            assert_eq!(Notice::decode(&raw[1..]), None);
        }
        for garbage in [&b""[..], b"changed", &[0; 100]] {
            assert_eq!(Notice::decode(garbage), None);
        }
        assert_eq!(Notice::decode(&pack(&[b"other", id.as_bytes(), b"", b""])), None);
    }
}
