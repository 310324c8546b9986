//! Where the session with one upstream is kept for all replicas: whoever comes first opens it, the others go on with it.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Notice, Store, StoreError, UpstreamRecord, number,
    seals::{TAG, upstream_field},
};
use crate::{redis::Reply, session::SessionId};

/// How long the opening of an upstream session keeps others from it. Whoever takes longer may be overtaken, and goes on with
/// what was kept then.
const LEASE: Duration = Duration::from_secs(10);

/// The place of one client's session with one upstream.
pub struct Place {
    store: Arc<Store>,
    session: SessionId,
    upstream: String,
    /// Of the server that is meant: a session with another one of the same name is of no use.
    identity: [u8; 32],
}

/// What is in a place.
#[derive(Debug)]
pub enum Placed {
    Kept(UpstreamRecord),
    /// Nothing; and it is ours to fill.
    Ours(Claim),
    /// Nothing, and another fills it.
    Taken,
    /// There is no such session of a client's.
    Gone,
}

/// The right to fill a place.
#[derive(Debug)]
pub struct Claim(String);

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("session", &self.session).field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Place {
    pub fn new(store: &Arc<Store>, session: SessionId, upstream: &str, identity: [u8; 32]) -> Self {
        Self { store: Arc::clone(store), session, upstream: upstream.to_owned(), identity }
    }

    /// Looks into the place, and claims it where nothing of use is there.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn claim(&self) -> Result<Placed, StoreError> {
        let token = SessionId::random().to_string();
        let mut useless = Bytes::new();
        // What turns out to be of no use is claimed at the second attempt.
        for _ in 0..2 {
            let arguments =
                [upstream_field(&self.upstream).into(), self.claim_field(), Bytes::from(token.clone()), number(LEASE), useless.clone()];
            match self.store.run(&self.store.scripts.claim, self.session, arguments.to_vec()).await? {
                Reply::Number(1) => return Ok(Placed::Ours(Claim(token))),
                Reply::Number(2) => return Ok(Placed::Taken),
                Reply::Bytes(value) => match self.store.seals(self.session).open_upstream(&self.upstream, &value) {
                    Some((identity, record)) if identity == self.identity => return Ok(Placed::Kept(record)),
                    _ => useless = value.slice(..value.len().min(TAG)),
                },
                Reply::Number(_) | Reply::Nothing | Reply::List(_) => return Ok(Placed::Gone),
            }
        }
        Ok(Placed::Taken)
    }

    /// Fills the place and tells the other replicas. `false`: somebody else was faster.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn fill(&self, claim: &Claim, record: &UpstreamRecord) -> Result<bool, StoreError> {
        let value = self.store.seals(self.session).upstream(&self.upstream, &self.identity, record);
        let arguments = vec![upstream_field(&self.upstream).into(), self.claim_field(), Bytes::from(claim.0.clone()), value];
        let settled = self.store.run(&self.store.scripts.settle, self.session, arguments).await?;
        if matches!(&settled, Reply::List(entries) if entries.is_empty()) {
            return Ok(false);
        }
        let others = self.store.others_in(settled);
        if let Err(error) = self.store.tell(&others, &Notice::Changed(self.session)).await {
            tracing::debug!(%error, "other replicas could not be told of an upstream session");
        }
        Ok(true)
    }

    /// Leaves the place to others.
    pub async fn release(&self, claim: &Claim) {
        // It lapses anyway.
        let _ = self.store.run(&self.store.scripts.release, self.session, vec![self.claim_field(), Bytes::from(claim.0.clone())]).await;
    }

    /// Takes out a session that the upstream does not know any more, unless another was put there.
    pub async fn forget(&self, record: &UpstreamRecord) {
        let tag = self.store.seals(self.session).tag(&self.upstream, &self.identity, record);
        let arguments = vec![upstream_field(&self.upstream).into(), Bytes::copy_from_slice(&tag)];
        // Whoever takes it up meets the same refusal.
        let _ = self.store.run(&self.store.scripts.forget, self.session, arguments).await;
    }

    fn claim_field(&self) -> Bytes {
        format!("k:{}", self.upstream).into()
    }
}
