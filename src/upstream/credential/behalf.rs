//! On whose behalf an upstream of one principal's own is used.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::auth::Caller;

/// The principal as it was last seen. What is not part of a call, such as a look at the lists, is done with the token that it
/// brought last; a call carries the token that came with it.
#[derive(Debug)]
pub struct Behalf {
    latest: ArcSwap<Caller>,
}

impl Behalf {
    pub fn of(caller: Caller) -> Self {
        Self { latest: ArcSwap::from_pointee(caller) }
    }

    /// Notes the caller; whether it brings another token than before.
    pub fn saw(&self, caller: &Caller) -> bool {
        let latest = self.latest.load();
        let has_another = latest.bearer() != caller.bearer();
        if has_another || latest.groups() != caller.groups() {
            self.latest.store(Arc::new(caller.clone()));
        }
        has_another
    }

    pub fn latest(&self) -> Arc<Caller> {
        self.latest.load_full()
    }
}
