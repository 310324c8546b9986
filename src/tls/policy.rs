//! The checked TLS policy of one upstream, and the client configurations made from it.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, NoKeyLog, RootCertStore, SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    CertificateFacts, MinVersion, danger,
    identity::Identity,
    observed::{Observed, RecordingResolver},
    trust::Trust,
    verifier::{Recording, Strict},
};
use crate::reason::{Explanation, Reason};

/// Sessions that one configuration remembers; it talks to one server, so a few are plenty.
const RESUMABLE_SESSIONS: usize = 64;

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// How much of a server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verification {
    Full,
    /// Chain, but not the name.
    AnyName,
    /// Neither; only that the server holds the key of its certificate.
    Off,
}

/// How one upstream's server is trusted and what we show it. All files are read; nothing is shared with another upstream.
#[derive(Clone)]
pub struct TlsPolicy {
    name: ServerName<'static>,
    name_is_overridden: bool,
    pub(super) verification: Verification,
    pub(super) trust: Trust,
    pub(super) identity: Option<Identity>,
    min_version: MinVersion,
    warnings: Vec<String>,
}

impl TlsPolicy {
    pub(super) fn new(
        name: ServerName<'static>,
        name_is_overridden: bool,
        verification: Verification,
        trust: Trust,
        identity: Option<Identity>,
        min_version: MinVersion,
        warnings: Vec<String>,
    ) -> Self {
        Self { name, name_is_overridden, verification, trust, identity, min_version, warnings }
    }

    /// A fresh configuration with its own session store, resolver and verifier, and what its handshakes will show.
    ///
    /// # Errors
    /// `local_invalid` where the cryptography refuses what was loaded.
    pub fn client_config(&self) -> Result<(ClientConfig, Arc<Observed>), Explanation> {
        let provider = provider();
        let observed = Arc::new(Observed::default());
        let verifier = Recording { inner: self.verifier(&provider)?, name: self.name.clone(), observed: Arc::clone(&observed) };
        let resolver = RecordingResolver { identity: self.identity.as_ref().map(|i| Arc::clone(&i.key)), observed: Arc::clone(&observed) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions())
            .map_err(|e| unbuildable(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
        config.enable_early_data = false;
        config.enable_sni = matches!(self.name, ServerName::DnsName(_));
        config.key_log = Arc::new(NoKeyLog {});
        Ok((config, observed))
    }

    /// A configuration that accepts no server at all, for clients that speak plain HTTP only.
    ///
    /// # Errors
    /// `local_invalid` where the cryptography does not start.
    pub fn trusting_nobody() -> Result<ClientConfig, Explanation> {
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|e| unbuildable(&e))?;
        Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    /// The policy in words, for the start-up line: `private CA (company-ca.pem), client certificate CN=nexus`.
    pub fn words(&self) -> String {
        let mut words = vec![self.trust.words.clone()];
        if self.verification == Verification::AnyName {
            words.push("name not verified".to_owned());
        }
        if self.name_is_overridden {
            words.push(format!("name {}", self.name.to_str()));
        }
        if let Some(identity) = &self.identity {
            words.push(format!("client certificate {}", identity.leaf.subject));
        }
        if self.min_version == MinVersion::Tls13 {
            words.push("TLS 1.3 only".to_owned());
        }
        words.join(", ")
    }

    /// What only the files show, for the operator at every start: nothing of it stops the upstream. Weakened checks are
    /// told by [`Self::words`] and [`Self::is_unverified`], and warned about when the configuration is read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Neither the chain nor the name is certain.
    pub fn is_unverified(&self) -> bool {
        self.verification != Verification::Full
    }

    /// The name that the certificate must carry; as a DNS name it is also the SNI.
    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The name comes from `server_name`, not from the URL.
    pub fn name_is_overridden(&self) -> bool {
        self.name_is_overridden
    }

    pub fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// Our client certificate and what is sent with it, leaf first; empty without one.
    pub fn identity_facts(&self) -> Vec<CertificateFacts> {
        self.identity.iter().flat_map(|identity| &identity.key.cert).filter_map(CertificateFacts::read).collect()
    }

    /// The certificates of `root_ca_cert_path`; empty where the system's CAs vouch alone.
    pub fn anchor_facts(&self) -> Vec<CertificateFacts> {
        self.trust.exact.iter().filter_map(CertificateFacts::read).collect()
    }

    pub(super) fn identity_subject(&self) -> Option<&str> {
        self.identity.as_ref().map(|i| i.leaf.subject.as_str())
    }

    pub(super) fn trusts_organization(&self, organization: &str) -> bool {
        self.trust.organizations.iter().any(|o| o == organization)
    }

    /// A trusted CA has the name of this certificate's issuer, though perhaps another key.
    pub(super) fn trusts_name_of_issuer(&self, certificate: &CertificateFacts) -> bool {
        self.trust.anchors.roots.iter().any(|anchor| certificate.is_issued_in_the_name_of(&anchor.subject))
    }

    /// What the verification makes of a chain, without a handshake.
    pub(super) fn verify_offline(&self, chain: &[CertificateDer<'static>], now: Duration) -> Observed {
        let observed = Arc::new(Observed::default());
        if let Some((leaf, intermediates)) = chain.split_first()
            && let Ok(inner) = self.verifier(&provider())
        {
            let verifier = Recording { inner, name: self.name.clone(), observed: Arc::clone(&observed) };
            // What came of it is noted.
            let _ = verifier.verify_server_cert(leaf, intermediates, &self.name, &[], UnixTime::since_unix_epoch(now));
        }
        Arc::into_inner(observed).expect("the verifier that shared it is gone")
    }

    pub(super) fn trust_words(&self) -> &str {
        &self.trust.words
    }

    pub(super) fn min_version(&self) -> MinVersion {
        self.min_version
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Explanation> {
        if self.verification == Verification::Off {
            return Ok(Arc::new(danger::AnyCertificate { algorithms: provider.signature_verification_algorithms }));
        }
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.trust.anchors), Arc::clone(provider)).build().map_err(|e| {
                Explanation::new(Reason::LocalInvalid, format!("the trusted CAs cannot be used: {e}"), "check root_ca_cert_path")
            })?;
        let strict: Arc<dyn ServerCertVerifier> = Arc::new(Strict { inner, exact: Arc::clone(&self.trust.exact) });
        Ok(match self.verification {
            Verification::AnyName => Arc::new(danger::AnyName { strict }),
            Verification::Full | Verification::Off => strict,
        })
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.min_version {
            MinVersion::Tls12 => rustls::ALL_VERSIONS,
            MinVersion::Tls13 => TLS13_ONLY,
        }
    }
}

/// Shows no key and no certificate.
impl fmt::Debug for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPolicy").field("name", &self.name).field("words", &self.words()).finish_non_exhaustive()
    }
}

/// The cryptography of every connection, passed explicitly: there is no process-wide default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn unbuildable(error: &rustls::Error) -> Explanation {
    Explanation::new(
        Reason::LocalInvalid,
        format!("the TLS configuration cannot be built: {error}"),
        "check min_version and the client identity",
    )
}
