//! A listener's TLS table after the checks that need no file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    problem::{At, Problem, Severity},
    secret::Secret,
    table::{Keys, Table},
    tls::{
        KeyPermissions, MinVersion,
        key_pair::{Named, PairFiles},
    },
};

/// A listener's TLS table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsSettings {
    pub identity: ServerIdentityFiles,
    /// Absent: clients are not asked for a certificate.
    pub clients: Option<ClientCertificates>,
    pub min_version: MinVersion,
    /// How long browsers shall come back over HTTPS only (RFC 6797); zero makes them forget it.
    pub hsts: Option<Duration>,
    pub key_permissions: KeyPermissions,
    pub(in crate::tls) places: Places,
}

impl ServerTlsSettings {
    /// Whether other settings differ in nothing but their place in the file.
    pub fn demands_the_same_as(&self, other: &Self) -> bool {
        *self == Self { places: self.places.clone(), ..other.clone() }
    }
}

/// What the listener shows to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerIdentityFiles {
    /// `certificate` holds the chain, leaf first.
    Two { certificate: PathBuf, key: PathBuf, password: Option<Secret> },
    /// A PKCS#12 archive.
    Archive { path: PathBuf, password: Option<Secret>, alias: Option<String> },
}

/// Which client certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    pub ca: PathBuf,
    pub demand: Demand,
    /// With any, a client certificate whose CA has no list here is refused; the CAs' own certificates are not looked up.
    pub crls: Vec<PathBuf>,
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
pub(in crate::tls) struct Places {
    file: PathBuf,
    table: String,
    lines: Vec<(&'static str, u32)>,
}

impl Places {
    pub(in crate::tls) fn of(table: &Table, keys: &Keys, file: &Path) -> Self {
        let lines = std::iter::once("").chain(keys.keys.iter().map(|key| key.name)).map(|key| (key, table.line_of(key)));
        Self { file: file.to_owned(), table: table.path().to_owned(), lines: lines.collect() }
    }

    /// `words` begin with the key that they are about, and its file.
    pub(super) fn problem(&self, severity: Severity, words: &str, why: &str, remedy: &str) -> Problem {
        let words_of_file = words.strip_prefix("the key in ").unwrap_or(words);
        let begins = |key: &str| words_of_file.strip_prefix(key).is_some_and(|rest| !key.is_empty() && rest.starts_with(' '));
        let key = self.lines.iter().find(|(key, _)| begins(key)).map_or("", |(key, _)| *key);
        self.problem_at(key, severity, words, why, remedy)
    }

    /// An empty `key` is the table itself.
    pub(super) fn problem_at(&self, key: &str, severity: Severity, words: &str, why: &str, remedy: &str) -> Problem {
        let line = self.lines.iter().find(|(name, _)| *name == key).map_or(0, |(_, line)| *line);
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

impl ServerTlsSettings {
    /// Every file that is read, for whoever watches them.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths = match &self.identity {
            ServerIdentityFiles::Two { certificate, key, .. } => vec![certificate.as_path(), key.as_path()],
            ServerIdentityFiles::Archive { path, .. } => vec![path.as_path()],
        };
        if let Some(clients) = &self.clients {
            paths.push(&clients.ca);
            paths.extend(clients.crls.iter().map(PathBuf::as_path));
        }
        paths
    }

    /// Whether every client must show a certificate.
    pub fn requires_client_certificates(&self) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.demand == Demand::Required)
    }

    pub(super) fn pair_files(&self) -> PairFiles<'_> {
        match &self.identity {
            ServerIdentityFiles::Two { certificate, key, password } => PairFiles::Two {
                certificate: Named { key: "certificate", path: certificate },
                key: Named { key: "key", path: key },
                password: password.as_ref(),
            },
            ServerIdentityFiles::Archive { path, password, alias } => {
                PairFiles::Archive { archive: Named { key: "pkcs12", path }, password: password.as_ref(), alias: alias.as_deref() }
            }
        }
    }

    /// For the start-up line: `TLS 1.2 or newer, client certificates required (clients-ca.pem)`.
    pub(super) fn words(&self) -> String {
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
        let lists = match clients.crls.len() {
            0 => String::new(),
            1 => ", 1 file of revocations".to_owned(),
            n => format!(", {n} files of revocations"),
        };
        format!("{versions}, client certificates {demand} ({file}{lists})")
    }
}
