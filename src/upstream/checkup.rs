//! What the watch does with an upstream: asks it whether it is there, and says what came of that.

use super::{
    Concern, EndpointConfig, Session, State, Upstream, UpstreamError, generation::Transport, load_policy::look_at_policy, own::own_meta,
};
use crate::{
    mcp::{Era, Id, Method, build},
    reason::Explanation,
    tls::TlsPolicy,
};

impl Upstream {
    /// Asks the server for a sign of life, over the connection and in the session that the gateway itself uses: `ping` in the
    /// legacy era, `server/discover` in the modern. Any answer will do. A process that is at work is not asked: many do one
    /// thing after another, and calls have time-outs of their own.
    ///
    /// # Errors
    /// [`UpstreamError`]; `Down` without asking.
    pub async fn knock(&self) -> Result<(), UpstreamError> {
        // Without a caller there is nothing to ask it with.
        if self.awaits_callers() {
            return Ok(());
        }
        let generation = self.generation()?;
        if generation.own_session.as_ref().is_some_and(|session| session.is_process() && !session.is_idle()) {
            return Ok(());
        }
        // It said itself that it is there, and wants to be left alone.
        if self.busy.left().is_some() {
            return Ok(());
        }
        let id = generation.own_id();
        let session = generation.own_session.as_ref();
        let asked = match generation.era() {
            Era::Legacy => generation.ask(session, Method::Ping, id, build::ping(&Id::from_u64(id))).await,
            Era::Modern => generation.ask(session, Method::Discover, id, build::discover(&Id::from_u64(id), &own_meta())).await,
        };
        match asked {
            Ok(_) => Ok(()),
            // It is there, and was restarted since; a process that ended is noticed by its supervisor.
            Err(UpstreamError::SessionLost) if session.is_none_or(|session| !Session::is_process(session)) => {
                self.contradicted();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Whom it trusts at the moment: what its calls run under, or, when it is down, what its files say now. `None` without TLS.
    ///
    /// # Errors
    /// A `local_*` reason: its files cannot be used, and it is not contacted.
    pub async fn tls_policy(&self) -> Result<Option<TlsPolicy>, Explanation> {
        let config = self.config();
        let EndpointConfig::Http(http) = &config.endpoint else { return Ok(None) };
        let Some(settings) = &http.tls else { return Ok(None) };
        if let Ok(generation) = self.generation()
            && let Transport::Http(transport) = &generation.transport
            && let Some(policy) = transport.policy()
        {
            return Ok(Some(policy.clone()));
        }
        look_at_policy(self, settings, http.url.host_str().unwrap_or_default()).await.map(Some)
    }

    /// The last checks failed, and that is not enough to call it down; `None`: the last one passed.
    pub fn now_suspect(&self, explanation: Option<&Explanation>) {
        self.suspect(explanation);
    }

    /// So many checks failed in a row that it is brought up anew: if that fails too, it is down.
    pub fn given_up(&self) {
        self.recheck.notify_one();
    }

    /// A check passed while it is down: it is tried at once.
    pub fn found_well(&self) {
        if matches!(self.status().borrow().state, State::Starting | State::Down(_)) {
            self.recheck.notify_one();
        }
    }

    /// A certificate that it depends on comes to its end, or not any more.
    pub fn now_expiring(&self, explanation: Option<&Explanation>) {
        self.concern(Concern::Certificate, explanation);
    }
}
