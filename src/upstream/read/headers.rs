//! `[[mcp.headers]]` and `[[mcp.servers.NAME.headers]]`.

use http::{HeaderName, HeaderValue};

use super::super::credential::{
    CredentialConfig, HeaderRule, HeaderRules,
    read::{is_reserved_header, secret_value},
};
use crate::{
    problem::Problems,
    secret::Secret,
    table::{Key, Keys, Table, built},
};

const RULE_KEYS: [Key; 5] = [
    built(
        "rule",
        "`\"insert\"` sets the header, `\"forward\"` passes on the caller's, `\"remove\"` and `\"rename\"` change what earlier rules have set.",
    ),
    built("name", "The header's name."),
    built("value", "With `\"insert\"`: its value; never printed."),
    built("default", "With `\"forward\"`: its value when the caller sent none; never printed."),
    built("rename", "With `\"rename\"`, and if wanted with `\"forward\"`: its name for the upstream."),
];

pub const HEADER_KEYS: Keys =
    Keys { table: "mcp.servers.NAME.headers", doc: "One header that the upstream gets, in a list of tables.", keys: &RULE_KEYS };

pub const ALL_HEADER_KEYS: Keys =
    Keys { table: "mcp.headers", doc: "One header that all upstreams with a URL get, in a list of tables.", keys: &RULE_KEYS };

#[derive(Clone, Copy)]
enum Kind {
    Insert,
    Forward,
    Remove,
    Rename,
}

const KINDS: [(&str, Kind); 4] = [("insert", Kind::Insert), ("forward", Kind::Forward), ("remove", Kind::Remove), ("rename", Kind::Rename)];

/// Reads the list `headers` of a table.
pub fn read(table: &mut Table, keys: &'static Keys, credential: &CredentialConfig, problems: &mut Problems) -> HeaderRules {
    let mut rules: Vec<HeaderRule> = Vec::new();
    for mut rule in table.tables("headers", problems) {
        let kind = rule.choice("rule", &KINDS, &[], problems);
        if !rule.has("rule") {
            rule.error("", problems, "a header rule without `rule`", "it says what is done with the header", "add rule = \"insert\"");
        }
        let Some(kind) = kind else {
            // Another rule has other keys.
            rule.hide("value");
            continue;
        };
        let read = one(&mut rule, kind, problems);
        for (key, belongs) in [
            ("value", matches!(kind, Kind::Insert)),
            ("default", matches!(kind, Kind::Forward)),
            ("rename", matches!(kind, Kind::Forward | Kind::Rename)),
        ] {
            if rule.has(key) && !belongs {
                rule.hide(key);
                rule.ignore(&[key]);
                let remedy = format!("remove {key}, or correct rule");
                rule.error(key, problems, "this key does not belong to the rule", "it would be ignored", &remedy);
            }
        }
        rule.finish(keys, problems);
        let Some(read) = read else { continue };
        let target = read.target();
        if let Some(what) = target.and_then(|name| taken_by_credential(name, credential)) {
            let why = "two credentials would be sent, and which of them counts is up to the server";
            rule.error("name", problems, what, why, "remove the header, or the [auth] table");
        } else if matches!(read, HeaderRule::Insert { .. })
            && rules.iter().any(|earlier| matches!(earlier, HeaderRule::Insert { name, .. } if Some(name) == target))
        {
            let why = "only one value can be sent, and which of them was meant is not certain";
            rule.error("name", problems, "this header is inserted twice", why, "remove one of the two");
        } else {
            rules.push(read);
        }
    }
    HeaderRules::new(rules)
}

fn one(rule: &mut Table, kind: Kind, problems: &mut Problems) -> Option<HeaderRule> {
    if !rule.has("name") {
        rule.error("", problems, "a header rule without `name`", "it says which header is meant", "add name = \"X-…\"");
    }
    let name = header_name(rule, "name", problems);
    let named = name.as_ref().map_or("", HeaderName::as_str).to_owned();
    match kind {
        Kind::Insert => {
            let value = sensitive(&secret_value(rule, "value", &named, problems)?)?;
            Some(HeaderRule::Insert { name: name?, value })
        }
        Kind::Forward => {
            let rename = rule.has("rename").then(|| header_name(rule, "rename", problems));
            let default = rule.has("default").then(|| secret_value(rule, "default", &named, problems).as_ref().and_then(sensitive));
            let name = name?;
            if name == http::header::AUTHORIZATION || name == http::header::COOKIE {
                let remedy = "use type = \"forward\" in [mcp.servers.NAME.auth], which keeps callers apart";
                let why = "with another's token in it, an answer of one caller's could be another's";
                rule.error("name", problems, "a caller's credential is not forwarded as a header", why, remedy);
                return None;
            }
            Some(HeaderRule::Forward { name, rename: rename.map_or(Some(None), |rename| rename.map(Some))?, default: default.flatten() })
        }
        Kind::Remove => Some(HeaderRule::Remove { name: name? }),
        Kind::Rename => {
            if !rule.has("rename") {
                rule.error("", problems, "rule = \"rename\" without `rename`", "it says the new name", "add rename = \"X-…\"");
            }
            let rename = header_name(rule, "rename", problems);
            Some(HeaderRule::Rename { name: name?, rename: rename? })
        }
    }
}

fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn header_name(rule: &mut Table, key: &str, problems: &mut Problems) -> Option<HeaderName> {
    let text = rule.string(key, problems)?;
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let why = "a header's name holds letters, digits and a few signs such as `-`; it starts with no colon";
        rule.error(key, problems, "this is no name of a header", why, "write it as \"X-Api-Key\"");
        return None;
    };
    if is_reserved_header(name.as_str()) {
        let why = "the gateway sets or removes this header itself; another value would break the connection or the protocol";
        rule.error(key, problems, "this header cannot be configured", why, "remove the rule");
        return None;
    }
    Some(name)
}

fn taken_by_credential(name: &HeaderName, credential: &CredentialConfig) -> Option<&'static str> {
    match credential {
        CredentialConfig::None => None,
        CredentialConfig::Token(_)
        | CredentialConfig::Forward
        | CredentialConfig::ClientCredentials(_)
        | CredentialConfig::TokenExchange(_) => (name == http::header::AUTHORIZATION).then_some("Authorization is already set by [auth]"),
        CredentialConfig::Header { name: taken, .. } => {
            (name == taken || name == http::header::AUTHORIZATION).then_some("the credential is already set by [auth]")
        }
    }
}
