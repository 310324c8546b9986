//! From a proven credential to a caller: its principal, its client name and its groups.

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::{
    Caller, CertificatePart, Denied, IdentificationConfig, IdentitySource, PrincipalKey,
    caller::{Identity, Proof},
    config::ClaimPath,
};
use crate::tls::{AlternativeName, ClientName, SubjectAttribute};

/// Most groups that one caller is in; further ones are left out.
const MAX_GROUPS: usize = 200;
/// Longest name of a client or group, in bytes.
const MAX_NAME: usize = 256;

/// The holder of a verified token.
pub(super) fn of_claims(claims: &Value, identification: Option<&IdentificationConfig>) -> Result<Caller, Denied> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    // RFC 9068 §2.2 demands `sub`; some issuers leave it out where a program and no person asks.
    let subject = text("sub").or_else(|| text("client_id")).or_else(|| text("azp")).ok_or(Denied::Invalid("the token has no sub"))?;
    let client = match identification.and_then(|identification| identification.client_id.claim.as_ref()) {
        Some(path) => client_of(path, claims).ok_or(Denied::Forbidden("the token lacks the claim of client_identification.client_id"))?,
        None => subject.to_owned(),
    };
    let groups = match identification {
        Some(IdentificationConfig { group_id: IdentitySource { claim: Some(path), .. }, group_values, .. }) => {
            let found = path.find(claims);
            let groups = groups_of(found, |group| group_values.is_empty() || group_values.contains(group));
            // One group that does not exist is a mistake; among several, others are not meant for us.
            if groups.is_empty() && found.is_some_and(Value::is_string) {
                return Err(UNKNOWN_GROUP);
            }
            groups
        }
        _ => Box::default(),
    };
    let principal = PrincipalKey::of("jwt", text("iss").unwrap_or_default(), subject);
    let proof = Proof::of("jwt", text("iss"), subject);
    Ok(Caller::new(Identity { proof, principal, client: Some(client.into()), groups, bearer: None }))
}

const UNKNOWN_GROUP: Denied = Denied::Forbidden("the group is not one of client_identification.validation.group_values");

