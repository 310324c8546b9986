//! `[mcp.servers.NAME.tls]`: from the file to [`TlsSettings`].

mod check;
mod values;

use std::{path::PathBuf, time::Duration};

use super::settings::{
    ClientIdentityFiles, CrlExpired, CrlMissing, CrlScope, ExpectedSan, KeyPermissions, MinVersion, Pkcs12File, PostQuantum,
    RevocationSettings, SpkiPin, TlsSettings,
};
use crate::{
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "mcp.servers.NAME.tls",
    doc: "How this upstream's certificate is verified, and the client certificate it gets.",
    keys: &[
        built("verify_certs", "`false` accepts any certificate, for development only."),
        built("accept_invalid_hostnames", "`true` accepts a trusted certificate that is for another name; needs `root_ca_cert_path`."),
        built("root_ca_cert_path", "PEM or DER bundle of the CAs to trust; replaces the system CAs."),
        built("include_system_cas", "With `root_ca_cert_path`: the system CAs as well."),
        built("client_cert_path", "The client certificate, leaf first, for mutual TLS."),
        built("client_key_path", "The client certificate's private key."),
        built("client_key_password", "Opens an encrypted `client_key_path`; never printed."),
        built("client_pkcs12_path", "PKCS#12 archive with client certificate and key, instead of the two files."),
        built("client_pkcs12_password", "Opens the archive; never printed."),
        built("client_pkcs12_alias", "Which key, when the archive holds several: its name, or `\"#2\"`."),
        built("server_name", "Name to send and to verify, instead of the URL's host."),
        built("min_version", "Lowest TLS version: `\"1.2\"` or `\"1.3\"`."),
        built("key_permissions", "`\"enforce\"` refuses a private key that is open to others, `\"warn\"` only says so."),
        built("intermediates_path", "What the server forgets to send: helps to build the chain, is never trusted by itself."),
        built("expected_sans", "Names (`dns:…`, `uri:…`) of which the certificate must carry one, instead of the host's."),
        built("accept_expired_until", "A date at most 7 days ahead: until then an expired certificate is accepted."),
        built("spki_pins", "The keys that the server's certificate may have: `\"sha256/…\"`."),
        built("crl_paths", "Revocation lists, PEM or DER."),
        built("crl_scope", "`\"leaf\"` checks the server's own certificate, `\"chain\"` the CAs above it too."),
        built("crl_missing", "`\"deny\"` refuses a certificate that no list covers, `\"allow\"` accepts it."),
        built("crl_expired", "`\"warn\"` goes on with a list that is overdue, `\"deny\"` refuses."),
        built("post_quantum", "`\"prefer\"`, `\"offer\"` or `\"off\"`: the hybrid key exchange X25519MLKEM768."),
        built("key_log_path", "The keys of every connection are written there, for Wireshark."),
    ],
};

/// What the settings protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Tls,
    /// No TLS at all; what it is instead, in words: "an http:// URL".
    Plain(&'static str),
}

/// The table as typed; an absent or unusable key is `None`.
#[derive(Debug, Default)]
struct RawTls {
    verify_certs: Option<bool>,
    accept_invalid_hostnames: Option<bool>,
    root_ca_cert_path: Option<PathBuf>,
    include_system_cas: Option<bool>,
    client_cert_path: Option<PathBuf>,
    client_key_path: Option<PathBuf>,
    client_key_password: Option<Secret>,
    client_pkcs12_path: Option<PathBuf>,
    client_pkcs12_password: Option<Secret>,
    client_pkcs12_alias: Option<String>,
    server_name: Option<String>,
    min_version: Option<MinVersion>,
    key_permissions: Option<KeyPermissions>,
    intermediates_path: Option<PathBuf>,
    expected_sans: Vec<ExpectedSan>,
    accept_expired_until: Option<Duration>,
    spki_pins: Vec<SpkiPin>,
    crl_paths: Vec<PathBuf>,
    crl_scope: Option<CrlScope>,
    crl_missing: Option<CrlMissing>,
    crl_expired: Option<CrlExpired>,
    post_quantum: Option<PostQuantum>,
    key_log_path: Option<PathBuf>,
}

/// Reads the table, recording every problem and every warning about a weakened check.
pub fn read(mut table: Table, leg: Leg, problems: &mut Problems) -> TlsSettings {
    let raw = RawTls::read(&mut table, problems);
    match leg {
        Leg::Tls => {
            raw.check(&table, problems);
            raw.warn(&table, problems);
        }
        Leg::Plain(what) => raw.refuse(&table, what, problems),
    }
    raw.into_settings()
}

