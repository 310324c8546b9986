//! From [`TlsSettings`] to a [`TlsPolicy`]: every file read, every combination checked again.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::{
    CertificateFacts, TlsSettings, Validity, dev,
    files::{self, FileBytes, Unusable},
    identity::Identity,
    inspect::shown_date,
    key_log::NssKeyLog,
    policy::{TlsPolicy, Verification},
    revocation::Revocation,
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
        let intermediates = self.intermediates(&mut reading)?;
        let revocation = Revocation::load(&self.revocation, &mut reading)?;
        let excused_until = self.excused_until(&mut reading)?;
        let key_log = self.key_log_path.as_ref().map(|path| (Arc::new(NssKeyLog(sources.line_sink(path))), path.display().to_string()));
        Ok(TlsPolicy {
            name,
            name_is_overridden: self.server_name.is_some(),
            expected_sans: self.expected_sans.clone().into(),
            verification,
            trust,
            intermediates,
            pins: self.spki_pins.clone().into(),
            revocation,
            excused_until,
            identity,
            min_version: self.min_version,
            post_quantum: self.post_quantum,
            key_log,
            warnings: reading.warnings,
        })
    }

    /// The combinations that make no sense, refused here too: a policy is never weaker than it looks.
    fn verification(&self) -> Result<Verification, Explanation> {
        let refused = |detail: String, remedy: &str| Err(Explanation::new(Reason::LocalInvalid, detail, remedy));
        let has_pins = !self.spki_pins.is_empty();
        if !self.verify_certs {
            return match self.ignored_without_verification() {
                Some(key) => refused(format!("verify_certs = false ignores {key}"), "remove one of the two"),
                None => Ok(Verification::Off),
            };
        }
        if !self.expected_sans.is_empty() && (self.root_ca_cert_path.is_none() || self.include_system_cas) {
            return refused(
                "expected_sans needs root_ca_cert_path, without include_system_cas: public CAs do not vouch for such names".to_owned(),
                "set root_ca_cert_path to the CA that issues these names",
            );
        }
        match (self.accept_invalid_hostnames, &self.root_ca_cert_path) {
            (false, _) => Ok(Verification::Full),
            (true, _) if !self.expected_sans.is_empty() => {
                refused("accept_invalid_hostnames ignores expected_sans".to_owned(), "remove one of the two")
            }
            (true, None) if !has_pins => refused(
                "accept_invalid_hostnames without root_ca_cert_path or spki_pins accepts any public certificate of anyone".to_owned(),
                "set server_name to the name in the certificate, or set root_ca_cert_path",
            ),
            (true, Some(_)) if self.include_system_cas && !has_pins => refused(
                "accept_invalid_hostnames with include_system_cas accepts any public certificate of anyone".to_owned(),
                "set server_name to the name in the certificate, or remove include_system_cas",
            ),
            (true, _) => Ok(Verification::AnyName),
        }
    }

    /// A setting that looks as if it protected the connection, and does nothing when nothing is verified.
    pub(super) fn ignored_without_verification(&self) -> Option<&'static str> {
        [
            ("root_ca_cert_path", self.root_ca_cert_path.is_some()),
            ("intermediates_path", self.intermediates_path.is_some()),
            ("expected_sans", !self.expected_sans.is_empty()),
            ("accept_expired_until", self.accept_expired_until.is_some()),
            ("crl_paths", !self.revocation.crl_paths.is_empty()),
        ]
        .into_iter()
        .find_map(|(key, is_set)| is_set.then_some(key))
    }

    fn intermediates(&self, reading: &mut Reading<'_>) -> Result<Arc<[CertificateDer<'static>]>, Explanation> {
        const KEY: &str = "intermediates_path";
        let Some(path) = &self.intermediates_path else { return Ok(Arc::new([])) };
        let bytes = reading.read(path, KEY)?;
        let bundle = files::certificates(&bytes).map_err(|e| unusable(path, KEY, e))?;
        if bundle.certificates.len() > MAX_INTERMEDIATES {
            let what = format!("it holds more than {MAX_INTERMEDIATES} certificates");
            return Err(unusable(path, KEY, Unusable::new(what, "keep only the intermediates of this server")));
        }
        for facts in bundle.certificates.iter().filter_map(CertificateFacts::read) {
            let said = |what: &str| format!("{KEY} {}: the certificate {} {what}", path.display(), facts.subject);
            if facts.self_signed {
                reading.warn(said("is self-signed, and nothing here is trusted by itself; to trust it, name it in root_ca_cert_path"));
            } else if !facts.is_ca {
                reading.warn(said("is no CA certificate, and helps no chain; remove it"));
            } else if facts.validity_at(reading.now) == Validity::Expired {
                reading.warn(said("has expired, and helps no chain; replace it"));
            }
        }
        Ok(bundle.certificates.into())
    }

    /// The end of the excuse as long as it lies ahead; refused when it is further ahead than an emergency lasts.
    fn excused_until(&self, reading: &mut Reading<'_>) -> Result<Option<Duration>, Explanation> {
        let Some(until) = self.accept_expired_until else { return Ok(None) };
        let date = shown_date(i64::try_from(until.as_secs()).unwrap_or(i64::MAX));
        if until > reading.now.saturating_add(LONGEST_EXCUSE) {
            return Err(Explanation::new(
                Reason::LocalInvalid,
                format!("accept_expired_until: {date} is more than 7 days ahead"),
                "give a date within the next 7 days; it is meant for an emergency",
            ));
        }
        if until <= reading.now {
            reading.warn(format!("the date in accept_expired_until, {date}, has passed, so it excuses nothing; remove it"));
            return Ok(None);
        }
        Ok(Some(until))
    }
}

/// Most certificates of `intermediates_path`.
const MAX_INTERMEDIATES: usize = 20;

/// How far ahead `accept_expired_until` may lie.
const LONGEST_EXCUSE: Duration = Duration::from_secs(7 * 86_400);

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

/// One run over an upstream's or a listener's files.
pub(super) struct Reading<'a> {
    sources: &'a dyn Sources,
    pub(super) now: Duration,
    pub(super) warnings: Vec<String>,
    /// Over everything that was read.
    digest: aws_lc_rs::digest::Context,
}

impl<'a> Reading<'a> {
    /// `now` is the span since 1970.
    pub(super) fn new(sources: &'a dyn Sources, now: Duration) -> Self {
        let digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        Self { sources, now, warnings: Vec::new(), digest }
    }

    /// SHA-256 of everything that was read, so that a second run over the same files knows that they are the same.
    pub(super) fn digest(&self) -> [u8; 32] {
        let digest = self.digest.clone().finish();
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
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
        // The length first, so that no bytes can move from one file to the next unnoticed.
        self.digest.update(&bytes.len().to_be_bytes());
        self.digest.update(&bytes);
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
