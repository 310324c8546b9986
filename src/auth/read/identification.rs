//! `[server.client_identification]`

use http::{HeaderName, header};

use super::Around;
use crate::{
    auth::{CertificatePart, ClaimPath, IdentificationConfig, IdentitySource},
    problem::Problems,
    table::{Key, Keys, Table, built},
    tls::{AlternativeName, SubjectAttribute},
};

pub const KEYS: Keys = Keys {
    table: "server.client_identification",
    doc: "Which name and which groups a client has.",
    keys: &[
        built("enabled", "Whether clients are named by what follows, and those without a name turned away."),
        built("client_id", "Where the client's name is taken from."),
        built("group_id", "Where its groups are taken from."),
        built("validation", "The groups that there are."),
    ],
};

pub const CLIENT_ID_KEYS: Keys =
    Keys { table: "server.client_identification.client_id", doc: "Where the client's name is taken from.", keys: SOURCE_KEYS };

pub const GROUP_ID_KEYS: Keys =
    Keys { table: "server.client_identification.group_id", doc: "Where its groups are taken from.", keys: SOURCE_KEYS };

pub const VALIDATION_KEYS: Keys = Keys {
    table: "server.client_identification.validation",
    doc: "The groups that there are.",
    keys: &[built("group_values", "Their names; empty: any.")],
};

const SOURCE_KEYS: &[Key] = &[
    built("jwt_claim", "For tokens: the claim, or its path: `realm_access.roles`."),
    built("http_header", "For requests of trusted peers: the header."),
    built("tls_subject", "For client certificates: a part of the subject."),
    built("tls_san", "For client certificates: a kind of alternative name."),
];

const SUBJECT: [(&str, SubjectAttribute); 5] = [
    ("CN", SubjectAttribute::CommonName),
    ("O", SubjectAttribute::Organization),
    ("OU", SubjectAttribute::OrganizationalUnit),
    ("UID", SubjectAttribute::UserId),
    ("emailAddress", SubjectAttribute::Email),
];
const ALTERNATIVE: [(&str, AlternativeName); 3] =
    [("dns", AlternativeName::Dns), ("uri", AlternativeName::Uri), ("email", AlternativeName::Email)];

/// `None`: it is not enabled. What it says is checked all the same.
pub(super) fn read(mut table: Table, has_tokens: bool, around: Around, problems: &mut Problems) -> Option<IdentificationConfig> {
    let table = &mut table;
    let enabled = table.bool("enabled", problems).unwrap_or(false);
    let client_id = table.table("client_id", problems).map(|table| source(table, &CLIENT_ID_KEYS, has_tokens, around, problems));
    let group_id = table.table("group_id", problems).map(|table| source(table, &GROUP_ID_KEYS, has_tokens, around, problems));
    let group_values = table.table("validation", problems).map(|mut table| {
        let values = table.strings("group_values", problems).unwrap_or_default();
        table.finish(&VALIDATION_KEYS, problems);
        values.into_iter().collect()
    });
    table.finish(&KEYS, problems);
    let config = IdentificationConfig {
        client_id: client_id.unwrap_or_default(),
        group_id: group_id.unwrap_or_default(),
        group_values: group_values.unwrap_or_default(),
    };
    enabled.then_some(config)
}

fn source(mut table: Table, keys: &'static Keys, has_tokens: bool, around: Around, problems: &mut Problems) -> IdentitySource {
    let table = &mut table;
    let claim = table.string("jwt_claim", problems);
    if claim.as_deref() == Some("") {
        table.error("jwt_claim", problems, "the claim has no name", "no token has such a claim", "name one, such as \"sub\"");
    }
    let header = header(table, around, problems);
    let subject = table.choice("tls_subject", &SUBJECT, &[], problems).map(CertificatePart::Subject);
    let alternative = table.choice("tls_san", &ALTERNATIVE, &[], problems).map(CertificatePart::Alternative);
    if subject.is_some() && alternative.is_some() {
        table.error("tls_san", problems, "tls_subject together with tls_san", "only one of them could count", "remove one of the two");
    }
    if claim.is_some() && !has_tokens {
        let why = "claims are believed only of tokens that are validated";
        table.warn(
            "jwt_claim",
            problems,
            "jwt_claim without [server.oauth]: no client has it",
            why,
            "add [server.oauth], or remove jwt_claim",
        );
    }
    let certificate = subject.or(alternative);
    if certificate.is_some() && !around.asks_for_certificates {
        let key = if subject.is_some() { "tls_subject" } else { "tls_san" };
        let what = format!("{key} without server.tls.client_ca: no client has a certificate");
        table.warn(
            key,
            problems,
            what,
            "client certificates are asked for where their CAs are named",
            "set server.tls.client_ca, or remove it",
        );
    }
    table.finish(keys, problems);
    IdentitySource { claim: claim.filter(|claim| !claim.is_empty()).map(ClaimPath), header, certificate }
}

fn header(table: &mut Table, around: Around, problems: &mut Problems) -> Option<HeaderName> {
    let text = table.string("http_header", problems)?;
    let refused = |table: &Table, problems: &mut Problems, what: &str, why: &str| {
        table.error("http_header", problems, what, why, "name a header that your proxy sets, such as \"X-Client-Id\"");
        None
    };
    let Ok(name) = HeaderName::try_from(text.as_str()) else {
        return refused(table, problems, "this is no header's name", "no request can have it");
    };
    if [header::AUTHORIZATION, header::COOKIE, header::HOST].contains(&name) || matches!(name.as_str(), "x-api-key") {
        return refused(table, problems, "this header has another meaning", "a credential or an address is no name, and names are logged");
    }
    if name.as_str().starts_with("mcp-") {
        return refused(table, problems, "this header belongs to the protocol", "clients set it by themselves");
    }
    if !around.names_proxies && !around.asks_for_certificates {
        table.warn(
            "http_header",
            problems,
            "http_header without trusted_proxies: the header is never believed",
            "anyone can send it, and would be whom they like",
            "set [server.client_ip] trusted_proxies to the addresses of your proxies",
        );
    }
    Some(name)
}
