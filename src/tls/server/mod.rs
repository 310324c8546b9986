//! TLS of our own listeners: settings, the files they name, and the server configuration made from them.

mod clients;
mod settings;

use std::{sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate, ServerSessionMemoryCache, danger::ClientCertVerifier},
    sign::CertifiedKey,
};

pub use clients::handshake_refusal;
pub(super) use settings::Places;
pub use settings::{ClientCertificates, Demand, ServerIdentityFiles, ServerTlsSettings};

use super::{
    CrlFacts, dev,
    inspect::{CertificateFacts, Validity, shown_date, shown_span},
    key_pair::KeyPair,
    load::Reading,
    policy::provider,
};
use crate::{
    problem::{Problem, Severity},
    reason::{Explanation, Reason},
    sources::Sources,
};
use clients::Clients;

/// TLS sessions that a listener remembers for its TLS 1.2 clients; others carry tickets.
const RESUMABLE_SESSIONS: usize = 1024;

/// Most preferred first. A client that names none is served HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a listener serves with: everything read and checked, nothing shared with another listener or an earlier reading.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    client_verifier: Arc<dyn ClientCertVerifier>,
    leaf: CertificateDer<'static>,
    chain: Vec<CertificateFacts>,
    client_cas: Vec<CertificateFacts>,
    client_lists: Vec<CrlFacts>,
    /// The key that names the certificate's file.
    named_by: &'static str,
    words: String,
    hsts: Option<Duration>,
    warnings: Vec<Problem>,
    places: Places,
    digest: [u8; 32],
}

impl ServerTlsSettings {
    /// Reads and checks every file. `now` is the span since 1970.
    ///
    /// May take seconds where a password is involved: never call it where requests are served.
    ///
    /// # Errors
    /// The first file that cannot be used, with its key, line and remedy.
    pub fn load(&self, sources: &dyn Sources, now: Duration) -> Result<ServerTls, Box<Problem>> {
        let mut reading = Reading::new(sources, now);
        let loaded = self.load_files(&mut reading);
        let mut loaded = loaded.map_err(|Explanation { detail, remedy, reason }| {
            let why = format!("the listener has nothing good to serve with ({reason})");
            Box::new(self.places.problem(Severity::Error, &detail, &why, &in_our_words(remedy)))
        })?;
        loaded.warnings = reading.warnings.iter().map(|warning| self.warning(warning)).collect();
        Ok(loaded)
    }

    fn warning(&self, words: &str) -> Problem {
        let (what, remedy) = words.rsplit_once("; ").unwrap_or((words, "look at the file"));
        let remedy = in_our_words(remedy.to_owned());
        self.places.problem(Severity::Warning, what, "the listener serves all the same", &remedy)
    }

    fn load_files(&self, reading: &mut Reading<'_>) -> Result<ServerTls, Explanation> {
        let provider = provider();
        let files = self.pair_files();
        let pair = KeyPair::read(files, self.key_permissions, &provider, reading)?;
        let chain: Vec<_> = pair.key.cert.iter().filter_map(CertificateFacts::read).collect();
        check_dates(&pair.leaf, &files.certificate(), reading)?;
        warn_about(&chain, &files.certificate(), reading);
        let clients = match &self.clients {
            Some(clients) => Clients::load(clients, &provider, reading)?,
            None => Clients::anyone(),
        };
        let leaf = pair.key.end_entity_cert().map(|leaf| leaf.clone().into_owned()).map_err(|e| unbuildable(&e))?;
        let config = self.config(provider, pair.key, Arc::clone(&clients.verifier))?;
        Ok(ServerTls {
            config: Arc::new(config),
            client_verifier: clients.verifier,
            leaf,
            chain,
            client_cas: clients.cas,
            client_lists: clients.lists,
            named_by: files.certificate_key(),
            words: self.words(),
            hsts: self.hsts,
            warnings: Vec::new(),
            places: self.places.clone(),
            digest: reading.digest(),
        })
    }

    fn config(
        &self,
        provider: Arc<CryptoProvider>,
        certified: Arc<CertifiedKey>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, Explanation> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.min_version.versions())
            .map_err(|e| unbuildable(&e))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Served(certified)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A resumed session skips the client's certificate, and with it every CA and revocation list that changed since.
        if self.clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| unbuildable(&e))?;
        }
        Ok(config)
    }
}

impl ServerTls {
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What is served, leaf first.
    pub fn chain(&self) -> &[CertificateFacts] {
        &self.chain
    }

    /// The certificate itself, for who is to trust it and no other.
    pub fn leaf_der(&self) -> &[u8] {
        &self.leaf
    }

    /// The CAs of client certificates.
    pub fn client_cas(&self) -> &[CertificateFacts] {
        &self.client_cas
    }

    /// The revocation lists for client certificates.
    pub fn client_lists(&self) -> &[CrlFacts] {
        &self.client_lists
    }

    /// Judges a client's chain, leaf first, at a time since 1970, as a handshake would; only the proof of the key is missing.
    ///
    /// # Errors
    /// Why it is refused. A listener that asks for no client certificate accepts none.
    pub fn verify_client(&self, chain: &[CertificateDer<'_>], now: Duration) -> Result<(), rustls::Error> {
        if !self.client_verifier.offer_client_auth() {
            return Err(rustls::Error::General("clients are not asked for a certificate".to_owned()));
        }
        let (leaf, intermediates) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        self.client_verifier.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(now)).map(|_| ())
    }

