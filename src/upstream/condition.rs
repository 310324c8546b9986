//! How an upstream's condition is found: what the supervisor knows, what the watch suspects, and what is to be looked at.

use std::sync::atomic::Ordering;

use super::{Concern, CredentialConfig, EndpointConfig, State, Upstream, read};
use crate::reason::{Explanation, Reason};

impl Upstream {
    /// Notes, or forgets, something to look at; a serving upstream is then degraded, or not any more.
    /// Whether that is new.
    pub(crate) fn concern(&self, about: Concern, explanation: Option<&Explanation>) -> bool {
        {
            let mut concerns = self.concerns.lock();
            let before = match explanation {
                Some(explanation) => concerns.insert(about, explanation.clone()),
                None => concerns.remove(&about),
            };
            if before.as_ref() == explanation {
                return false;
            }
        }
        self.look_again();
        true
    }

    pub(crate) fn has_concern(&self, about: Concern) -> bool {
        self.concerns.lock().contains_key(&about)
    }

    /// Notes why the last checks failed, or that they passed; a serving upstream is then suspect, or not any more.
    pub(crate) fn suspect(&self, explanation: Option<&Explanation>) {
        {
            let mut suspicion = self.suspicion.lock();
            if suspicion.as_ref() == explanation {
                return;
            }
            *suspicion = explanation.cloned();
        }
        self.look_again();
    }

    /// It serves; when the last checks failed, it is suspect; with something to look at, it is degraded.
    pub(crate) fn now_up(&self, policy: Option<String>) {
        self.was_up.store(true, Ordering::Relaxed);
        self.now_as(|_| Some(self.serving()), policy);
    }

    pub(crate) fn now_in(&self, state: State, policy: Option<String>) {
        self.now_as(|_| Some(state), policy);
    }

    /// What was noted changes nothing of whether it serves.
    fn look_again(&self) {
        self.now_as(|state| state.serves().then(|| self.serving()), None);
    }

    fn serving(&self) -> State {
        if let Some(why) = self.suspicion.lock().clone() {
            return State::Suspect(why);
        }
        self.concerns.lock().first_key_value().map_or(State::Up, |(_, why)| State::Degraded(why.clone()))
    }

    /// The next state is found while nobody else can set one: whoever notes something at the same time finds its own again.
    fn now_as(&self, next: impl FnOnce(&State) -> Option<State>, policy: Option<String>) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let Some(state) = next(&status.state) else { return false };
            let tried = state != State::Starting;
            let same = status.state == state && status.tried == tried && policy.as_ref().is_none_or(|policy| *policy == status.policy);
            if status.state.word() != state.word() || status.state.explanation().map(|e| e.reason) != state.explanation().map(|e| e.reason)
            {
                status.since = now;
            }
            status.state = state;
            status.tried = tried;
            if let Some(policy) = policy {
                status.policy = policy;
            }
            !same
        });
        self.changed.notify_one();
    }
}

/// A static credential is allowed over an unverified connection, and never passed over in silence.
pub(super) fn insecure_credential(upstream: &Upstream) -> Option<Explanation> {
    let config = upstream.config();
    let EndpointConfig::Http(http) = &config.endpoint else { return None };
    let (what, remedy) = read::unsafe_leg(http)?;
    let sent = match (&http.credential, read::secret_header(&http.headers)) {
        (CredentialConfig::None, None) => return None,
        (CredentialConfig::None, Some(header)) => format!("its header {header}"),
        _ => "its credential".to_owned(),
    };
    Some(Explanation::new(Reason::InsecureCredential, format!("{sent} is sent {what}"), remedy))
}
