//! Which settings contradict each other, and which weaken the connection.

use rustls::pki_types::ServerName;

use super::RawTls;
use crate::{
    problem::Problems,
    table::Table,
    tls::settings::{CrlExpired, CrlMissing, CrlScope},
};

/// What looks as if it protected the connection, and does nothing without verification.
const IGNORED: [(&str, &str); 5] = [
    ("root_ca_cert_path", "the CA file"),
    ("intermediates_path", "the file of intermediates"),
    ("expected_sans", "the names"),
    ("accept_expired_until", "the date"),
    ("crl_paths", "the revocation lists"),
];

impl RawTls {
    pub(super) fn check(&self, table: &Table, problems: &mut Problems) {
        Self::check_identity(table, problems);
        self.check_revocation(table, problems);
        let verifies = self.verify_certs.unwrap_or(true);
        let has_root = table.has("root_ca_cert_path");
        let has_pins = table.has("spki_pins");
        if !verifies {
            for (key, what) in IGNORED.iter().filter(|(key, _)| table.has(key)) {
                table.error(
                    "verify_certs",
                    problems,
                    format!("verify_certs = false together with {key}"),
                    &format!("without verification {what} would be ignored, although it looks as if it protected the connection"),
                    &format!("remove verify_certs = false, or remove {key}"),
                );
            }
        }
        if verifies && self.accept_invalid_hostnames == Some(true) && !has_root && !has_pins {
            table.error(
                "accept_invalid_hostnames",
                problems,
                "accept_invalid_hostnames without root_ca_cert_path or spki_pins",
                "anyone with a certificate of a public CA, for any name, could stand in for the server",
                "set server_name to the name in the certificate, or add root_ca_cert_path",
            );
        }
        if self.accept_invalid_hostnames == Some(true) && !self.expected_sans.is_empty() {
            table.error(
                "accept_invalid_hostnames",
                problems,
                "accept_invalid_hostnames together with expected_sans",
                "the expected names would be ignored, because any name is accepted",
                "remove one of the two",
            );
        }
        if verifies && !self.expected_sans.is_empty() && (!has_root || self.include_system_cas == Some(true)) {
            table.error(
                "expected_sans",
                problems,
                if has_root { "expected_sans together with include_system_cas" } else { "expected_sans without root_ca_cert_path" },
                "public CAs do not vouch for such names, so that only the CA that issues them may be trusted",
                "set root_ca_cert_path to that CA, without include_system_cas",
            );
        }
        if verifies && self.accept_invalid_hostnames == Some(true) && has_root && !has_pins && self.include_system_cas == Some(true) {
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

    fn check_revocation(&self, table: &Table, problems: &mut Problems) {
        let changed = [
            ("crl_scope", self.crl_scope.is_some_and(|scope| scope != CrlScope::default())),
            ("crl_missing", self.crl_missing.is_some_and(|missing| missing != CrlMissing::default())),
            ("crl_expired", self.crl_expired.is_some_and(|expired| expired != CrlExpired::default())),
        ];
        for (key, _) in changed.into_iter().filter(|(_, changed)| *changed && !table.has("crl_paths")) {
            table.error(
                key,
                problems,
                format!("{key} without crl_paths"),
                "without a revocation list nothing is checked",
                &format!("add crl_paths, or remove {key}"),
            );
        }
    }

    pub(super) fn warn(&self, table: &Table, problems: &mut Problems) {
        let has_pins = !self.spki_pins.is_empty();
        if self.verify_certs == Some(false) {
            table.insecure(
                "verify_certs",
                problems,
                "the server's certificate is not verified",
                if has_pins {
                    "only its key is compared with spki_pins: neither dates nor name nor revocation"
                } else {
                    "anyone on the way can stand in for this server, read the calls and change the answers"
                },
                "set root_ca_cert_path to the CA of the server, and remove verify_certs = false",
            );
        }
        if self.accept_invalid_hostnames == Some(true) {
            table.insecure(
                "accept_invalid_hostnames",
                problems,
                "the name in the server's certificate is not verified",
                if has_pins {
                    "only chain and key are: the key is compared with spki_pins"
                } else {
                    "every holder of a certificate of the same CA can stand in for this server"
                },
                "set server_name to the name in the certificate, and remove accept_invalid_hostnames",
            );
        }
        if self.accept_expired_until.is_some() {
            table.insecure(
                "accept_expired_until",
                problems,
                "expired certificates of the server are accepted until that date",
                "a certificate is no longer revoked after its end, so that a stolen key of an old one would do",
                "renew the server's certificate, and remove accept_expired_until",
            );
        }
        if self.key_log_path.is_some() {
            table.insecure(
                "key_log_path",
                problems,
                "the keys of all connections to this server are written to a file",
                "whoever reads the file can decrypt everything that was recorded, credentials included",
                "remove key_log_path as soon as the traffic is understood, and delete the file",
            );
        }
        if let [_] = self.spki_pins.as_slice() {
            table.warn(
                "spki_pins",
                problems,
                "there is only one pin",
                "when the server's key changes, the upstream is down until somebody comes",
                "add the pin of a second key, which the server's operator keeps in reserve",
            );
        }
    }
}
