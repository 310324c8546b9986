//! What a certificate says about itself, made safe to print: its text comes from whoever made it.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use rustls::pki_types::CertificateDer;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Name};

/// Longest text of a certificate that is ever shown, in characters.
const MAX_TEXT: usize = 128;

/// Most bytes of a serial number that are shown.
const MAX_SERIAL: usize = 32;

/// Most subject alternative names that are kept.
const MAX_NAMES: usize = 100;

/// Most of them that one sentence holds.
const MAX_NAMES_IN_WORDS: usize = 8;

/// What one certificate says about itself. Text is capped and escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    pub subject: String,
    pub issuer: String,
    pub common_name: Option<String>,
    pub issuer_common_name: Option<String>,
    /// In hexadecimal; the first 32 bytes of one that is longer than allowed (RFC 5280 §4.1.2.2: 20).
    pub serial: String,
    /// The first few subject alternative names, such as `a.test` and `10.0.0.1`.
    pub names: Vec<String>,
    /// How many alternative names there are beyond `names`.
    pub more_names: usize,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub is_ca: bool,
    /// X.509 v1 or v2: no extensions, which the verification cannot work with.
    pub old_version: bool,
    pub self_signed: bool,
    /// Absent extended key usage permits everything.
    pub for_servers: bool,
    pub for_clients: bool,
    /// Where the issuer's certificate is published, as the certificate claims.
    pub issuer_url: Option<String>,
    pub organization: Option<String>,
    pub issuer_organization: Option<String>,
    /// Of an RSA key, in bits.
    pub rsa_bits: Option<usize>,
    /// SHA-256 of the DER, in hexadecimal.
    pub fingerprint: String,
    /// `sha256/` and the base64 of SHA-256 over the public key (RFC 7469 §2.4): a pin.
    pub spki_sha256: String,
    raw_subject: Vec<u8>,
    raw_issuer: Vec<u8>,
}

impl CertificateFacts {
    /// Reads a DER certificate; `None` if it is none.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (for_servers, for_clients) = match certificate.extended_key_usage() {
            Ok(Some(usage)) => (usage.value.server_auth, usage.value.client_auth),
            Ok(None) => (true, true),
            Err(_) => (false, false),
        };
        let (names, more_names) = alternative_names(&certificate);
        Some(Self {
            subject: shown_name(certificate.subject()),
            issuer: shown_name(certificate.issuer()),
            common_name: common_name(certificate.subject()),
            issuer_common_name: common_name(certificate.issuer()),
            serial: certificate.raw_serial().iter().take(MAX_SERIAL).map(|byte| format!("{byte:02x}")).collect(),
            names,
            more_names,
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: certificate.is_ca(),
            old_version: certificate.version().0 < 2,
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            for_servers,
            for_clients,
            issuer_url: issuer_url(&certificate),
            organization: organization(certificate.subject()),
            issuer_organization: organization(certificate.issuer()),
            rsa_bits: match certificate.public_key().parsed() {
                Ok(x509_parser::public_key::PublicKey::RSA(key)) => Some(key.key_size()),
                _ => None,
            },
            fingerprint: fingerprint(der),
            spki_sha256: pin(certificate.public_key().raw),
            raw_subject: certificate.subject().as_raw().to_vec(),
            raw_issuer: certificate.issuer().as_raw().to_vec(),
        })
    }

    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        self.raw_issuer == issuer.raw_subject
    }

    /// Whether a trust anchor's subject, as webpki keeps it (without the outer header), is this certificate's issuer.
    pub(super) fn is_issued_in_the_name_of(&self, anchor_subject: &[u8]) -> bool {
        sequence_content(&self.raw_issuer) == Some(anchor_subject)
    }

    /// As [`Self::is_issued_in_the_name_of`], for the subject.
    pub(super) fn has_subject(&self, anchor_subject: &[u8]) -> bool {
        sequence_content(&self.raw_subject) == Some(anchor_subject)
    }

    /// `a.test, b.test and 3 more`; `None` without any.
    pub fn shown_names(&self) -> Option<String> {
        if self.names.is_empty() {
            return None;
        }
        let said: Vec<&str> = self.names.iter().take(MAX_NAMES_IN_WORDS).map(String::as_str).collect();
        let mut text = said.join(", ");
        let more = self.names.len() - said.len() + self.more_names;
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        Some(text)
    }

    pub fn validity_at(&self, now: Duration) -> Validity {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    NotYet,
    Valid,
    Expired,
}

/// Whether a character moves the cursor, hides, or reorders what stands beside it.
pub fn changes_the_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes what could change a terminal or a log, and cuts at 128 characters.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT * 4));
    for (count, c) in text.chars().enumerate() {
        if count == MAX_TEXT {
            out.push('…');
            break;
        }
        if changes_the_line(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// A distinguished name (DER) in words.
pub(super) fn shown_raw_name(der: &[u8]) -> Option<String> {
    X509Name::from_der(der).ok().map(|(_, name)| shown_name(&name))
}

/// `2026-01-31T12:00:00Z` of seconds since 1970.
pub fn shown_date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| "an impossible date".to_owned())
}

/// `3 days` between two times, in the largest unit that fits.
pub fn shown_span(from: i64, to: i64) -> String {
    let seconds = to.saturating_sub(from).unsigned_abs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What a DER SEQUENCE holds, without its header.
fn sequence_content(der: &[u8]) -> Option<&[u8]> {
    let header = match der.get(1)? {
        length @ 0x81..=0x84 => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    der.get(header..)
}

pub(super) fn shown_name(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no name)".to_owned() } else { shown(&text) }
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().and_then(|a| a.as_str().ok()).map(shown)
}

fn organization(name: &X509Name<'_>) -> Option<String> {
    name.iter_organization().next().and_then(|a| a.as_str().ok()).map(shown)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, usize) {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return (Vec::new(), 0) };
    let all = &extension.value.general_names;
    let names: Vec<_> = all.iter().take(MAX_NAMES).map(shown_general_name).collect();
    let more = all.len().saturating_sub(names.len());
    (names, more)
}

fn shown_general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) => shown(text),
        GeneralName::IPAddress(bytes) => address(bytes).map_or_else(|| "a malformed IP address".to_owned(), |ip| ip.to_string()),
        GeneralName::RFC822Name(text) => format!("e-mail {}", shown(text)),
        GeneralName::URI(text) => format!("URI {}", shown(text)),
        _ => "a name of another kind".to_owned(),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn issuer_url(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => access.accessdescs.iter().find_map(|description| {
            let is_ca_issuers = description.access_method == x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS;
            match &description.access_location {
                GeneralName::URI(url) if is_ca_issuers => Some(shown(url)),
                _ => None,
            }
        }),
        _ => None,
    })
}

fn pin(public_key_info: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public_key_info);
    format!("sha256/{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest))
}

fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    hexadecimal(digest.as_ref())
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_start_a_new_log_line_or_grow_without_end() {
        assert_eq!(shown("a\nb\u{1b}[31m\u{202e}"), "a\\u{a}b\\u{1b}[31m\\u{202e}");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn spans_are_told_in_the_largest_unit_that_fits() {
        assert_eq!(shown_span(0, 60), "60 seconds");
        assert_eq!(shown_span(0, 7_200), "2 hours");
        assert_eq!(shown_span(86_400 * 12, 0), "12 days");
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        assert_eq!(CertificateFacts::read(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), None);
    }
}
