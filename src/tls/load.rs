//! From [`TlsSettings`] to a [`TlsPolicy`]: every file read, every combination checked again.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::{
    TlsSettings, dev,
    files::{FileBytes, Unusable},
    identity::Identity,
    policy::{TlsPolicy, Verification},
    trust::{SystemCas, Trust},
};
use crate::{
    reason::{Explanation, Reason},
    sources::{FileFacts, Sources},
};

impl TlsSettings {
    /// Reads and checks every file, for the server at `host` (of the upstream's URL).
    ///
    /// Reads files, and derives keys from passwords for up to some seconds: never call it on a thread of the asynchronous
    /// runtime, and give it a time limit. `system` is asked only where the system's CAs are needed. `now` is the span since 1970.
    ///
    /// # Errors
    /// A `local_*` reason. The upstream is then down, and never contacted under a weaker policy.
    pub fn load(
        &self,
        host: &str,
        sources: &dyn Sources,
        system: &dyn Fn() -> Arc<SystemCas>,
        now: Duration,
    ) -> Result<TlsPolicy, Explanation> {
        let verification = self.verification()?;
        let (name, key) = match &self.server_name {
            Some(name) => (name.as_str(), "server_name"),
            None => (host, "url"),
        };
        let name = parse_name(name, key)?;
        let mut reading = Reading::new(sources, now);
        let trust = match (verification, &self.root_ca_cert_path) {
            (Verification::Off, _) => Trust::nobody(),
            (_, None) => Trust::system(&system())?,
            (_, Some(path)) if self.include_system_cas => Trust::file(path, Some(&system()), &mut reading)?,
            (_, Some(path)) => Trust::file(path, None, &mut reading)?,
        };
        if trust.organizations.iter().any(|o| o == dev::ORGANIZATION) && !is_for_development(&name) {
            reading.warn(
                "root_ca_cert_path: this is a development CA of `nexus certs dev`; give a real server a certificate of a real CA"
                    .to_owned(),
            );
        }
        let provider = super::policy::provider();
        let identity = Identity::load(self, &provider, &mut reading)?;
        let host_is_overridden = self.server_name.is_some();
        Ok(TlsPolicy::new(name, host_is_overridden, verification, trust, identity, self.min_version, reading.warnings))
    }

    /// The combinations that make no sense, refused here too: a policy is never weaker than it looks.
    fn verification(&self) -> Result<Verification, Explanation> {
        let refused = |detail: &str, remedy: &str| Err(Explanation::new(Reason::LocalInvalid, detail, remedy));
        match (self.verify_certs, self.accept_invalid_hostnames, &self.root_ca_cert_path) {
            (false, _, Some(_)) => refused("verify_certs = false ignores root_ca_cert_path", "remove one of the two"),
            (false, _, None) => Ok(Verification::Off),
            (true, true, None) => refused(
                "accept_invalid_hostnames without root_ca_cert_path accepts any public certificate of anyone",
                "set server_name to the name in the certificate, or set root_ca_cert_path",
            ),
            (true, true, Some(_)) if self.include_system_cas => refused(
                "accept_invalid_hostnames with include_system_cas accepts any public certificate of anyone",
                "set server_name to the name in the certificate, or remove include_system_cas",
            ),
            (true, true, Some(_)) => Ok(Verification::AnyName),
            (true, false, _) => Ok(Verification::Full),
        }
    }
}

/// A host as it stands in a URL: `a.test`, `a.test.`, `10.0.0.1` or `[::1]`.
fn parse_name(host: &str, key: &str) -> Result<ServerName<'static>, Explanation> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare).map(|name| name.to_owned()).map_err(|_| {
        Explanation::new(
            Reason::LocalInvalid,
            format!("{key}: {:?} is no name that a certificate can carry", super::inspect::shown(host)),
            "give a DNS name or an IP address",
        )
    })
}

/// Loopback, and names that never reach the public DNS (RFC 6761 §6.2, .internal reserved by ICANN).
fn is_for_development(name: &ServerName<'_>) -> bool {
    match name {
        ServerName::IpAddress(ip) => std::net::IpAddr::from(*ip).is_loopback(),
        ServerName::DnsName(name) => {
            let name = name.as_ref().to_ascii_lowercase();
            ["localhost", "test", "internal"]
                .iter()
                .any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
        }
        _ => false,
    }
}

/// One run over an upstream's files.
pub(super) struct Reading<'a> {
    sources: &'a dyn Sources,
    pub(super) now: Duration,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    /// `now` is the span since 1970.
    pub(super) fn new(sources: &'a dyn Sources, now: Duration) -> Self {
        Self { sources, now, warnings: Vec::new() }
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    pub(super) fn read(&mut self, path: &Path, key: &str) -> Result<FileBytes, Explanation> {
        self.read_with_facts(path, key).map(|(bytes, _)| bytes)
    }

    pub(super) fn read_with_facts(&mut self, path: &Path, key: &str) -> Result<(FileBytes, FileFacts), Explanation> {
        let (bytes, facts) = self.sources.read(path).map_err(|e| {
            let detail = format!("{key} {}: {e}", path.display());
            match e.kind() {
                std::io::ErrorKind::NotFound => {
                    Explanation::new(Reason::LocalMissing, detail, format!("create the file, or correct {key}"))
                }
                std::io::ErrorKind::PermissionDenied => {
                    Explanation::new(Reason::LocalUnreadable, detail, "let the gateway's user read the file and its folders")
                }
                _ => Explanation::new(Reason::LocalUnreadable, detail, format!("name a regular file in {key}")),
            }
        })?;
        if self.sources.is_mount_point(path) {
            self.warn(format!(
                "{key} {}: the file is itself a mount point (Kubernetes subPath), so a renewed one never arrives; mount its folder",
                path.display()
            ));
        }
        Ok((Zeroizing::new(bytes), facts))
    }
}

/// The explanation of a file that can be read, but not used.
pub(super) fn unusable(path: &Path, key: &str, unusable: Unusable) -> Explanation {
    let shown = path.display().to_string();
    // A command is ready to paste only if the shell takes the path as one word.
    let is_one_word =
        !shown.is_empty() && shown.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@'));
    let remedy = if is_one_word { unusable.remedy.replace("FILE", &shown) } else { unusable.remedy };
    Explanation::new(unusable.reason, format!("{key} {shown}: {}", unusable.what), remedy)
}

#[cfg(test)]
mod tests;
