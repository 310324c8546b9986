//! An upstream that only its callers' own tokens reach: what all of them share is its files and what is known of it. Each
//! principal has an upstream of its own beside it.

use std::sync::Arc;

use super::{
    Behalf, Concern, EndpointConfig, State, Surroundings, Upstream, bring_up::trusting, condition::insecure_credential,
    credential::awaits_caller,
};
use crate::{mcp::Era, reason::Explanation};

/// What one principal's own upstream belongs to.
#[derive(Debug)]
pub(super) struct OnBehalf {
    pub(super) of: Arc<Upstream>,
    pub(super) who: Arc<Behalf>,
}

impl Upstream {
    /// One principal's own: sessions, connections and catalog of it are nobody else's.
    pub fn on_behalf(of: &Arc<Self>, who: &Arc<Behalf>, surroundings: Surroundings) -> Self {
        let mut own = Self::new((*of.config()).clone(), surroundings);
        own.traffic = Arc::clone(&of.traffic);
        own.behalf = Some(OnBehalf { of: Arc::clone(of), who: Arc::clone(who) });
        own
    }

    /// Whether it is reached on behalf of callers only, and this is what all of them share.
    pub fn awaits_callers(&self) -> bool {
        self.behalf.is_none() && self.config.load().takes_callers_token()
    }

    /// Whether it is one principal's own.
    pub fn is_personal(&self) -> bool {
        self.behalf.is_some()
    }

    /// Says what is to be known of its files; what all callers share is said once.
    pub(super) fn warn_of(&self, warnings: &[String]) {
        for warning in warnings.iter().filter(|_| !self.is_personal()) {
            tracing::warn!(upstream = %self.name(), "{warning}");
        }
    }

    /// Whose own it is.
    pub(super) fn behalf(&self) -> Option<Arc<Behalf>> {
        self.behalf.as_ref().map(|own| Arc::clone(&own.who))
    }

    /// The era that the first caller found.
    pub(super) fn known_era(&self) -> Option<Era> {
        *self.behalf.as_ref()?.of.era.lock()
    }

    /// A caller has been served: that is how it stands with all of it.
    pub(super) fn tell_served(&self, era: Era) {
        let Some(own) = &self.behalf else { return };
        *own.of.era.lock() = Some(era);
        if !own.of.status.borrow().state.serves() {
            own.of.now_up(None);
        }
    }

    /// A caller could not be served for a reason that has nothing to do with who asks.
    pub(super) fn tell_failed(&self, why: &Explanation) {
        if let Some(own) = &self.behalf
            && super::instance::is_about_reaching(why.reason)
        {
            own.of.now_in(State::Down(why.clone()), None);
        }
    }

    /// Has it tried once more for a caller who has come back, or with another token.
    pub fn try_again(&self) {
        self.now_in(State::Starting, None);
        self.recheck.notify_one();
    }
}

/// Keeps what its callers share: reads its files, says what is wrong with them, and waits.
pub(super) async fn await_callers(upstream: &Arc<Upstream>) {
    loop {
        let config = upstream.config();
        let EndpointConfig::Http(http) = &config.endpoint else { return };
        match trusting(upstream, http).await {
            Ok(trusting) => {
                upstream.warn_of(&trusting.warnings);
                upstream.concern(Concern::Insecure, insecure_credential(upstream).as_ref());
                let suspicion = upstream.suspicion.lock().clone();
                match suspicion {
                    Some(why) => upstream.now_in(State::Down(why), Some(trusting.policy)),
                    None if upstream.status.borrow().state.serves() => upstream.now_up(Some(trusting.policy)),
                    None => upstream.now_in(State::Waiting(awaits_caller()), Some(trusting.policy)),
                }
            }
            Err(why) => upstream.now_in(State::Down(why), None),
        }
        tokio::select! {
            () = upstream.files.changed() => {}
            () = upstream.reconfigured.notified() => {}
            () = upstream.recheck.notified() => {}
        }
    }
}
