//! What `POST /api/v1/reload` calls.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{gateway::Reloader, problem::Problem};

/// Reads the configuration again, and takes over what is different.
pub trait Reload: Send + Sync + fmt::Debug {
    /// What changed, one sentence each; or all problems, and then nothing has changed.
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, Vec<Problem>>>;
}

impl Reload for Arc<Reloader> {
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, Vec<Problem>>> {
        Box::pin(async move { Reloader::reload(self).await.map(|changes| changes.words()).map_err(|rejected| rejected.problems) })
    }
}
