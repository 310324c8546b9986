//! `[server.tls]` and `[admin.tls]`: from the file to [`ServerTlsSettings`].

use std::time::Duration;

use super::{
    KeyPermissions, MinVersion,
    server::{ClientCertificates, Demand, Places, ServerIdentityFiles, ServerTlsSettings},
};
use crate::{
    problem::Problems,
    table::{Key, Keys, Table, built},
};

pub const KEYS: Keys = Keys { table: "server.tls", doc: "HTTPS for clients. Absent: plain HTTP.", keys: LISTENER_KEYS };

/// The same table for the admin listener.
pub const ADMIN_KEYS: Keys = Keys { table: "admin.tls", doc: "HTTPS for operators. Absent: plain HTTP.", keys: LISTENER_KEYS };

const LISTENER_KEYS: &[Key] = &[
    built("certificate", "PEM chain of the certificate, leaf first."),
    built("key", "The certificate's private key."),
    built("key_password", "Opens an encrypted `key`; never printed."),
    built("pkcs12", "Certificate and key in one PKCS#12 archive, instead of `certificate` and `key`."),
    built("pkcs12_password", "Opens the archive; never printed."),
    built("pkcs12_alias", "Which key of the archive, when it holds several."),
    built("client_ca", "PEM or DER bundle of the CAs of client certificates; turns client certificates on."),
    built("client_auth", "`\"required\"` refuses clients without a certificate, `\"optional\"` does not."),
    built("client_crl_paths", "Revocation lists of the CAs of client certificates, PEM or DER."),
    built("min_version", "Lowest TLS version: `\"1.2\"` or `\"1.3\"`."),
    built("hsts", "Tells browsers to come back over HTTPS only: `true`, or for how long."),
    built("key_permissions", "`\"enforce\"` refuses a private key that is open to others, `\"warn\"` only says so."),
];

/// What `hsts = true` means: two years, as Mozilla's recommendations for servers have it.
const HSTS: Duration = Duration::from_secs(2 * 365 * 86_400);
const LONGEST_HSTS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads the table, whose path says which listener it is for. `None` when it names no usable certificate; the reason is recorded.
pub fn read(mut table: Table, keys: &'static Keys, problems: &mut Problems) -> Option<ServerTlsSettings> {
    let identity = identity(&mut table, problems);
    let client_ca = table.path_value("client_ca", problems);
    let demand = table.choice("client_auth", &[("required", Demand::Required), ("optional", Demand::Optional)], &[], problems);
    let crls = table.strings("client_crl_paths", problems).unwrap_or_default();
    let crls = crls.iter().map(|path| table.in_folder(path).into()).collect();
    let min_version = table.choice("min_version", &[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)], &[], problems);
    let hsts = table.switch_or_duration("hsts", HSTS, &(Duration::ZERO..=LONGEST_HSTS), problems);
    let key_permissions =
        table.choice("key_permissions", &[("enforce", KeyPermissions::Enforce), ("warn", KeyPermissions::Warn)], &[], problems);
    check(&table, problems);
    table.finish(keys, problems);
    Some(ServerTlsSettings {
        identity: identity?,
        clients: client_ca.map(|ca| ClientCertificates { ca, demand: demand.unwrap_or_default(), crls }),
        min_version: min_version.unwrap_or_default(),
        hsts,
        key_permissions: key_permissions.unwrap_or_default(),
        places: Places::of(&table, keys, problems.file()),
    })
}

fn identity(table: &mut Table, problems: &mut Problems) -> Option<ServerIdentityFiles> {
    let (certificate, key) = (table.path_value("certificate", problems), table.path_value("key", problems));
    let key_password = table.secret("key_password", problems);
    let archive = table.path_value("pkcs12", problems);
    let (password, alias) = (table.secret("pkcs12_password", problems), table.string("pkcs12_alias", problems));
    match archive {
        Some(path) => Some(ServerIdentityFiles::Archive { path, password, alias }),
        None => Some(ServerIdentityFiles::Two { certificate: certificate?, key: key?, password: key_password }),
    }
}

fn check(table: &Table, problems: &mut Problems) {
    let pair = table.has("certificate") || table.has("key");
    if table.has("pkcs12") {
        if pair {
            table.error(
                "pkcs12",
                problems,
                "pkcs12 together with certificate and key",
                "only one of them could be used",
                "remove one of the two",
            );
        }
    } else {
        check_pair(table, problems);
    }
    for (key, needs, why, remedy) in NEEDS {
        if table.has(key) && !table.has(needs) {
            table.error(key, problems, format!("{key} without {needs}"), why, remedy);
        }
    }
}

/// What means nothing without another key: which, why, and what to do.
const NEEDS: [(&str, &str, &str, &str); 5] = [
    (
        "client_auth",
        "client_ca",
        "without CAs no client certificate can be verified, so none would be asked for",
        "add `client_ca`, the CAs that issue client certificates, or remove client_auth",
    ),
    (
        "client_crl_paths",
        "client_ca",
        "without CAs no client certificate is asked for, so none could be found revoked",
        "add `client_ca`, the CAs that issue client certificates, or remove client_crl_paths",
    ),
    ("key_password", "key", "there is no key that it could open", "add `key`, or remove key_password"),
    ("pkcs12_password", "pkcs12", "there is no archive that it could open", "add `pkcs12`, or remove pkcs12_password"),
    ("pkcs12_alias", "pkcs12", "there is no archive with several keys", "add `pkcs12`, or remove pkcs12_alias"),
];

fn check_pair(table: &Table, problems: &mut Problems) {
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
            "add `certificate` and `key`, or `pkcs12`, or remove the table to serve plain HTTP; `nexus certs dev` makes both for development",
        ),
    }
}
