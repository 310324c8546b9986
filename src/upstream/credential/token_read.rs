//! The keys of `[mcp.servers.NAME.auth]` that say how tokens are had.

use url::Url;

use super::config::{CredentialConfig, ProofConfig, TokenConfig};
use crate::{problem::Problems, table::Table};

/// The keys of both types.
pub(super) const KEYS: [&str; 8] =
    ["token_url", "client_id", "client_secret", "private_key_jwt", "key_id", "scope", "resource", "audience"];

/// Reads `type = "client_credentials"` and `type = "token_exchange"`.
pub(super) fn read(table: &mut Table, exchanges: bool, problems: &mut Problems) -> Option<CredentialConfig> {
    for (key, why) in [("token_url", "it says where tokens are had"), ("client_id", "it says who asks for them")] {
        if !table.has(key) {
            table.error("", problems, format!("tokens without `{key}`"), why, &format!("add {key} = \"…\""));
        }
    }
    let url = url(table, problems);
    let client_id = filled(table, "client_id", problems);
    let proof = proof(table, exchanges, problems);
    let [scope, resource, audience] =
        ["scope", "resource", "audience"].map(|key| table.has(key).then(|| filled(table, key, problems)).flatten());
    let token = TokenConfig { url: url?, client_id: client_id?, proof: proof?, scope, resource, audience };
    let token = Box::new(token);
    Some(if exchanges { CredentialConfig::TokenExchange(token) } else { CredentialConfig::ClientCredentials(token) })
}

fn filled(table: &mut Table, key: &str, problems: &mut Problems) -> Option<String> {
    let text = table.string(key, problems)?;
    if text.trim().is_empty() {
        table.error(
            key,
            problems,
            "the value is empty",
            "an empty one means nothing to a token endpoint",
            &format!("set {key}, or remove it"),
        );
        return None;
    }
    Some(text)
}

fn proof(table: &mut Table, exchanges: bool, problems: &mut Problems) -> Option<ProofConfig> {
    if table.has("key_id") && !table.has("private_key_jwt") {
        table.ignore(&["key_id"]);
        table.error("key_id", problems, "key_id without private_key_jwt", "no key is shown that it could name", "remove it");
    }
    match (table.has("client_secret"), table.has("private_key_jwt")) {
        (true, true) => {
            table.ignore(&["client_secret", "private_key_jwt", "key_id"]);
            let why = "a token endpoint is shown exactly one proof";
            table.error("private_key_jwt", problems, "client_secret and private_key_jwt together", why, "keep one of them");
            None
        }
        (true, false) => {
            let secret = table.secret("client_secret", problems)?;
            if secret.expose().is_empty() {
                table.error("client_secret", problems, "the value is empty", "no endpoint takes an empty secret", "set it, or remove it");
                return None;
            }
            Some(ProofConfig::Secret(secret))
        }
        (false, true) => {
            let id = table.has("key_id").then(|| filled(table, "key_id", problems)).flatten();
            table.path_value("private_key_jwt", problems).map(|path| ProofConfig::Key { path, id })
        }
        (false, false) if exchanges => Some(ProofConfig::None),
        (false, false) => {
            let why = "nobody gets a token by his name alone";
            let remedy = "add client_secret = \"{{ env.NAME }}\", or private_key_jwt = \"key.pem\"";
            table.error("", problems, "client credentials without a proof", why, remedy);
            None
        }
    }
}

fn url(table: &mut Table, problems: &mut Problems) -> Option<Url> {
    let text = table.string("token_url", problems)?;
    let is_usable = |url: &Url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(&text).ok().filter(is_usable);
    if url.is_none() {
        table.hide("token_url");
        let why = "it must be an https:// or http:// URL, without user information and fragment";
        table.error(
            "token_url",
            problems,
            "tokens cannot be asked for at this URL",
            why,
            "write it as \"https://idp.example.com/oauth2/token\"",
        );
    }
    url
}
