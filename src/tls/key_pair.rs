//! A certificate chain with its private key, from files: two PEM or DER files, or one PKCS#12 archive.

use std::{path::Path, sync::Arc};

use rustls::{InconsistentKeys, crypto::CryptoProvider, sign::CertifiedKey};

use super::{
    KeyPermissions, files,
    inspect::CertificateFacts,
    key_file::{self, Verdict},
    load::{Reading, unusable},
    pkcs12,
};
use crate::{
    reason::{Explanation, Reason},
    secret::Secret,
    sources::FileFacts,
};

/// A file and the TOML key that names it, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) key: &'static str,
    pub(super) path: &'a Path,
}

/// Where a chain and its key are.
#[derive(Clone, Copy, Debug)]
pub(super) enum PairFiles<'a> {
    Two { certificate: Named<'a>, key: Named<'a>, password: Option<&'a Secret> },
    Archive { archive: Named<'a>, password: Option<&'a Secret>, alias: Option<&'a str> },
}

impl PairFiles<'_> {
    /// The key that names the file that holds the certificate.
    pub(super) fn certificate_key(&self) -> &'static str {
        let (Self::Two { certificate: named, .. } | Self::Archive { archive: named, .. }) = self;
        named.key
    }

    /// The file that holds the certificate, as messages name it: `client_cert_path client.pem`.
    pub(super) fn certificate(&self) -> String {
        let (Self::Two { certificate: named, .. } | Self::Archive { archive: named, .. }) = self;
        format!("{} {}", named.key, named.path.display())
    }
}

/// A chain and its key that belong together, ready for handshakes.
#[derive(Clone)]
pub(super) struct KeyPair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) leaf: CertificateFacts,
}

impl KeyPair {
    /// Reads the files and checks the key file's permissions, and that key and certificate belong together; neither dates
    /// nor usage.
    ///
    /// May take seconds where a password is involved: never call it on a thread of the asynchronous runtime.
    pub(super) fn read(
        files: PairFiles<'_>,
        permissions: KeyPermissions,
        provider: &CryptoProvider,
        reading: &mut Reading<'_>,
    ) -> Result<Self, Explanation> {
        match files {
            PairFiles::Two { certificate, key, password } => read_two(certificate, key, password, permissions, provider, reading),
            PairFiles::Archive { archive, password, alias } => {
                let (bytes, facts) = reading.read_with_facts(archive.path, archive.key)?;
                judge(archive, &facts, permissions, reading)?;
                let opened = pkcs12::read(&bytes, password, alias, provider).map_err(|e| unusable(archive.path, archive.key, e))?;
                if let Some(legacy) = opened.legacy {
                    let shown = archive.path.display().to_string();
                    reading.warn(format!("{} {shown}: {}", archive.key, legacy.replace("FILE", &shown)));
                }
                join(opened.chain, opened.key, provider, archive, archive)
            }
        }
    }
}

fn read_two(
    certificate: Named<'_>,
    key: Named<'_>,
    password: Option<&Secret>,
    permissions: KeyPermissions,
    provider: &CryptoProvider,
    reading: &mut Reading<'_>,
) -> Result<KeyPair, Explanation> {
    let bytes = reading.read(certificate.path, certificate.key)?;
    let bundle = files::certificates(&bytes).map_err(|e| unusable(certificate.path, certificate.key, e))?;
    if bundle.holds_key && certificate.path != key.path {
        reading.warn(format!(
            "{} {}: the file holds a private key as well, which is not used; keep a key in a file of its own, for its owner only",
            certificate.key,
            certificate.path.display()
        ));
    }
    let (bytes, facts) = reading.read_with_facts(key.path, key.key)?;
    judge(key, &facts, permissions, reading)?;
    let opened = files::open_private_key(&bytes, password).map_err(|e| unusable(key.path, key.key, e))?;
    if password.is_some() && !opened.was_encrypted {
        reading.warn(format!("{} {}: the key is not encrypted; the password for it is not used", key.key, key.path.display()));
    }
    join(bundle.certificates, opened.key, provider, certificate, key)
}

fn judge(named: Named<'_>, facts: &FileFacts, permissions: KeyPermissions, reading: &mut Reading<'_>) -> Result<(), Explanation> {
    let said = |what: &str| format!("{} {}: {what}", named.key, named.path.display());
    match key_file::judge(facts, permissions) {
        Verdict::Private => Ok(()),
        Verdict::Warn { what, remedy } => {
            reading.warn(format!("{}; {remedy}", said(&what)));
            Ok(())
        }
        Verdict::Refuse { what, remedy } => Err(Explanation::new(Reason::LocalPermissions, said(&what), remedy)),
    }
}

fn join(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    provider: &CryptoProvider,
    certificate: Named<'_>,
    key_file: Named<'_>,
) -> Result<KeyPair, Explanation> {
    let leaf = chain.first().and_then(CertificateFacts::read).ok_or_else(|| {
        let what = files::Unusable::new("its first certificate cannot be read", "put the certificate of the key first");
        unusable(certificate.path, certificate.key, what)
    })?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let (name, path) = (key_file.key, key_file.path.display());
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Explanation::new(
                Reason::LocalKeyMismatch,
                format!(
                    "the key in {name} {path} does not belong to the first certificate in {} {}",
                    certificate.key,
                    certificate.path.display()
                ),
                "name the key that the certificate was made with; in a chain the certificate of the key comes first",
            ),
            _ => Explanation::new(
                Reason::LocalInvalid,
                format!("{name} {path}: the key is of a kind or size that cannot be used"),
                "use an RSA key of 2048 bits or more, an ECDSA key on P-256, P-384 or P-521, or Ed25519",
            ),
        }
    })?;
    Ok(KeyPair { key: Arc::new(key), leaf })
}