impl RawTls {
    fn read(table: &mut Table, problems: &mut Problems) -> Self {
        let raw = Self {
            verify_certs: table.bool("verify_certs", problems),
            accept_invalid_hostnames: table.bool("accept_invalid_hostnames", problems),
            root_ca_cert_path: table.path_value("root_ca_cert_path", problems),
            include_system_cas: table.bool("include_system_cas", problems),
            client_cert_path: table.path_value("client_cert_path", problems),
            client_key_path: table.path_value("client_key_path", problems),
            client_key_password: table.secret("client_key_password", problems),
            client_pkcs12_path: table.path_value("client_pkcs12_path", problems),
            client_pkcs12_password: table.secret("client_pkcs12_password", problems),
            client_pkcs12_alias: table.string("client_pkcs12_alias", problems),
            server_name: table.string("server_name", problems),
            min_version: table.choice("min_version", &[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)], &[], problems),
            key_permissions: table.choice(
                "key_permissions",
                &[("enforce", KeyPermissions::Enforce), ("warn", KeyPermissions::Warn)],
                &[],
                problems,
            ),
            intermediates_path: table.path_value("intermediates_path", problems),
            expected_sans: values::expected_sans(table, problems),
            accept_expired_until: values::date(table, "accept_expired_until", problems),
            spki_pins: values::pins(table, problems),
            crl_paths: values::paths(table, "crl_paths", problems),
            crl_scope: table.choice("crl_scope", &[("leaf", CrlScope::Leaf), ("chain", CrlScope::Chain)], &[], problems),
            crl_missing: table.choice("crl_missing", &[("deny", CrlMissing::Deny), ("allow", CrlMissing::Allow)], &[], problems),
            crl_expired: table.choice("crl_expired", &[("warn", CrlExpired::Warn), ("deny", CrlExpired::Deny)], &[], problems),
            post_quantum: table.choice(
                "post_quantum",
                &[("prefer", PostQuantum::Prefer), ("offer", PostQuantum::Offer), ("off", PostQuantum::Off)],
                &[],
                problems,
            ),
            key_log_path: table.path_value("key_log_path", problems),
        };
        table.finish(&KEYS, problems);
        raw
    }

    /// On a leg without TLS every key is refused, unless it merely repeats its default.
    fn refuse(&self, table: &Table, what: &str, problems: &mut Problems) {
        let keys = [
            ("verify_certs", self.verify_certs == Some(true)),
            ("accept_invalid_hostnames", self.accept_invalid_hostnames == Some(false)),
            ("root_ca_cert_path", false),
            ("include_system_cas", self.include_system_cas == Some(false)),
            ("client_cert_path", false),
            ("client_key_path", false),
            ("client_key_password", false),
            ("client_pkcs12_path", false),
            ("client_pkcs12_password", false),
            ("client_pkcs12_alias", false),
            ("server_name", false),
            ("min_version", self.min_version == Some(MinVersion::default())),
            ("key_permissions", self.key_permissions == Some(KeyPermissions::default())),
            ("intermediates_path", false),
            ("expected_sans", false),
            ("accept_expired_until", false),
            ("spki_pins", false),
            ("crl_paths", false),
            ("crl_scope", self.crl_scope == Some(CrlScope::default())),
            ("crl_missing", self.crl_missing == Some(CrlMissing::default())),
            ("crl_expired", self.crl_expired == Some(CrlExpired::default())),
            ("post_quantum", self.post_quantum == Some(PostQuantum::default())),
            ("key_log_path", false),
        ];
        for (key, repeats_default) in keys.into_iter().filter(|(key, _)| table.has(key)) {
            let said = format!("a TLS setting on {what}");
            let remedy = format!("remove {key}, or use a URL with TLS");
            if repeats_default {
                table.warn(key, problems, said, "there is no TLS here; the setting repeats its default and changes nothing", &remedy);
            } else {
                table.error(key, problems, said, "there is no TLS here, so the setting would be ignored", &remedy);
            }
        }
    }

    fn into_settings(self) -> TlsSettings {
        TlsSettings {
            verify_certs: self.verify_certs.unwrap_or(true),
            accept_invalid_hostnames: self.accept_invalid_hostnames.unwrap_or(false),
            root_ca_cert_path: self.root_ca_cert_path,
            include_system_cas: self.include_system_cas.unwrap_or(false),
            client_identity: match (self.client_cert_path, self.client_key_path) {
                (Some(cert_path), Some(key_path)) => Some(ClientIdentityFiles { cert_path, key_path }),
                _ => None,
            },
            client_key_password: self.client_key_password,
            client_pkcs12: self.client_pkcs12_path.map(|path| Pkcs12File {
                path,
                password: self.client_pkcs12_password,
                alias: self.client_pkcs12_alias,
            }),
            server_name: self.server_name,
            min_version: self.min_version.unwrap_or_default(),
            key_permissions: self.key_permissions.unwrap_or_default(),
            intermediates_path: self.intermediates_path,
            expected_sans: self.expected_sans,
            accept_expired_until: self.accept_expired_until,
            spki_pins: self.spki_pins,
            revocation: RevocationSettings {
                crl_paths: self.crl_paths,
                scope: self.crl_scope.unwrap_or_default(),
                missing: self.crl_missing.unwrap_or_default(),
                expired: self.crl_expired.unwrap_or_default(),
            },
            post_quantum: self.post_quantum.unwrap_or_default(),
            key_log_path: self.key_log_path,
        }
    }
}
