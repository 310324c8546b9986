//! `[mcp.servers.NAME.auth]`, and the rules for header names and values.

use http::{HeaderName, HeaderValue};

use super::{CredentialConfig, token_read};
use crate::{
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built},
};

pub const AUTH_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.auth",
    doc: "The credential that the upstream gets, in exactly one form.",
    keys: &[
        built("token", "Sent as `Authorization: Bearer …`; never printed."),
        built(
            "type",
            "`\"header\"` sends any one header, `\"forward\"` the caller's own bearer token; `\"client_credentials\"` and `\"token_exchange\"` fetch one.",
        ),
        built("name", "With `type = \"header\"`: the header's name."),
        built("value", "With `type = \"header\"`: its value; never printed."),
        built("allow_insecure_forward", "Lets a caller's token go over a connection that is not encrypted or not verified; loud."),
        built("token_url", "Where tokens are had."),
        built("client_id", "Who asks for them."),
        built("client_secret", "The proof of it; never printed."),
        built("private_key_jwt", "Instead of client_secret: a PEM file with the private key that signs each request."),
        built("key_id", "What the endpoint knows that key by (`kid`)."),
        built("scope", "What the token is for, in the endpoint's words."),
        built("resource", "The server that the token is for, as a URI."),
        built("audience", "The server that the token is for, in the endpoint's words."),
    ],
};

/// A credential as the file has it.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Read {
    pub(in crate::upstream) credential: CredentialConfig,
    /// A caller's own token may go where others can read it.
    pub(in crate::upstream) allow_insecure_forward: bool,
}

/// Reads the table.
pub(in crate::upstream) fn read(mut table: Table, problems: &mut Problems) -> Read {
    let credential = match (table.has("token"), table.has("type")) {
        (true, true) => {
            table.ignore(&["token", "type", "name", "value"]);
            table.ignore(&token_read::KEYS);
            table.hide("token");
            table.hide("client_secret");
            let why = "exactly one credential is sent";
            table.error("type", problems, "token and type together", why, "keep `token`, or keep `type` with its keys");
            None
        }
        (true, false) => secret_value(&mut table, "token", "token", problems).and_then(|token| bearer(&table, token, problems)),
        (false, true) => typed(&mut table, problems),
        (false, false) => {
            let remedy = "add token = \"{{ env.NAME }}\", or type = \"header\" with name and value, or remove the table";
            table.error("", problems, "a credential without a form", "an empty table would look as if a credential were sent", remedy);
            None
        }
    };
    let allows = table.bool("allow_insecure_forward", problems);
    let credential = credential.unwrap_or_default();
    let is_own = matches!(credential, CredentialConfig::Token(_) | CredentialConfig::Header { .. });
    if allows.is_some() && is_own {
        let why = "this credential is the gateway's own, which may go anywhere and is warned about there";
        table.error("allow_insecure_forward", problems, "nothing is forwarded that this could allow", why, "remove it");
    }
    table.finish(&AUTH_KEYS, problems);
    Read { credential, allow_insecure_forward: allows.unwrap_or(false) }
}

/// The name of a header, from the key `name`.
pub(in crate::upstream) fn header_name(table: &mut Table, problems: &mut Problems) -> Option<HeaderName> {
    let text = table.string("name", problems)?;
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        let why = "a header's name holds letters, digits and a few signs such as `-`; it starts with no colon";
        table.error("name", problems, "this is no name of a header", why, "write it as \"X-Api-Key\"");
    }
    name
}

/// A value that can be sent in a header. `named` is the header, or `token`.
pub(in crate::upstream) fn secret_value(table: &mut Table, key: &str, named: &str, problems: &mut Problems) -> Option<Secret> {
    if !table.has(key) {
        table.error(
            "",
            problems,
            format!("a header without `{key}`"),
            "it is what is sent",
            &format!("add {key} = \"{{{{ env.NAME }}}}\""),
        );
    }
    let value = if key == "token" { table.secret(key, problems)? } else { table.possible_secret(key, named, problems)? };
    if value.expose().trim().is_empty() {
        table.error(
            key,
            problems,
            "the value is empty",
            "an empty credential or header is refused by every server",
            "set it, or remove the table",
        );
        return None;
    }
    if HeaderValue::from_str(value.expose()).is_err() {
        let why = "a header holds no line breaks and no control characters";
        table.error(
            key,
            problems,
            "the value cannot be sent in a header",
            why,
            "remove them; a trailing newline of a file() is removed already",
        );
        return None;
    }
    Some(value)
}

/// Whether a header, in lower case, belongs to the connection or to the protocol (RFC 9110 §7.6.1; MCP, Streamable HTTP).
pub fn is_reserved_header(name: &str) -> bool {
    const NAMES: [&str; 16] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept",
        "accept-encoding",
        "last-event-id",
        "http2-settings",
        "forwarded",
    ];
    name.starts_with("mcp-") || name.starts_with("proxy-") || NAMES.contains(&name)
}

/// A bearer token holds no spaces (RFC 6750 §2.1), so a scheme in front of it is a slip.
fn bearer(table: &Table, token: Secret, problems: &mut Problems) -> Option<CredentialConfig> {
    if token.expose().chars().any(char::is_whitespace) || !token.expose().is_ascii() {
        let why = "a bearer token is one word; `Bearer ` is put in front of it by the gateway";
        table.error(
            "token",
            problems,
            "the token holds a space or a character beyond ASCII",
            why,
            "write the token alone, without \"Bearer\"",
        );
        return None;
    }
    Some(CredentialConfig::Token(token))
}

fn typed(table: &mut Table, problems: &mut Problems) -> Option<CredentialConfig> {
    #[derive(Clone, Copy)]
    enum Type {
        Header,
        Forward,
        ClientCredentials,
        TokenExchange,
    }
    let types = [
        ("header", Type::Header),
        ("forward", Type::Forward),
        ("client_credentials", Type::ClientCredentials),
        ("token_exchange", Type::TokenExchange),
    ];
    // Whatever stands in a table of credentials may be one.
    table.hide("type");
    match table.choice("type", &types, &[], problems) {
        Some(Type::Header) => header(table, problems),
        Some(Type::Forward) => Some(CredentialConfig::Forward),
        Some(Type::ClientCredentials) => token_read::read(table, false, problems),
        Some(Type::TokenExchange) => token_read::read(table, true, problems),
        None => {
            // The other keys belong to a type that is refused, so their absence or presence says nothing.
            table.ignore(&["name", "value"]);
            table.ignore(&token_read::KEYS);
            None
        }
    }
}

fn header(table: &mut Table, problems: &mut Problems) -> Option<CredentialConfig> {
    if !table.has("name") {
        table.error(
            "",
            problems,
            "type = \"header\" without `name`",
            "it says which header carries the credential",
            "add name = \"X-Api-Key\"",
        );
    }
    let name = header_name(table, problems);
    let value = secret_value(table, "value", "token", problems);
    let name = name?;
    if is_reserved_header(name.as_str()) {
        let why = "the gateway sets or removes this header itself; a credential in it would not arrive or would break the protocol";
        table.error("name", problems, "this header cannot carry a credential", why, "use the header that the server's documentation names");
        return None;
    }
    Some(CredentialConfig::Header { name, value: value? })
}
