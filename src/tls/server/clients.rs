//! Client certificates: the CAs that issue them, the lists that revoke them, and the words for a refusal.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::settings::{ClientCertificates, Demand};
use crate::{
    reason::{Explanation, Reason},
    tls::{
        CertificateFacts, CrlFacts, Validity,
        crl::{self, Crl},
        effort,
        files::{self, Bundle, Unusable},
        find_in_chain,
        load::{Reading, unusable},
        shown_date,
        verifier::forward_signatures,
    },
};

/// What was read for client certificates.
pub(super) struct Clients {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) cas: Vec<CertificateFacts>,
    pub(super) lists: Vec<CrlFacts>,
}

impl Clients {
    /// Clients are not asked for a certificate.
    pub(super) fn anyone() -> Self {
        Self { verifier: WebPkiClientVerifier::no_client_auth(), cas: Vec::new(), lists: Vec::new() }
    }

    pub(super) fn load(
        settings: &ClientCertificates,
        provider: &Arc<CryptoProvider>,
        reading: &mut Reading<'_>,
    ) -> Result<Self, Explanation> {
        let bytes = reading.read(&settings.ca, "client_ca")?;
        let bundle = files::certificates(&bytes).map_err(|e| unusable(&settings.ca, "client_ca", e))?;
        let anchors = anchors(&bundle, &settings.ca)?;
        let cas: Vec<_> = bundle.certificates.iter().filter_map(CertificateFacts::read).collect();
        warn_about(&bundle, &cas, &settings.ca, reading);
        let lists = load_lists(&settings.crls, reading)?;
        let facts = lists.iter().map(|list| list.facts.clone()).collect();
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
            .with_crls(lists.into_iter().map(|list| list.der))
            .only_check_end_entity_revocation();
        let builder = match settings.demand {
            Demand::Required => builder,
            Demand::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| {
            let detail = format!("client_ca {}: client certificates cannot be verified: {error}", settings.ca.display());
            Explanation::new(Reason::LocalInvalid, detail, "give the certificates of the CAs that issue client certificates")
        })?;
        Ok(Self { verifier: Arc::new(Bounded { inner: verifier }), cas, lists: facts })
    }
}

/// The search for a path ends in time whatever a client sends: nothing is known of it yet.
#[derive(Debug)]
struct Bounded {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Bounded {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let intermediates = effort::bounded(end_entity, intermediates.iter()).map_err(effort::refusal)?;
        self.inner.verify_client_cert(end_entity, &intermediates, now)
    }

    forward_signatures!(inner);
}

fn anchors(bundle: &Bundle, file: &Path) -> Result<RootCertStore, Explanation> {
    let mut anchors = RootCertStore::empty();
    for (index, certificate) in bundle.certificates.iter().enumerate() {
        anchors.add(certificate.clone()).map_err(|_| {
            let what = format!("certificate {} cannot be a trust anchor", index + 1);
            unusable(file, "client_ca", Unusable::new(what, "remove it, or replace it by the CA's certificate"))
        })?;
    }
    Ok(anchors)
}

/// An anchor is only name and key to the verification, so what it cannot see is said here.
fn warn_about(bundle: &Bundle, cas: &[CertificateFacts], file: &Path, reading: &mut Reading<'_>) {
    let file = file.display();
    if bundle.holds_key {
        reading.warn(format!(
            "client_ca {file}: the file holds a private key, with which anyone could make client certificates; \
             keep the CA's key away from this machine"
        ));
    }
    for ca in cas {
        if ca.validity_at(reading.now) != Validity::Valid {
            let (from, until) = (shown_date(ca.not_before), shown_date(ca.not_after));
            reading.warn(format!(
                "client_ca {file}: the CA {} is valid from {from} to {until} only, and still vouches for clients; \
                 remove it if it shall not",
                ca.subject
            ));
        }
        if !ca.is_ca && !ca.old_version {
            reading.warn(format!(
                "client_ca {file}: {} is not the certificate of a CA, so whoever holds its key can vouch for clients; \
                 give the certificate of the CA that issued it",
                ca.subject
            ));
        }
    }
}

fn load_lists(paths: &[std::path::PathBuf], reading: &mut Reading<'_>) -> Result<Vec<Crl>, Explanation> {
    let mut lists = Vec::new();
    for path in paths {
        let bytes = reading.read(path, "client_crl_paths")?;
        let read = crl::read(&bytes).map_err(|e| unusable(path, "client_crl_paths", e))?;
        for list in &read {
            if list.facts.is_expired_at(reading.now) {
                let end = list.facts.next_update.map(shown_date).unwrap_or_default();
                reading.warn(format!(
                    "client_crl_paths {}: the revocation list of {} should have been replaced by {end}, and is still used; \
                     fetch the new one from the CA",
                    path.display(),
                    list.facts.issuer
                ));
            }
        }
        lists.extend(read);
    }
    crl::newest_first(&mut lists);
    Ok(lists)
}

/// Why the lists of a new reading cannot replace those of an earlier one: somebody put an old one back.
pub(super) fn older_list(old: &[CrlFacts], new: &[CrlFacts]) -> Option<String> {
    let older = crl::put_back(&old.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>())?;
    let date = shown_date(older.this_update);
    Some(format!("client_crl_paths hold a revocation list of {} of {date}, older than the one in use", older.issuer))
}

/// Why a client's certificate was refused, in words; `None` for any other failure of a handshake.
pub fn handshake_refusal(error: &io::Error) -> Option<&'static str> {
    use CertificateError as Bad;
    match find_in_chain::<Error>(error)? {
        Error::NoCertificatesPresented => Some("it showed no client certificate"),
        Error::InvalidCertRevocationList(_) => Some("the revocation list of its CA is not signed by that CA"),
        Error::InvalidCertificate(bad) => Some(match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "its client certificate has expired",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "its client certificate is not valid yet",
            Bad::Revoked => "its client certificate was revoked",
            Bad::UnknownIssuer => "its client certificate comes from no CA in client_ca, or lacks its intermediate",
            Bad::BadSignature => "its client certificate was not signed by the CA in client_ca whose name it has",
            Bad::UnknownRevocationStatus => "no revocation list in client_crl_paths covers its client certificate",
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => "its certificate is not for clients",
            _ => "its client certificate cannot be verified",
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_client_is_told_in_words_and_other_failures_are_not() {
        let of = |error: Error| handshake_refusal(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(Error::NoCertificatesPresented), Some("it showed no client certificate"));
        assert_eq!(of(CertificateError::Revoked.into()), Some("its client certificate was revoked"));
        assert_eq!(of(Error::HandshakeNotComplete), None);
        assert_eq!(handshake_refusal(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
