//! The tables of `[server]` that say who may call: from the file to [`AuthConfig`].

mod api_keys;
mod identification;
mod oauth;

use std::{collections::BTreeSet, sync::Arc};

pub use api_keys::KEYS as API_KEY_KEYS;
pub use identification::{CLIENT_ID_KEYS, GROUP_ID_KEYS, KEYS as IDENTIFICATION_KEYS, VALIDATION_KEYS};
pub use oauth::{KEYS as OAUTH_KEYS, RESOURCE_KEYS};

use super::{ApiKey, AuthConfig, IdentificationConfig};
use crate::{problem::Problems, table::Table};

/// What else of `[server]` matters for identity headers and certificates.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// `client_ip.trusted_proxies` is not empty.
    pub names_proxies: bool,
    /// `tls.client_ca` is there.
    pub asks_for_certificates: bool,
}

/// Reads `oauth`, `api_keys` and `client_identification` of `server`.
pub fn read(server: &mut Table, around: Around, problems: &mut Problems) -> AuthConfig {
    let oauth = server.table("oauth", problems).and_then(|table| oauth::read(table, problems));
    let api_keys = api_keys::read(server, problems);
    let has_tokens = server.has("oauth");
    let identification =
        server.table("client_identification", problems).and_then(|table| identification::read(table, has_tokens, around, problems));
    check_groups(server, &api_keys, identification.as_ref(), problems);
    AuthConfig { oauth: oauth.map(Arc::new), api_keys: api_keys.into(), identification: identification.map(Arc::new) }
}

/// A group that does not exist gives a key no access, and looks as if it did.
fn check_groups(server: &Table, keys: &[ApiKey], identification: Option<&IdentificationConfig>, problems: &mut Problems) {
    let known: &BTreeSet<String> = match identification {
        Some(identification) if !identification.group_values.is_empty() => &identification.group_values,
        _ => return,
    };
    for key in keys {
        if let Some(group) = key.group.as_ref().filter(|group| !known.contains(*group)) {
            let listed = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            server.error(
                "api_keys",
                problems,
                format!("the key {:?} is in a group that does not exist: {group:?}", key.id),
                "client_identification.validation.group_values lists the groups that there are",
                &format!("use one of {listed}, or add the group to group_values"),
            );
        }
    }
}
