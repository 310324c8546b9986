//! Our client certificate and its key.

use std::sync::Arc;

use rustls::{InconsistentKeys, crypto::CryptoProvider, sign::CertifiedKey};

use super::{
    ClientIdentityFiles, KeyPermissions, files,
    inspect::{CertificateFacts, Validity, shown_date, shown_span},
    key_file::{self, Verdict},
    load::{Reading, unusable},
};
use crate::reason::{Explanation, Reason};

/// A checked client certificate with its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: CertificateFacts,
}

impl Identity {
    /// Reads both files; checks dates, pair and the key file's permissions.
    pub(super) fn load(
        paths: &ClientIdentityFiles,
        permissions: KeyPermissions,
        provider: &CryptoProvider,
        reading: &mut Reading<'_>,
    ) -> Result<Self, Explanation> {
        let bytes = reading.read(&paths.cert_path, "client_cert_path")?;
        let bundle = files::certificates(&bytes).map_err(|e| unusable(&paths.cert_path, "client_cert_path", e))?;
        let leaf = bundle.certificates.first().and_then(CertificateFacts::read).ok_or_else(|| {
            let what = files::Unusable {
                what: "its first certificate cannot be read".to_owned(),
                remedy: "put the client certificate first".to_owned(),
            };
            unusable(&paths.cert_path, "client_cert_path", what)
        })?;
        check_dates(&leaf, paths, reading)?;
        if !leaf.for_clients {
            reading.warn(format!(
                "client_cert_path {}: the certificate {} is not for client authentication (no clientAuth in its extended key usage); \
                 most servers will refuse it. Public CAs no longer issue it: use a certificate of your own CA",
                paths.cert_path.display(),
                leaf.subject
            ));
        }

        let (bytes, facts) = reading.read_with_facts(&paths.key_path, "client_key_path")?;
        match key_file::judge(&facts, permissions) {
            Verdict::Private => {}
            Verdict::Warn { what, remedy } => reading.warn(format!("client_key_path {}: {what}; {remedy}", paths.key_path.display())),
            Verdict::Refuse { what, remedy } => {
                let detail = format!("client_key_path {}: {what}", paths.key_path.display());
                return Err(Explanation::new(Reason::LocalPermissions, detail, remedy));
            }
        }
        let key = files::private_key(&bytes).map_err(|e| unusable(&paths.key_path, "client_key_path", e))?;
        let key = CertifiedKey::from_der(bundle.certificates, key, provider).map_err(|e| mismatch(&e, paths))?;
        Ok(Self { key: Arc::new(key), leaf })
    }
}

fn check_dates(leaf: &CertificateFacts, paths: &ClientIdentityFiles, reading: &Reading<'_>) -> Result<(), Explanation> {
    let now = i64::try_from(reading.now.as_secs()).unwrap_or(i64::MAX);
    let file = paths.cert_path.display();
    match leaf.validity_at(reading.now) {
        Validity::Valid => Ok(()),
        Validity::Expired => Err(Explanation::new(
            Reason::LocalExpired,
            format!(
                "client_cert_path {file}: the client certificate {} expired {} ago, on {}",
                leaf.subject,
                shown_span(leaf.not_after, now),
                shown_date(leaf.not_after)
            ),
            "renew the client certificate; it is picked up by itself",
        )),
        Validity::NotYet => Err(Explanation::new(
            Reason::LocalExpired,
            format!(
                "client_cert_path {file}: the client certificate {} is valid only from {}; the clock here says {}",
                leaf.subject,
                shown_date(leaf.not_before),
                shown_date(now)
            ),
            "check this machine's clock, or wait",
        )),
    }
}

fn mismatch(error: &rustls::Error, paths: &ClientIdentityFiles) -> Explanation {
    let (cert, key) = (paths.cert_path.display(), paths.key_path.display());
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Explanation::new(
            Reason::LocalKeyMismatch,
            format!("the key in client_key_path {key} does not belong to the first certificate in client_cert_path {cert}"),
            "name the key that the certificate was made with; in a chain the client certificate comes first",
        ),
        _ => Explanation::new(
            Reason::LocalInvalid,
            format!("client_key_path {key}: the key is of a kind or size that cannot be used"),
            "use an RSA key of 2048 bits or more, an ECDSA key on P-256, P-384 or P-521, or Ed25519",
        ),
    }
}
