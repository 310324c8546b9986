//! Our client certificate and its key.

use std::sync::Arc;

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};

use super::{
    TlsSettings,
    inspect::{CertificateFacts, Validity, shown_date, shown_span},
    key_pair::{KeyPair, Named, PairFiles},
    load::Reading,
};
use crate::reason::{Explanation, Reason};

/// A checked client certificate with its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: CertificateFacts,
}

impl Identity {
    /// Reads the files that the settings name, if any; checks dates, pair and the key file's permissions.
    pub(super) fn load(settings: &TlsSettings, provider: &CryptoProvider, reading: &mut Reading<'_>) -> Result<Option<Self>, Explanation> {
        let Some(files) = files(settings)? else { return Ok(None) };
        let KeyPair { key, leaf } = KeyPair::read(files, settings.key_permissions, provider, reading)?;
        let file = files.certificate();
        check_dates(&leaf, &file, reading)?;
        if !leaf.for_clients {
            reading.warn(format!(
                "{file}: the certificate {} is not for client authentication (no clientAuth in its extended key usage); \
                 most servers will refuse it. Public CAs no longer issue it: use a certificate of your own CA",
                leaf.subject
            ));
        }
        Ok(Some(Self { key, leaf }))
    }
}

/// Two files or one archive; both together are refused, because only one of them would be used.
fn files(settings: &TlsSettings) -> Result<Option<PairFiles<'_>>, Explanation> {
    match (&settings.client_identity, &settings.client_pkcs12) {
        (None, None) => Ok(None),
        (Some(paths), None) => Ok(Some(PairFiles::Two {
            certificate: Named { key: "client_cert_path", path: &paths.cert_path },
            key: Named { key: "client_key_path", path: &paths.key_path },
            password: settings.client_key_password.as_ref(),
        })),
        (None, Some(archive)) => Ok(Some(PairFiles::Archive {
            archive: Named { key: "client_pkcs12_path", path: &archive.path },
            password: archive.password.as_ref(),
            alias: archive.alias.as_deref(),
        })),
        (Some(_), Some(_)) => Err(Explanation::new(
            Reason::LocalInvalid,
            "client_pkcs12_path together with client_cert_path: only one of them could be used",
            "remove one of the two",
        )),
    }
}

fn check_dates(leaf: &CertificateFacts, file: &str, reading: &Reading<'_>) -> Result<(), Explanation> {
    let now = i64::try_from(reading.now.as_secs()).unwrap_or(i64::MAX);
    match leaf.validity_at(reading.now) {
        Validity::Valid => Ok(()),
        Validity::Expired => Err(Explanation::new(
            Reason::LocalExpired,
            format!(
                "{file}: the client certificate {} expired {} ago, on {}",
                leaf.subject,
                shown_span(leaf.not_after, now),
                shown_date(leaf.not_after)
            ),
            "renew the client certificate; it is picked up by itself",
        )),
        Validity::NotYet => Err(Explanation::new(
            Reason::LocalExpired,
            format!(
                "{file}: the client certificate {} is valid only from {}; the clock here says {}",
                leaf.subject,
                shown_date(leaf.not_before),
                shown_date(now)
            ),
            "check this machine's clock, or wait",
        )),
    }
}
