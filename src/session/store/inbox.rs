//! How replicas tell one another: each reads one list, and nobody else does.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Notice, Store, StoreError, fields,
    notice::{MAX_NOTICE, bond, inbox},
    number,
};
use crate::redis::{RedisError, Reply};

/// How long notices wait for a replica that does not read them.
const NOTICES_LIVE: Duration = Duration::from_secs(60);
/// How many wait, and how many bytes of the longest kind: a client chooses what it answers.
const MAX_NOTICES: usize = 1000;
const MAX_WAITING: usize = 64 << 20;
/// One wait for a notice.
const LISTENS: Duration = Duration::from_secs(5);
/// Replicas beyond these are not told.
const MAX_REPLICAS: usize = 256;

/// Other replicas that hold a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others(Vec<String>);

impl Others {
    /// The one of this name alone, if it is among them.
    #[must_use]
    pub fn only(self, replica: &str) -> Self {
        Self(self.0.into_iter().filter(|other| other == replica).collect())
    }
}

impl Store {
    /// Tells replicas. One round trip each.
    ///
    /// # Errors
    /// [`StoreError`], also when one of them does not read what it is told.
    pub async fn tell(&self, others: &Others, notice: &Notice) -> Result<(), StoreError> {
        if others.0.is_empty() {
            return Ok(());
        }
        let raw = notice.encode();
        if raw.len() > MAX_NOTICE {
            tracing::warn!(bytes = raw.len(), "a client's message is too long to be handed to another replica; dropped");
            return Ok(());
        }
        let most = (MAX_WAITING / raw.len().max(1)).clamp(1, MAX_NOTICES);
        let mut told = Ok(());
        for replica in &others.0 {
            let sealed = self.sealer.seal_bytes(&bond(replica), &raw);
            let arguments = vec![sealed.into(), number(NOTICES_LIVE), Bytes::from(most.to_string())];
            let list = vec![self.redis.key(&inbox(replica))];
            if let Reply::Number(0) = self.counted(self.redis.run(&self.scripts.push, list, arguments).await)? {
                tracing::debug!("another replica does not read what it is told; a notice was dropped");
                told = Err(StoreError(RedisError::Busy));
            }
        }
        told
    }

    /// Waits a while for a notice to this replica. To be called by one at a time.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn listen(&self) -> Result<Option<Notice>, StoreError> {
        let list = self.redis.key(&inbox(&self.replica));
        let popped = self.redis.pop_first(&[list], LISTENS).await.map_err(StoreError)?;
        let Some((_, sealed)) = popped else { return Ok(None) };
        let opened = if sealed.len() > MAX_NOTICE * 2 { None } else { self.sealer.open_bytes(&bond(&self.replica), &sealed) };
        let notice = opened.and_then(|raw| Notice::decode(&raw));
        if notice.is_none() {
            tracing::warn!(bytes = sealed.len(), "a notice in Redis was not sealed by these secrets for this replica; dropped");
        }
        Ok(notice)
    }

    /// The other replicas among marks, which follow the time of the server.
    pub(super) fn others_in(&self, marks: Reply) -> Others {
        let Reply::List(mut entries) = marks else { return Others::default() };
        if entries.is_empty() {
            return Others::default();
        }
        let marks = fields(Reply::List(entries.split_off(1)));
        let replicas = marks.iter().filter_map(|(field, _)| field.strip_prefix("at:")).filter(|replica| *replica != self.replica);
        Others(replicas.take(MAX_REPLICAS).map(str::to_owned).collect())
    }
}
