//! Under which address the gateway itself is known.

use std::{fmt, sync::Arc};

use url::Url;

/// The gateway's public URL, if it has one, and where it listens.
#[derive(Clone)]
pub struct OwnAddress {
    /// Asked again each time, because it may be another after a reload.
    public_url: Arc<dyn Fn() -> Option<Url> + Send + Sync>,
    listens: Arc<str>,
}

impl OwnAddress {
    pub fn new(listens: &str, public_url: impl Fn() -> Option<Url> + Send + Sync + 'static) -> Self {
        Self { public_url: Arc::new(public_url), listens: listens.into() }
    }

    pub(super) fn public_url(&self) -> Option<Url> {
        (self.public_url)()
    }

    /// Which gateway speaks, in alerts.
    pub(super) fn name(&self) -> String {
        self.public_url().map_or_else(|| self.listens.to_string(), Into::into)
    }
}

impl fmt::Debug for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnAddress").field(&self.name()).finish()
    }
}
