//! API keys, found by their digest.

use std::collections::HashMap;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use super::{
    ApiKey, Caller, PrincipalKey,
    caller::{Identity, Proof},
};

/// The keys of one configuration, each with the caller that it stands for.
#[derive(Debug, Default)]
pub(super) struct ApiKeys {
    /// By the beginning of the key's SHA-256. How long a look-up takes tells at most about a digest, and never about a key.
    by_prefix: HashMap<u64, Vec<([u8; 32], Caller)>>,
}

impl ApiKeys {
    pub(super) fn new(keys: &[ApiKey]) -> Self {
        let mut by_prefix: HashMap<u64, Vec<_>> = HashMap::with_capacity(keys.len());
        for key in keys {
            let caller = Caller::new(Identity {
                proof: Proof::of("api_key", None, &key.id),
                principal: PrincipalKey::of("api_key", "", &key.id),
                client: Some(key.id.as_str().into()),
                groups: key.group.iter().map(|group| group.as_str().into()).collect(),
                bearer: None,
            });
            by_prefix.entry(prefix(&key.sha256)).or_default().push((key.sha256, caller));
        }
        Self { by_prefix }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// Whose key this is. The digests are compared in constant time.
    pub(super) fn find(&self, key: &str) -> Option<&Caller> {
        let found = digest(&SHA256, key.as_bytes());
        let candidates = self.by_prefix.get(&prefix(found.as_ref()))?;
        candidates.iter().find(|(known, _)| verify_slices_are_equal(known, found.as_ref()).is_ok()).map(|(_, caller)| caller)
    }
}

fn prefix(digest: &[u8]) -> u64 {
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
