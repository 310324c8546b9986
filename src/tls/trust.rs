//! Which certificates vouch for a server.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, Der, TrustAnchor},
};

use super::{
    files,
    inspect::{CertificateFacts, Validity, shown_date},
    load::{Reading, unusable},
};
use crate::reason::{Explanation, Reason};

/// The system's trust anchors, loaded by the caller.
#[derive(Clone, Debug)]
pub struct SystemCas {
    anchors: Arc<RootCertStore>,
    errors: Vec<String>,
    origin: String,
}

impl SystemCas {
    /// `origin` says where they come from, in words; `errors` what could not be loaded there.
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>, errors: Vec<String>, origin: impl Into<String>) -> Self {
        let mut anchors = RootCertStore::empty();
        // A distribution's bundle may hold what webpki cannot read; others still vouch.
        anchors.add_parsable_certificates(certificates);
        Self { anchors: Arc::new(anchors), errors, origin: origin.into() }
    }

    pub(super) fn anchors(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.anchors)
    }

    pub fn count(&self) -> usize {
        self.anchors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Who vouches for the server of one upstream.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// Certificates of CAs only: who holds the key of a server in the file vouches for nobody else.
    pub(super) anchors: Arc<RootCertStore>,
    /// The certificates of `root_ca_cert_path`, for the leaf that is itself in that file.
    pub(super) exact: Arc<[CertificateDer<'static>]>,
    /// For the start-up line: `private CA (company-ca.pem)`.
    pub(super) words: String,
    /// The organizations of the anchors in the file, to tell an incomplete chain from an unknown CA.
    pub(super) organizations: Vec<String>,
    /// The system's CAs are among the anchors.
    pub(super) has_system_cas: bool,
}

impl Trust {
    /// The system's CAs alone.
    pub(super) fn system(system: &SystemCas) -> Result<Self, Explanation> {
        refuse_without(system)?;
        let words = format!("system CAs ({})", system.count());
        Ok(Self { anchors: Arc::clone(&system.anchors), exact: Arc::new([]), words, organizations: Vec::new(), has_system_cas: true })
    }

    /// The CAs of a file, which replace the system's unless those are given as well.
    pub(super) fn file(path: &Path, system: Option<&SystemCas>, reading: &mut Reading<'_>) -> Result<Self, Explanation> {
        let bytes = reading.read(path, "root_ca_cert_path")?;
        let bundle = files::certificates(&bytes).map_err(|e| unusable(path, "root_ca_cert_path", e))?;
        if bundle.holds_key {
            reading.warn(format!(
                "root_ca_cert_path {}: the file holds a private key; a CA's key does not belong on this machine",
                path.display()
            ));
        }
        let mut anchors = match system {
            Some(system) => {
                refuse_without(system)?;
                RootCertStore::clone(&system.anchors)
            }
            None => RootCertStore::empty(),
        };
        let mut organizations = Vec::new();
        for (index, certificate) in bundle.certificates.iter().enumerate() {
            let facts = CertificateFacts::read(certificate);
            // A version 1 certificate cannot say whether it is a CA's.
            if facts.as_ref().is_some_and(|facts| !facts.is_ca && !facts.old_version) {
                warn_about(path, facts.as_ref(), reading);
                continue;
            }
            anchors.add(certificate.clone()).map_err(|_| {
                let what = format!("certificate {} cannot be a trust anchor", index + 1);
                unusable(path, "root_ca_cert_path", files::Unusable::new(what, "remove it, or replace it by the CA's certificate"))
            })?;
            warn_about(path, facts.as_ref(), reading);
            organizations.extend(facts.and_then(|facts| facts.organization));
        }
        let file = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        let words = match system {
            Some(system) => format!("private CA ({file}) and system CAs ({})", system.count()),
            None => format!("private CA ({file})"),
        };
        Ok(Self { anchors: Arc::new(anchors), exact: bundle.certificates.into(), words, organizations, has_system_cas: system.is_some() })
    }

    /// The anchors; where the file holds servers' own certificates alone, one that can have issued nothing, because the
    /// verification wants one.
    pub(super) fn anchors_or_nobody(&self) -> Arc<RootCertStore> {
        if !self.anchors.is_empty() {
            return Arc::clone(&self.anchors);
        }
        // Neither is DER: no issuer has this name, and no signature fits this key.
        let nobody =
            TrustAnchor { subject: Der::from_slice(&[0xff]), subject_public_key_info: Der::from_slice(&[0xff]), name_constraints: None };
        Arc::new(RootCertStore { roots: vec![nobody] })
    }

    /// Nobody: for `verify_certs = false`, which asks nobody.
    pub(super) fn nobody() -> Self {
        Self {
            anchors: Arc::new(RootCertStore::empty()),
            exact: Arc::new([]),
            words: "verification OFF".to_owned(),
            organizations: Vec::new(),
            has_system_cas: false,
        }
    }
}

/// A container image from scratch has no CAs: say so instead of failing every handshake.
fn refuse_without(system: &SystemCas) -> Result<(), Explanation> {
    if !system.is_empty() {
        return Ok(());
    }
    let errors = if system.errors.is_empty() { String::new() } else { format!(" ({})", system.errors.join("; ")) };
    Err(Explanation::new(
        Reason::LocalMissing,
        format!("no system CA certificates were found in {}{errors}", system.origin),
        "install the ca-certificates package, set SSL_CERT_FILE, or set root_ca_cert_path",
    ))
}

/// An anchor is only name and key to the verification, so what it cannot see is said here.
fn warn_about(path: &Path, facts: Option<&CertificateFacts>, reading: &mut Reading<'_>) {
    let Some(facts) = facts else { return };
    let file = path.display();
    let is_ca = facts.is_ca || facts.old_version;
    match facts.validity_at(reading.now) {
        Validity::Valid => {}
        Validity::Expired if is_ca => reading.warn(format!(
            "root_ca_cert_path {file}: the CA {} expired on {}; it still vouches",
            facts.subject,
            shown_date(facts.not_after)
        )),
        Validity::Expired => reading.warn(format!(
            "root_ca_cert_path {file}: the server's certificate {} expired on {}; it is not accepted any more, replace it",
            facts.subject,
            shown_date(facts.not_after)
        )),
        Validity::NotYet => {
            let what = if is_ca { "the CA" } else { "the server's certificate" };
            let from = shown_date(facts.not_before);
            reading.warn(format!("root_ca_cert_path {file}: {what} {} is valid only from {from}", facts.subject));
        }
    }
}
