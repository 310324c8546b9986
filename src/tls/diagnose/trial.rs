//! Client configurations for handshakes that carry nothing.

use std::sync::Arc;

use rustls::{ClientConfig, client::Resumption};

use crate::{
    reason::Explanation,
    tls::{Observed, TlsPolicy, observed::RecordingResolver},
};

/// What a trial handshake shows the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// No client certificate, whatever the policy has.
    Nothing,
    /// The policy's client certificate. Only for a server that a handshake without one has found good.
    Identity,
}

impl TlsPolicy {
    /// As [`Self::client_config`], without resumption: a resumed handshake shows no certificate.
    ///
    /// # Errors
    /// As there.
    pub fn trial_config(&self, shows: Shows) -> Result<(ClientConfig, Arc<Observed>), Explanation> {
        let (mut config, observed) = self.client_config()?;
        config.resumption = Resumption::disabled();
        if shows == Shows::Nothing {
            config.client_auth_cert_resolver = Arc::new(RecordingResolver { identity: None, observed: Arc::clone(&observed) });
        }
        Ok((config, observed))
    }
}
