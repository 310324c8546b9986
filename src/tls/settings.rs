//! `[mcp.servers.NAME.tls]`: as typed, its combinations checked, its files not read yet.

use std::path::{Path, PathBuf};

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
            client_identity: None,
            client_key_password: None,
            client_pkcs12: None,
            server_name: None,
            min_version: MinVersion::default(),
            key_permissions: KeyPermissions::default(),
        }
    }
}

impl TlsSettings {
    /// Every file that [`Self::load`](Self::load) reads, for whoever watches them.
    pub fn files(&self) -> Vec<&Path> {
        let identity = self.client_identity.iter().flat_map(|files| [&files.cert_path, &files.key_path]);
        let archive = self.client_pkcs12.iter().map(|archive| &archive.path);
        self.root_ca_cert_path.iter().chain(identity).chain(archive).map(PathBuf::as_path).collect()
    }

    /// Neither the chain nor the name is certain.
    pub fn is_unverified(&self) -> bool {
        !self.verify_certs || self.accept_invalid_hostnames
    }
}