fn client_of(path: &ClaimPath, claims: &Value) -> Option<String> {
    match path.find(claims)? {
        Value::String(text) if is_name(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn groups_of(found: Option<&Value>, is_known: impl Fn(&str) -> bool) -> Box<[Box<str>]> {
    let several = found.and_then(Value::as_array).into_iter().flatten();
    let all = several.chain(found.filter(|value| value.is_string()));
    all.filter_map(Value::as_str).filter(|group| is_name(group) && is_known(group)).take(MAX_GROUPS).map(Box::from).collect()
}

/// The owner of a client certificate that was verified in the handshake.
pub(super) fn of_certificate(certificate: &ClientName, identification: Option<&IdentificationConfig>) -> Result<Caller, Denied> {
    let configured = identification.and_then(|identification| identification.client_id.certificate);
    let (principal, client) = match configured {
        Some(part) => {
            let name = values(certificate, part).find(|name| is_name(name));
            let name = name.ok_or(Denied::Forbidden("the client certificate lacks the name of client_identification.client_id"))?;
            // The operator says that this is who they are: a certificate of another CA of the same trust, say at a CA's end, is theirs too.
            (PrincipalKey::of("certificate", part_word(part), name), name.to_owned())
        }
        None => by_distinguished_name(certificate)?,
    };
    let groups = match identification {
        Some(IdentificationConfig { group_id: IdentitySource { certificate: Some(part), .. }, group_values, .. }) => {
            let known =
                values(certificate, *part).filter(|group| is_name(group) && (group_values.is_empty() || group_values.contains(*group)));
            known.take(MAX_GROUPS).map(Box::from).collect()
        }
        _ => Box::default(),
    };
    let (issuer, subject) = certificate.in_words();
    // Where a part of it is configured, that is who they are.
    let proof = Proof::of("certificate", issuer, subject.filter(|_| configured.is_none()).unwrap_or(&client));
    Ok(Caller::new(Identity { proof, principal, client: Some(client.into()), groups, bearer: None }))
}

/// Issuer and subject; where there is no subject, the alternative names (RFC 5280 §4.1.2.6).
fn by_distinguished_name(certificate: &ClientName) -> Result<(PrincipalKey, String), Denied> {
    /// An empty SEQUENCE.
    const EMPTY: &[u8] = &[0x30, 0];
    let mut subject = certificate.subject.to_vec();
    if *subject == *EMPTY {
        for (kind, name) in certificate.all_alternatives() {
            subject.push(kind as u8);
            subject.extend_from_slice(&(name.len() as u64).to_be_bytes());
            subject.extend_from_slice(name.as_bytes());
        }
        if *subject == *EMPTY {
            return Err(Denied::Forbidden("the client certificate names nobody"));
        }
    }
    let principal = PrincipalKey::of("certificate_dn", &certificate.issuer, &subject);
    let common_name = certificate.attributes(SubjectAttribute::CommonName).next();
    let name = common_name.or_else(|| certificate.all_alternatives().next().map(|(_, name)| name));
    let client = name.filter(|name| is_name(name)).map(str::to_owned).unwrap_or_else(|| {
        let digits: Vec<String> = principal.as_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("certificate {}", digits.concat())
    });
    Ok((principal, client))
}

fn values(certificate: &ClientName, part: CertificatePart) -> Box<dyn Iterator<Item = &str> + '_> {
    match part {
        CertificatePart::Subject(attribute) => Box::new(certificate.attributes(attribute)),
        CertificatePart::Alternative(kind) => Box::new(certificate.alternatives(kind)),
    }
}

fn part_word(part: CertificatePart) -> &'static str {
    match part {
        CertificatePart::Subject(SubjectAttribute::CommonName) => "CN",
        CertificatePart::Subject(SubjectAttribute::Organization) => "O",
        CertificatePart::Subject(SubjectAttribute::OrganizationalUnit) => "OU",
        CertificatePart::Subject(SubjectAttribute::UserId) => "UID",
        CertificatePart::Subject(SubjectAttribute::Email) => "emailAddress",
        CertificatePart::Alternative(AlternativeName::Dns) => "dns",
        CertificatePart::Alternative(AlternativeName::Uri) => "uri",
        CertificatePart::Alternative(AlternativeName::Email) => "email",
    }
}

/// What a trusted peer says in headers of the one for whom it asks: client and group.
pub(super) fn of_headers<'a>(
    headers: &'a HeaderMap,
    identification: &IdentificationConfig,
) -> Result<(Option<&'a str>, Option<&'a str>), Denied> {
    let client = named_in(headers, identification.client_id.header.as_ref())?;
    let group = named_in(headers, identification.group_id.header.as_ref())?;
    let is_known = |group: &str| identification.group_values.is_empty() || identification.group_values.contains(group);
    if group.is_some_and(|group| !is_known(group)) {
        return Err(UNKNOWN_GROUP);
    }
    Ok((client, group))
}

fn named_in<'a>(headers: &'a HeaderMap, name: Option<&HeaderName>) -> Result<Option<&'a str>, Denied> {
    let Some(name) = name else { return Ok(None) };
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        // A proxy that adds its own beside the client's.
        return Err(Denied::Malformed("an identity header came several times"));
    }
    let value = value.to_str().map(str::trim).unwrap_or_default();
    if !is_name(value) {
        return Err(Denied::Malformed("an identity header holds no name"));
    }
    Ok(Some(value))
}

/// Takes identity headers out that nobody may believe, and every other spelling of them: servers behind us that put headers into
/// variables take `X_Client_Id` for `X-Client-Id`.
pub(super) fn strip(headers: &mut HeaderMap, identification: &IdentificationConfig, is_believed: bool) {
    for name in [&identification.client_id.header, &identification.group_id.header].into_iter().flatten() {
        let is_spelled_like = |other: &HeaderName| {
            let (ours, theirs) = (name.as_str().bytes(), other.as_str().bytes());
            let folded = |byte: u8| if byte == b'_' { b'-' } else { byte };
            ours.len() == theirs.len() && ours.map(folded).eq(theirs.map(folded))
        };
        let taken: Vec<HeaderName> =
            headers.keys().filter(|other| is_spelled_like(other) && !(is_believed && *other == name)).cloned().collect();
        for name in taken {
            headers.remove(name);
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}
