//! `[server.tls]` and `[admin.tls]`: from the file to [`ServerTlsSettings`].

use std::time::Duration;

use super::{
    KeyPermissions, MinVersion,
    server::{ClientCertificates, Demand, Places, ServerIdentityFiles, ServerTlsSettings},
};
use crate::{
    problem::Problems,
    table::{Key, Keys, Table, built, planned},
};

pub const KEYS: Keys = Keys { table: "server.tls", doc: "HTTPS for clients. Absent: plain HTTP.", keys: LISTENER_KEYS };

const LISTENER_KEYS: &[Key] = &[
    built("certificate", "PEM chain of the certificate, leaf first."),
    built("key", "The certificate's private key."),
    planned("pkcs12", "Certificate and key in one archive, instead of `certificate` and `key`."),
    planned("pkcs12_password", "The archive's password."),
    built("client_ca", "PEM or DER bundle of the CAs of client certificates; turns client certificates on."),
    built("client_auth", "`\"required\"` refuses clients without a certificate, `\"optional\"` does not."),
    planned("client_crl_paths", "Revocation lists for client certificates."),
    built("min_version", "Lowest TLS version: `\"1.2\"` or `\"1.3\"`."),
    built("hsts", "Tells browsers to come back over HTTPS only: `true`, or for how long."),
    built("key_permissions", "`\"enforce\"` refuses a private key that is open to others, `\"warn\"` only says so."),
];

/// What `hsts = true` means; browsers' preload lists ask for at least this.
const HSTS: Duration = Duration::from_secs(365 * 86_400);
const LONGEST_HSTS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads the table, whose path says which listener it is for. `None` when it names no usable certificate; the reason is recorded.
pub fn read(mut table: Table, keys: &Keys, problems: &mut Problems) -> Option<ServerTlsSettings> {
    let certificate = table.path_value("certificate", problems);
    let key = table.path_value("key", problems);
    let client_ca = table.path_value("client_ca", problems);
    let demand = table.choice("client_auth", &[("required", Demand::Required), ("optional", Demand::Optional)], &[], problems);
    let min_version = table.choice("min_version", &[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)], &[], problems);
    let hsts = table.switch_or_duration("hsts", HSTS, &(Duration::ZERO..=LONGEST_HSTS), problems);
    let key_permissions =
        table.choice("key_permissions", &[("enforce", KeyPermissions::Enforce), ("warn", KeyPermissions::Warn)], &[], problems);
    check(&table, problems);
    table.finish(keys, problems);
    Some(ServerTlsSettings {
        identity: ServerIdentityFiles { certificate: certificate?, key: key? },
        clients: client_ca.map(|ca| ClientCertificates { ca, demand: demand.unwrap_or_default() }),
        min_version: min_version.unwrap_or_default(),
        hsts,
        key_permissions: key_permissions.unwrap_or_default(),
        places: Places::of(&table, keys, problems.file()),
    })
}

fn check(table: &Table, problems: &mut Problems) {
    match (table.has("certificate"), table.has("key")) {
        (true, true) => {}
        (true, false) => table.error(
            "certificate",
            problems,
            "a certificate without its key",
            "a server proves with the key that the certificate is its own",
            "add `key`, the private key that the certificate was made with",
        ),
        (false, true) => table.error(
            "key",
            problems,
            "a key without its certificate",
            "clients verify the certificate",
            "add `certificate`, the PEM chain with the leaf first",
        ),
        (false, false) => table.error(
            "",
            problems,
            "TLS without a certificate",
            "there is nothing that could be shown to clients",
            "add `certificate` and `key`, or remove the table to serve plain HTTP; `nexus certs dev` makes both for development",
        ),
    }
    if table.has("client_auth") && !table.has("client_ca") {
        table.error(
            "client_auth",
            problems,
            "client_auth without client_ca",
            "without CAs no client certificate can be verified, so none would be asked for",
            "add `client_ca`, the CAs that issue client certificates, or remove client_auth",
        );
    }
}
