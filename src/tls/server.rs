//! TLS of our own listeners: settings, the files they name, and the server configuration made from them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, ParsedCertificate, ServerSessionMemoryCache, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    KeyPermissions, MinVersion, dev, files,
    inspect::{CertificateFacts, Validity, shown_date, shown_span},
    key_file::{self, Verdict},
    load::{Reading, unusable},
    policy::provider,
};
use crate::{
    problem::{At, Problem, Severity},
    reason::{Explanation, Reason},
    sources::Sources,
    table::{Keys, Table},
};

/// TLS sessions that a listener remembers for its TLS 1.2 clients; others carry tickets.
const RESUMABLE_SESSIONS: usize = 1024;

/// Most preferred first. A client that names none is served HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A listener's TLS table after the checks that need no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    pub identity: ServerIdentityFiles,
    /// Absent: clients are not asked for a certificate.
    pub clients: Option<ClientCertificates>,
    pub min_version: MinVersion,
    /// How long browsers shall come back over HTTPS only (RFC 6797); zero makes them forget it.
    pub hsts: Option<Duration>,
    pub key_permissions: KeyPermissions,
    pub(super) places: Places,
}

/// What the listener shows to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentityFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Which client certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    pub ca: PathBuf,
    pub demand: Demand,
}

/// What becomes of a client without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Demand {
    /// It is refused.
    #[default]
    Required,
    /// It is served. A certificate that is shown must still be good.
    Optional,
}

/// Where the table stands in the file, for problems that only its files show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    file: PathBuf,
    table: String,
    lines: Vec<(&'static str, u32)>,
}

impl Places {
    pub(super) fn of(table: &Table, keys: &Keys, file: &Path) -> Self {
        let lines = std::iter::once("").chain(keys.keys.iter().map(|key| key.name)).map(|key| (key, table.line_of(key)));
        Self { file: file.to_owned(), table: table.path().to_owned(), lines: lines.collect() }
    }

    /// `words` begin with the key that they are about, and its file.
    fn problem(&self, severity: Severity, words: &str, why: &str, remedy: &str) -> Problem {
        let begins = |key: &str| words.strip_prefix(key).is_some_and(|rest| !key.is_empty() && rest.starts_with(' '));
        let place = self.lines.iter().find(|(key, _)| begins(key)).or_else(|| self.lines.first());
        let (key, line) = place.copied().unwrap_or_default();
        Problem {
            severity,
            key: if key.is_empty() { self.table.clone() } else { crate::table::join(&self.table, key) },
            at: (line > 0).then(|| At { file: self.file.clone(), line }),
            typed: None,
            what: words.to_owned(),
            why: why.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

/// What a listener serves with: everything read and checked, nothing shared with another listener or an earlier reading.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    chain: Vec<CertificateFacts>,
    client_cas: Vec<CertificateFacts>,
    words: String,
    hsts: Option<Duration>,
    warnings: Vec<Problem>,
    places: Places,
    digest: [u8; 32],
}

impl ServerTlsSettings {
    /// Reads and checks every file. `now` is the span since 1970.
    ///
    /// # Errors
    /// The first file that cannot be used, with its key, line and remedy.
    pub fn load(&self, sources: &dyn Sources, now: Duration) -> Result<ServerTls, Box<Problem>> {
        let mut reading = Reading::new(sources, now);
        let loaded = self.load_files(&mut reading);
        let mut loaded = loaded.map_err(|Explanation { detail, remedy, reason }| {
            let why = format!("the listener has nothing good to serve with ({reason})");
            Box::new(self.places.problem(Severity::Error, &detail, &why, &remedy))
        })?;
        loaded.warnings = reading.warnings.iter().map(|warning| self.warning(warning)).collect();
        Ok(loaded)
    }

    /// Every file that is read, for whoever watches them.
    pub fn paths(&self) -> Vec<&Path> {
        let clients = self.clients.iter().map(|clients| clients.ca.as_path());
        [self.identity.certificate.as_path(), self.identity.key.as_path()].into_iter().chain(clients).collect()
    }

    /// Whether every client must show a certificate.
    pub fn requires_client_certificates(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.demand == Demand::Required)
    }

    fn warning(&self, words: &str) -> Problem {
        let (what, remedy) = words.rsplit_once("; ").unwrap_or((words, "look at the file"));
        self.places.problem(Severity::Warning, what, "the listener serves all the same", remedy)
    }

    fn load_files(&self, reading: &mut Reading<'_>) -> Result<ServerTls, Explanation> {
        let provider = provider();
        let (certified, chain) = self.load_identity(&provider, reading)?;
        let (verifier, client_cas) = match &self.clients {
            Some(clients) => load_clients(clients, &provider, reading)?,
            None => (WebPkiClientVerifier::no_client_auth(), Vec::new()),
        };
        let leaf = certified.end_entity_cert().map(|leaf| leaf.clone().into_owned()).map_err(|e| unbuildable(&e))?;
        let config = self.config(provider, certified, verifier)?;
        Ok(ServerTls {
            config: Arc::new(config),
            leaf,
            chain,
            client_cas,
            words: self.words(),
            hsts: self.hsts,
            warnings: Vec::new(),
            places: self.places.clone(),
            digest: reading.digest(),
        })
    }

    fn load_identity(
        &self,
        provider: &CryptoProvider,
        reading: &mut Reading<'_>,
    ) -> Result<(CertifiedKey, Vec<CertificateFacts>), Explanation> {
        let ServerIdentityFiles { certificate, key } = &self.identity;
        let bytes = reading.read(certificate, "certificate")?;
        let bundle = files::certificates(&bytes).map_err(|e| unusable(certificate, "certificate", e))?;
        if bundle.holds_key && certificate != key {
            reading.warn(format!(
                "certificate {}: the file holds a private key as well; keep the key in a file of its own, for its owner only",
                certificate.display()
            ));
        }
        let chain: Vec<_> = bundle.certificates.iter().filter_map(CertificateFacts::read).collect();
        check_chain(&chain, certificate, reading)?;

        let (bytes, facts) = reading.read_with_facts(key, "key")?;
        match key_file::judge(&facts, self.key_permissions) {
            Verdict::Private => {}
            Verdict::Warn { what, remedy } => reading.warn(format!("key {}: {what}; {remedy}", key.display())),
            Verdict::Refuse { what, remedy } => {
                return Err(Explanation::new(Reason::LocalPermissions, format!("key {}: {what}", key.display()), remedy));
            }
        }
        let private = files::private_key(&bytes).map_err(|mut e| {
            // The reader of keys speaks of an upstream's setting.
            e.remedy = e.remedy.replace("client_key_path", "key");
            unusable(key, "key", e)
        })?;
        let certified = CertifiedKey::from_der(bundle.certificates, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Explanation::new(
                Reason::LocalKeyMismatch,
                format!("key {}: it does not belong to the first certificate in {}", key.display(), certificate.display()),
                "name the key that the certificate was made with; in a chain the server's own certificate comes first",
            ),
            _ => Explanation::new(
                Reason::LocalInvalid,
                format!("key {}: it is of a kind or size that cannot be used", key.display()),
                "use an RSA key of 2048 bits or more, an ECDSA key on P-256, P-384 or P-521, or Ed25519",
            ),
        })?;
        Ok((certified, chain))
    }

