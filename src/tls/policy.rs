//! The checked TLS policy of one upstream, and the client configurations made from it.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, KeyLog, NoKeyLog, RootCertStore, SupportedProtocolVersion,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::kx_group},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    CertificateFacts, CrlFacts, ExpectedSan, Handshake, MinVersion, PostQuantum, SpkiPin, danger,
    identity::Identity,
    inspect::{shown, shown_date},
    key_log::NssKeyLog,
    observed::{Observed, RecordingResolver},
    resumption::Lapsing,
    revocation::Revocation,
    trust::Trust,
    verifier::{Recording, Strict, expected::ExpectedNames, pins::Pinned},
};
use crate::{
    clock::SystemClock,
    reason::{Explanation, Reason},
};

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
    pub(super) name: ServerName<'static>,
    pub(super) name_is_overridden: bool,
    /// Checked instead of `name`, unless empty.
    pub(super) expected_sans: Arc<[ExpectedSan]>,
    pub(super) verification: Verification,
    pub(super) trust: Trust,
    /// What servers forget to send; trusted by nobody.
    pub(super) intermediates: Arc<[CertificateDer<'static>]>,
    pub(super) pins: Arc<[SpkiPin]>,
    pub(super) revocation: Revocation,
    /// `accept_expired_until`, as long as it lies ahead at load.
    pub(super) excused_until: Option<Duration>,
    pub(super) identity: Option<Identity>,
    pub(super) min_version: MinVersion,
    pub(super) post_quantum: PostQuantum,
    /// Where keys are written, and the file's name for the words.
    pub(super) key_log: Option<(Arc<NssKeyLog>, String)>,
    pub(super) warnings: Vec<String>,
}

