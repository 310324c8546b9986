//! `[mcp.servers.NAME.tls]`: from the file to [`TlsSettings`].

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::settings::{ClientIdentityFiles, KeyPermissions, MinVersion, Pkcs12File, TlsSettings};
use crate::{
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built, planned},
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
        planned("intermediates_path", "What the server forgets to send."),
        planned("expected_sans", "Names accepted instead of the host name."),
        planned("accept_expired_until", "Excuses an expired certificate for some days."),
        planned("spki_pins", "The keys that the leaf may have."),
        planned("crl_paths", "Revocation lists."),
        planned("crl_scope", "How far revocation is checked."),
        planned("crl_missing", "What a missing revocation list means."),
        planned("crl_expired", "What an old revocation list means."),
        planned("post_quantum", "Post-quantum key exchange."),
        planned("key_log_path", "Key log for Wireshark."),
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
        };
        table.finish(&KEYS, problems);
        raw
    }

    fn check(&self, table: &Table, problems: &mut Problems) {
        Self::check_identity(table, problems);
        let verifies = self.verify_certs.unwrap_or(true);
        let has_root = table.has("root_ca_cert_path");
        if !verifies && has_root {
            table.error(
                "verify_certs",
                problems,
                "verify_certs = false together with root_ca_cert_path",
                "without verification the CA file would be ignored, although it looks as if it protected the connection",
                "remove verify_certs = false, or remove root_ca_cert_path",
            );
        }
        if verifies && self.accept_invalid_hostnames == Some(true) && !has_root {
            table.error(
                "accept_invalid_hostnames",
                problems,
                "accept_invalid_hostnames without root_ca_cert_path",
                "anyone with a certificate of a public CA, for any name, could stand in for the server",
                "set server_name to the name in the certificate, or add root_ca_cert_path",
            );
        }
        if verifies && self.accept_invalid_hostnames == Some(true) && has_root && self.include_system_cas == Some(true) {
            table.error(
                "accept_invalid_hostnames",
                problems,
                "accept_invalid_hostnames together with include_system_cas",
                "anyone with a certificate of a public CA, for any name, could stand in for the server",
                "set server_name to the name in the certificate, or remove include_system_cas",
            );
        }
        if self.include_system_cas == Some(true) && !has_root {
            table.error(
                "include_system_cas",
                problems,
                "include_system_cas without root_ca_cert_path",
                "the system CAs are what is trusted anyway when no CA file is set",
                "add root_ca_cert_path, or remove include_system_cas",
            );
        }
        if self.server_name.as_deref().is_some_and(|name| ServerName::try_from(name).is_err()) {
            table.error(
                "server_name",
                problems,
                "the server name is neither a DNS name nor an IP address",
                "it is sent to the server and compared with the names in its certificate",
                "write one name from the certificate, without a scheme, a port or `*`",
            );
        }
    }

    fn check_identity(table: &Table, problems: &mut Problems) {
        match (table.has("client_cert_path"), table.has("client_key_path")) {
            (true, false) => table.error(
                "client_cert_path",
                problems,
                "client certificate without a key",
                "mutual TLS needs both; a certificate alone would be ignored",
                "add client_key_path, or remove client_cert_path",
            ),
            (false, true) => table.error(
                "client_key_path",
                problems,
                "client key without a certificate",
                "mutual TLS needs both; a key alone would be ignored",
                "add client_cert_path, or remove client_key_path",
            ),
            (true, true) | (false, false) => {}
        }
        if table.has("client_pkcs12_path") && (table.has("client_cert_path") || table.has("client_key_path")) {
            table.error(
                "client_pkcs12_path",
                problems,
                "client_pkcs12_path together with client_cert_path or client_key_path",
                "only one client certificate can be sent, and which of them was meant is not certain",
                "keep the archive, or keep the two files",
            );
        }
        for (key, needs) in [
            ("client_key_password", "client_key_path"),
            ("client_pkcs12_password", "client_pkcs12_path"),
            ("client_pkcs12_alias", "client_pkcs12_path"),
        ] {
            if table.has(key) && !table.has(needs) {
                table.error(
                    key,
                    problems,
                    format!("{key} without {needs}"),
                    "there is nothing that it could open or choose",
                    &format!("add {needs}, or remove {key}"),
                );
            }
        }
    }

    fn warn(&self, table: &Table, problems: &mut Problems) {
        if self.verify_certs == Some(false) {
            table.insecure(
                "verify_certs",
                problems,
                "the server's certificate is not verified",
                "anyone on the way can stand in for this server, read the calls and change the answers",
                "set root_ca_cert_path to the CA of the server, and remove verify_certs = false",
            );
        }
        if self.accept_invalid_hostnames == Some(true) {
            table.insecure(
                "accept_invalid_hostnames",
                problems,
                "the name in the server's certificate is not verified",
                "every holder of a certificate of the same CA can stand in for this server",
                "set server_name to the name in the certificate, and remove accept_invalid_hostnames",
            );
        }
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
        ];
        for (key, repeats_default) in keys.into_iter().filter(|(key, _)| table.has(key)) {
            let said = format!("a TLS setting on {what}");
            let remedy = format!("remove {key}, or use an https:// URL");
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
        }
    }
}