    fn config(
        &self,
        provider: Arc<CryptoProvider>,
        certified: CertifiedKey,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<ServerConfig, Explanation> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.min_version.versions())
            .map_err(|e| unbuildable(&e))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
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

    /// For the start-up line: `TLS 1.2 or newer, client certificates required (clients-ca.pem)`.
    fn words(&self) -> String {
        let versions = match self.min_version {
            MinVersion::Tls12 => "TLS 1.2 or newer",
            MinVersion::Tls13 => "TLS 1.3 only",
        };
        let Some(clients) = &self.clients else { return versions.to_owned() };
        let demand = match clients.demand {
            Demand::Required => "required",
            Demand::Optional => "optional",
        };
        let file = clients.ca.file_name().map_or_else(|| clients.ca.display().to_string(), |name| name.to_string_lossy().into_owned());
        format!("{versions}, client certificates {demand} ({file})")
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

    /// The CAs of client certificates.
    pub fn client_cas(&self) -> &[CertificateFacts] {
        &self.client_cas
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
        Some(self.places.problem(
            Severity::Warning,
            &format!("certificate is for {names}, and not for \"{host}\", the host of public_url"),
            "every client that verifies names refuses to connect",
            &format!("have the certificate issued anew with the subject alternative name {host}, or correct public_url"),
        ))
    }

    /// A warning when others are shown a certificate that anybody with the same development CA trusts.
    pub fn check_exposed(&self) -> Option<Problem> {
        let is_dev = self.chain.first()?.issuer_organization.as_deref() == Some(dev::ORGANIZATION);
        is_dev.then(|| {
            self.places.problem(
                Severity::Warning,
                "certificate was made by `nexus certs dev`, and the listener can be reached by others",
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

/// The leaf's dates and use, and the order of what follows it.
fn check_chain(chain: &[CertificateFacts], file: &Path, reading: &mut Reading<'_>) -> Result<(), Explanation> {
    let shown = file.display();
    let Some(leaf) = chain.first() else {
        let what = "its first certificate cannot be read".to_owned();
        return Err(unusable(file, "certificate", files::Unusable { what, remedy: "put the server's own certificate first".to_owned() }));
    };
    let now = i64::try_from(reading.now.as_secs()).unwrap_or(i64::MAX);
    match leaf.validity_at(reading.now) {
        Validity::Valid => {}
        Validity::Expired => {
            let (ago, date) = (shown_span(leaf.not_after, now), shown_date(leaf.not_after));
            let detail = format!("certificate {shown}: {} expired {ago} ago, on {date}", leaf.subject);
            return Err(Explanation::new(Reason::LocalExpired, detail, "renew the certificate"));
        }
        Validity::NotYet => {
            let (from, now) = (shown_date(leaf.not_before), shown_date(now));
            let detail = format!("certificate {shown}: {} is valid only from {from}; the clock here says {now}", leaf.subject);
            return Err(Explanation::new(Reason::LocalExpired, detail, "check this machine's clock, or wait"));
        }
    }
    if !leaf.for_servers {
        reading.warn(format!(
            "certificate {shown}: {} is not for servers (no serverAuth in its extended key usage), so clients refuse it; \
             have it issued anew for server authentication",
            leaf.subject
        ));
    }
    if leaf.names.is_empty() {
        reading.warn(format!(
            "certificate {shown}: {} has no subject alternative name, so clients refuse it under any name; have it issued anew with one",
            leaf.subject
        ));
    }
    if let Some([below, above]) = chain.array_windows().find(|[below, above]| !below.is_issued_by(above)) {
        reading.warn(format!(
            "certificate {shown}: the chain is not in order, {} is followed by {}, which did not issue it; \
             put each certificate's issuer right behind it",
            below.subject, above.subject
        ));
    }
    Ok(())
}

fn load_clients(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
    reading: &mut Reading<'_>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<CertificateFacts>), Explanation> {
    let file = &clients.ca;
    let bytes = reading.read(file, "client_ca")?;
    let bundle = files::certificates(&bytes).map_err(|e| unusable(file, "client_ca", e))?;
    if bundle.holds_key {
        reading.warn(format!(
            "client_ca {}: the file holds a private key, with which anyone could make client certificates; \
             keep the CA's key away from this machine",
            file.display()
        ));
    }
    let mut anchors = RootCertStore::empty();
    for (index, certificate) in bundle.certificates.iter().enumerate() {
        anchors.add(certificate.clone()).map_err(|_| {
            let what = format!("certificate {} cannot be a trust anchor", index + 1);
            unusable(file, "client_ca", files::Unusable { what, remedy: "remove it, or replace it by the CA's certificate".to_owned() })
        })?;
    }
    let cas: Vec<_> = bundle.certificates.iter().filter_map(CertificateFacts::read).collect();
    for ca in &cas {
        if ca.validity_at(reading.now) != Validity::Valid {
            let (from, until) = (shown_date(ca.not_before), shown_date(ca.not_after));
            reading.warn(format!(
                "client_ca {}: the CA {} is valid from {from} to {until} only, and still vouches for clients; \
                 remove it if it shall not",
                file.display(),
                ca.subject
            ));
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider));
    let builder = match clients.demand {
        Demand::Required => builder,
        Demand::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| {
        let detail = format!("client_ca {}: the CAs cannot be used: {error}", file.display());
        Explanation::new(Reason::LocalInvalid, detail, "give the certificates of the CAs that issue client certificates")
    })?;
    Ok((verifier, cas))
}

fn unbuildable(error: &rustls::Error) -> Explanation {
    Explanation::new(
        Reason::LocalInvalid,
        format!("the TLS configuration cannot be built: {error}"),
        "check the certificate, its key and min_version",
    )
}

/// Why a client's certificate was refused, in words; `None` for any other failure of a handshake.
pub fn handshake_refusal(error: &std::io::Error) -> Option<String> {
    use rustls::{CertificateError as Bad, Error};
    let words = match super::find_in_chain::<Error>(error)? {
        Error::NoCertificatesPresented => "it showed no client certificate".to_owned(),
        Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "its client certificate has expired".to_owned(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "its client certificate is not valid yet".to_owned(),
            Bad::Revoked => "its client certificate was revoked".to_owned(),
            Bad::UnknownIssuer => "its client certificate comes from no CA in client_ca".to_owned(),
            Bad::BadSignature => "its client certificate was not signed by the CA in client_ca that it names".to_owned(),
            Bad::UnknownRevocationStatus => "no revocation list in client_crl_paths covers its client certificate".to_owned(),
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => "its certificate is not for clients".to_owned(),
            _ => "its client certificate cannot be verified".to_owned(),
        },
        _ => return None,
    };
    Some(words)
}