impl TlsPolicy {
    /// A fresh configuration with its own session store, resolver and verifier, and what its handshakes will show.
    ///
    /// # Errors
    /// `local_invalid` where the cryptography refuses what was loaded.
    pub fn client_config(&self) -> Result<(ClientConfig, Arc<Observed>), Explanation> {
        let provider = provider_with(self.post_quantum);
        let observed = Arc::new(Observed::default());
        let verifier = Recording {
            inner: self.verifier(&provider)?,
            name: self.name.clone(),
            revocation: self.revocation.clone(),
            observed: Arc::clone(&observed),
        };
        let resolver = RecordingResolver { identity: self.identity.as_ref().map(|i| Arc::clone(&i.key)), observed: Arc::clone(&observed) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.min_version.versions())
            .map_err(|e| unbuildable(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match self.excused_until {
            None => Resumption::store(Arc::new(Lapsing::new(Arc::clone(&observed), Arc::new(SystemClock)))),
            // A resumed session is not verified again, so that it would outlive the excuse.
            Some(_) => Resumption::disabled(),
        };
        config.enable_early_data = false;
        config.enable_sni = matches!(self.name, ServerName::DnsName(_));
        config.key_log = match &self.key_log {
            Some((log, _)) => Arc::clone(log) as Arc<dyn KeyLog>,
            None => Arc::new(NoKeyLog {}),
        };
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
        if !self.expected_sans.is_empty() {
            let names: Vec<_> = self.expected_sans.iter().map(ToString::to_string).collect();
            words.push(format!("expects {}", names.join(" or ")));
        }
        match self.pins.len() {
            0 => {}
            1 => words.push("1 pinned key".to_owned()),
            n => words.push(format!("{n} pinned keys")),
        }
        words.extend(self.revocation.words());
        if let Some(until) = self.excused_until {
            words.push(format!("EXPIRED CERTIFICATES ACCEPTED until {}", shown_date(i64::try_from(until.as_secs()).unwrap_or(i64::MAX))));
        }
        if let Some(identity) = &self.identity {
            words.push(format!("client certificate {}", identity.leaf.subject));
        }
        if self.min_version == MinVersion::Tls13 {
            words.push("TLS 1.3 only".to_owned());
        }
        match self.post_quantum {
            PostQuantum::Prefer => words.push("post-quantum key exchange preferred".to_owned()),
            PostQuantum::Offer => {}
            PostQuantum::Off => words.push("no post-quantum key exchange".to_owned()),
        }
        if let Some((_, file)) = &self.key_log {
            words.push(format!("KEYS WRITTEN to {file}"));
        }
        words.join(", ")
    }

    /// What only the files show, for the operator at every start: nothing of it stops the upstream. Weakened checks are
    /// told by [`Self::words`] and [`Self::is_unverified`], and warned about when the configuration is read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Nothing makes certain that it is the right server: chain or name are not verified, and no key is pinned.
    pub fn is_unverified(&self) -> bool {
        self.verification != Verification::Full && self.pins.is_empty()
    }

    /// Until when (since 1970) an end date that has passed is forgiven. From then on new connections are refused again, and
    /// connections that are open must be closed by whoever holds them.
    pub fn excused_until(&self) -> Option<Duration> {
        self.excused_until
    }

    /// The keys of all connections are written to a file.
    pub fn logs_keys(&self) -> bool {
        self.key_log.is_some()
    }

    /// The revocation lists in use, for whoever watches their ends.
    pub fn revocation_lists(&self) -> impl Iterator<Item = &CrlFacts> {
        self.revocation.facts()
    }

    /// Whether this policy may take the place of a running one: nobody may bring a revoked server back with an old list.
    ///
    /// # Errors
    /// `local_invalid`, with the list that is older than the one in use.
    pub fn may_follow(&self, earlier: &Self) -> Result<(), Explanation> {
        self.revocation.may_follow(&earlier.revocation)
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

    /// Verifies a chain, leaf first, at a time since 1970, as a handshake would; only the proof of the key is missing.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_chain(&self, chain: &[CertificateDer<'static>], now: Duration) -> Result<(), Explanation> {
        let observed = self.verify_offline(chain, now);
        match observed.refusal() {
            Some(error) => Err(Handshake { policy: self, observed: &observed, now }.explain(&error)),
            None if observed.chain().is_empty() => Err(Explanation::new(
                Reason::TlsCertVersion,
                "there is no certificate, or none that is small enough to look at",
                "let the server send an ordinary certificate",
            )),
            None => Ok(()),
        }
    }

    /// What the verification makes of a chain, without a handshake.
    pub(super) fn verify_offline(&self, chain: &[CertificateDer<'static>], now: Duration) -> Observed {
        let observed = Arc::new(Observed::default());
        if let Some((leaf, intermediates)) = chain.split_first()
            && let Ok(inner) = self.verifier(&provider())
        {
            let verifier =
                Recording { inner, name: self.name.clone(), revocation: self.revocation.clone(), observed: Arc::clone(&observed) };
            // What came of it is noted.
            let _ = verifier.verify_server_cert(leaf, intermediates, &self.name, &[], UnixTime::since_unix_epoch(now));
        }
        Arc::into_inner(observed).expect("the verifier that shared it is gone")
    }

    /// What the certificate must carry, in words.
    pub(super) fn wanted_names(&self) -> String {
        if self.expected_sans.is_empty() {
            return shown(&self.name.to_str());
        }
        let names: Vec<_> = self.expected_sans.iter().map(|name| shown(&name.to_string())).collect();
        names.join(" or ")
    }

    pub(super) fn expects_other_names(&self) -> bool {
        !self.expected_sans.is_empty()
    }

    pub(super) fn trust_words(&self) -> &str {
        &self.trust.words
    }

    pub(super) fn min_version(&self) -> MinVersion {
        self.min_version
    }

    /// The layers of the verification, innermost first: chain and name, an excused end date, another rule for names, pins.
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Explanation> {
        let mut layers: Arc<dyn ServerCertVerifier> = match self.verification {
            Verification::Off => Arc::new(danger::AnyCertificate { algorithms: provider.signature_verification_algorithms }),
            Verification::Full | Verification::AnyName => self.strict(provider)?,
        };
        if let Some(until) = self.excused_until {
            layers = Arc::new(danger::ExcusedExpiry {
                strict: layers,
                until: UnixTime::since_unix_epoch(until),
                intermediates: Arc::clone(&self.intermediates),
                revocation: self.revocation.clone(),
            });
        }
        if self.verification == Verification::AnyName {
            layers = Arc::new(danger::AnyName { strict: layers });
        }
        if !self.expected_sans.is_empty() {
            layers = Arc::new(ExpectedNames { strict: layers, names: Arc::clone(&self.expected_sans) });
        }
        if !self.pins.is_empty() {
            layers = Arc::new(Pinned { inner: layers, pins: Arc::clone(&self.pins) });
        }
        Ok(layers)
    }

    fn strict(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<Strict>, Explanation> {
        let builder = WebPkiServerVerifier::builder_with_provider(self.trust.anchors_or_nobody(), Arc::clone(provider));
        let inner = self.revocation.apply(builder).build().map_err(|e| {
            Explanation::new(
                Reason::LocalInvalid,
                format!("the trusted CAs or revocation lists cannot be used: {e}"),
                "check root_ca_cert_path and crl_paths",
            )
        })?;
        Ok(Arc::new(Strict {
            inner,
            exact: Arc::clone(&self.trust.exact),
            intermediates: Arc::clone(&self.intermediates),
            revocation: self.revocation.clone(),
        }))
    }
}

impl MinVersion {
    pub(super) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => TLS13_ONLY,
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

fn provider_with(post_quantum: PostQuantum) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let hybrid = kx_group::X25519MLKEM768;
    provider.kx_groups.retain(|group| group.name() != hybrid.name());
    match post_quantum {
        PostQuantum::Prefer => provider.kx_groups.insert(0, hybrid),
        PostQuantum::Offer => provider.kx_groups.push(hybrid),
        PostQuantum::Off => {}
    }
    Arc::new(provider)
}

fn unbuildable(error: &rustls::Error) -> Explanation {
    Explanation::new(
        Reason::LocalInvalid,
        format!("the TLS configuration cannot be built: {error}"),
        "check min_version and the client identity",
    )
}