    /// Whether this reading may take the place of an earlier one: nobody may bring a revoked client back with an old list.
    ///
    /// # Errors
    /// Names the list that is older than the one in use.
    pub fn may_follow(&self, earlier: &Self) -> Result<(), Box<Problem>> {
        let Some(words) = clients::older_list(&earlier.client_lists, &self.client_lists) else { return Ok(()) };
        let why = "a client whose certificate was revoked since would get in again";
        Err(Box::new(self.places.problem(Severity::Error, &words, why, "fetch the newest list from the CA, or restart to use the old one")))
    }

    /// The policy in words, for the start-up line.
    pub fn words(&self) -> &str {
        &self.words
    }

    pub fn hsts(&self) -> Option<Duration> {
        self.hsts
    }

    /// What only the files show, for the operator at every start and reload.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Whether another reading found the same bytes everywhere.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// A warning when clients that call the listener `host` will refuse its certificate.
    pub fn check_name(&self, host: &str) -> Option<Problem> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare).ok()?;
        let leaf = ParsedCertificate::try_from(&self.leaf).ok()?;
        if verify_server_name(&leaf, &name).is_ok() {
            return None;
        }
        let names = self.chain.first().and_then(CertificateFacts::shown_names).unwrap_or_else(|| "no name at all".to_owned());
        let host = super::shown(host);
        Some(self.places.problem_at(
            self.named_by,
            Severity::Warning,
            &format!("the certificate is for {names}, and not for \"{host}\", the host of public_url"),
            "every client that verifies names refuses to connect",
            &format!("have the certificate issued anew with the subject alternative name {host}, or correct public_url"),
        ))
    }

    /// A warning when others are shown a certificate that anybody with the same development CA trusts.
    pub fn check_exposed(&self) -> Option<Problem> {
        let is_dev = self.chain.first()?.issuer_organization.as_deref() == Some(dev::ORGANIZATION);
        is_dev.then(|| {
            self.places.problem_at(
                self.named_by,
                Severity::Warning,
                "the certificate was made by `nexus certs dev`, and the listener can be reached by others",
                "a development certificate is for this machine; other machines do not trust its CA, and should not",
                "use a certificate of a real CA",
            )
        })
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("words", &self.words).field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// One chain for every client, whatever name it asks for.
struct Served(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Served {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

/// The readers of keys and archives speak of an upstream's settings; these are a listener's.
fn in_our_words(remedy: String) -> String {
    [
        ("client_cert_path and client_key_path", "certificate and key"),
        ("client_cert_path", "certificate"),
        ("client_key_path", "key"),
        ("client_key_password", "key_password"),
        ("client_pkcs12_path, or pkcs12 of a listener", "pkcs12"),
        ("client_pkcs12_password", "pkcs12_password"),
        ("client_pkcs12_alias", "pkcs12_alias"),
    ]
    .iter()
    .fold(remedy, |remedy, (theirs, ours)| remedy.replace(theirs, ours))
}

/// `file` is the key and the path that the certificate comes from.
fn check_dates(leaf: &CertificateFacts, file: &str, reading: &Reading<'_>) -> Result<(), Explanation> {
    let now = i64::try_from(reading.now.as_secs()).unwrap_or(i64::MAX);
    match leaf.validity_at(reading.now) {
        Validity::Valid => Ok(()),
        Validity::Expired => {
            let (ago, date) = (shown_span(leaf.not_after, now), shown_date(leaf.not_after));
            let detail = format!("{file}: {} expired {ago} ago, on {date}", leaf.subject);
            Err(Explanation::new(Reason::LocalExpired, detail, "renew the certificate"))
        }
        Validity::NotYet => {
            let (from, now) = (shown_date(leaf.not_before), shown_date(now));
            let detail = format!("{file}: {} is valid only from {from}; the clock here says {now}", leaf.subject);
            Err(Explanation::new(Reason::LocalExpired, detail, "check this machine's clock, or wait"))
        }
    }
}

/// What clients will dislike.
fn warn_about(chain: &[CertificateFacts], file: &str, reading: &mut Reading<'_>) {
    let Some(leaf) = chain.first() else { return };
    if !leaf.for_servers {
        reading.warn(format!(
            "{file}: {} is not for servers (no serverAuth in its extended key usage), so clients refuse it; \
             have it issued anew for server authentication",
            leaf.subject
        ));
    }
    if leaf.names.is_empty() {
        reading.warn(format!(
            "{file}: {} has no subject alternative name, so clients refuse it under any name; have it issued anew with one",
            leaf.subject
        ));
    }
    if let Some([below, above]) = chain.array_windows().find(|[below, above]| !below.is_issued_by(above)) {
        reading.warn(format!(
            "{file}: the chain is not in order, {} is followed by {}, which did not issue it; \
             put each certificate's issuer right behind it",
            below.subject, above.subject
        ));
    }
}

fn unbuildable(error: &rustls::Error) -> Explanation {
    Explanation::new(
        Reason::LocalInvalid,
        format!("the TLS configuration cannot be built: {error}"),
        "check the certificate, its key and min_version",
    )
}
