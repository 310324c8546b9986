//! `[mcp.servers.NAME.tls]`: as typed, its combinations checked, its files not read yet.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::secret::Secret;

/// An upstream's TLS table after the checks that need no file.
///
/// Kept beside the running policy, because the files are read again whenever the upstream is brought up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `false` accepts any certificate, for development only. Handshake signatures are verified all the same.
    pub verify_certs: bool,
    /// `true` forgives a certificate that is valid but for another name.
    pub accept_invalid_hostnames: bool,
    /// PEM or DER bundle that replaces the system CAs.
    pub root_ca_cert_path: Option<PathBuf>,
    /// With `root_ca_cert_path`: the system CAs as well.
    pub include_system_cas: bool,
    /// PEM or DER: what the server forgets to send. Helps to build the chain, and is never trusted by itself.
    pub intermediates_path: Option<PathBuf>,
    /// Names of which the certificate must carry one, instead of the host's; empty: the host's. Needs `root_ca_cert_path`.
    pub expected_sans: Vec<ExpectedSan>,
    /// Until then (since 1970) an end date that has passed is forgiven, anywhere in the server's chain. At most 7 days ahead.
    pub accept_expired_until: Option<Duration>,
    /// The keys that the leaf may have, checked after everything else; empty: any.
    pub spki_pins: Vec<SpkiPin>,
    pub revocation: RevocationSettings,
    /// Never together with `client_pkcs12`.
    pub client_identity: Option<ClientIdentityFiles>,
    /// Opens an encrypted key of `client_identity`.
    pub client_key_password: Option<Secret>,
    /// Never together with `client_identity`.
    pub client_pkcs12: Option<Pkcs12File>,
    /// SNI and name to verify, instead of the URL's host.
    pub server_name: Option<String>,
    pub min_version: MinVersion,
    pub key_permissions: KeyPermissions,
    pub post_quantum: PostQuantum,
    /// Where the keys of every connection are written, for Wireshark (NSS key log format).
    pub key_log_path: Option<PathBuf>,
}

/// A subject alternative name that the server's certificate may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedSan {
    /// Compared as host names are, wildcards of the certificate included.
    Dns(String),
    /// Compared byte by byte, as SPIFFE ids are.
    Uri(String),
}

/// SHA-256 of a public key (DER SubjectPublicKeyInfo, RFC 7469 §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpkiPin(pub [u8; 32]);

/// Revocation lists, and what is made of them. Without a list nothing is checked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RevocationSettings {
    /// PEM or DER.
    pub crl_paths: Vec<PathBuf>,
    pub scope: CrlScope,
    pub missing: CrlMissing,
    pub expired: CrlExpired,
}

/// Which certificates need a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CrlScope {
    #[default]
    Leaf,
    /// All but the trust anchor.
    Chain,
}

/// What happens to a certificate that no list covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CrlMissing {
    #[default]
    Deny,
    Allow,
}

/// What happens when a list should have been renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CrlExpired {
    #[default]
    Warn,
    Deny,
}

/// X25519MLKEM768 in the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PostQuantum {
    /// Sent first: 1.2 kB more in the first message, which some old middleboxes drop.
    Prefer,
    /// Used when the server insists on it.
    #[default]
    Offer,
    Off,
}

/// The client certificate (chain, leaf first) and its key. Never one without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentityFiles {
    pub cert_path: PathBuf,
    pub key_path: PathBuf,
}

/// A PKCS#12 archive that holds the client certificate with its chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs12File {
    pub path: PathBuf,
    /// Without one the empty password is tried.
    pub password: Option<Secret>,
    /// The friendly name of the key, or `#2` for the second one; needed when the archive holds several.
    pub alias: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// What happens when a private key file is open to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyPermissions {
    #[default]
    Enforce,
    Warn,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            verify_certs: true,
            accept_invalid_hostnames: false,
            root_ca_cert_path: None,
            include_system_cas: false,
            intermediates_path: None,
            expected_sans: Vec::new(),
            accept_expired_until: None,
            spki_pins: Vec::new(),
            revocation: RevocationSettings::default(),
            client_identity: None,
            client_key_password: None,
            client_pkcs12: None,
            server_name: None,
            min_version: MinVersion::default(),
            key_permissions: KeyPermissions::default(),
            post_quantum: PostQuantum::default(),
            key_log_path: None,
        }
    }
}

impl TlsSettings {
    /// Every file that [`Self::load`](Self::load) reads, for whoever watches them.
    pub fn files(&self) -> Vec<&Path> {
        let identity = self.client_identity.iter().flat_map(|files| [&files.cert_path, &files.key_path]);
        let archive = self.client_pkcs12.iter().map(|archive| &archive.path);
        let trust = self.root_ca_cert_path.iter().chain(&self.intermediates_path).chain(&self.revocation.crl_paths);
        trust.chain(identity).chain(archive).map(PathBuf::as_path).collect()
    }

    /// Nothing makes certain that it is the right server: chain or name are not verified, and no key is pinned.
    pub fn is_unverified(&self) -> bool {
        (!self.verify_certs || self.accept_invalid_hostnames) && self.spki_pins.is_empty()
    }
}
