//! Whom a client certificate is for, exactly as it says: for telling callers apart, not for printing.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Name};

use super::inspect::shown_name;

/// Most names and attributes of one certificate that are kept.
const MAX_VALUES: usize = 100;
/// Longest of them, in bytes; a longer one is left out, because a part of a name is another name.
const MAX_LENGTH: usize = 512;

/// The names in a verified client certificate. Its text comes from whoever asked a trusted CA for it: show it only through
/// [`shown`](super::shown).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName {
    /// DER of the issuer's and of the subject's distinguished name.
    pub issuer: Box<[u8]>,
    pub subject: Box<[u8]>,
    issuer_words: Option<String>,
    subject_words: Option<String>,
    attributes: Vec<(SubjectAttribute, String)>,
    alternatives: Vec<(AlternativeName, String)>,
}

/// A part of a certificate's subject (RFC 4519).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectAttribute {
    CommonName,
    Organization,
    OrganizationalUnit,
    UserId,
    Email,
}

/// A kind of subject alternative name (RFC 5280 §4.2.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    Dns,
    Uri,
    Email,
}

impl ClientName {
    /// Reads a DER certificate; `None` if it is none.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            issuer: certificate.issuer().as_raw().into(),
            subject: certificate.subject().as_raw().into(),
            issuer_words: words(certificate.issuer()),
            subject_words: words(certificate.subject()),
            attributes: attributes(certificate.subject()),
            alternatives: alternatives(&certificate),
        })
    }

    /// The issuer's and the subject's distinguished names in words, as far as they have any; safe to be shown.
    pub fn in_words(&self) -> (Option<&str>, Option<&str>) {
        (self.issuer_words.as_deref(), self.subject_words.as_deref())
    }

    /// The values of one part of the subject, in the certificate's order.
    pub fn attributes(&self, kind: SubjectAttribute) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(found, _)| *found == kind).map(|(_, value)| value.as_str())
    }

    /// The alternative names of one kind, in the certificate's order.
    pub fn alternatives(&self, kind: AlternativeName) -> impl Iterator<Item = &str> {
        self.alternatives.iter().filter(move |(found, _)| *found == kind).map(|(_, value)| value.as_str())
    }

    /// Every alternative name with its kind.
    pub fn all_alternatives(&self) -> impl Iterator<Item = (AlternativeName, &str)> {
        self.alternatives.iter().map(|(kind, value)| (*kind, value.as_str()))
    }
}

fn words(name: &X509Name<'_>) -> Option<String> {
    name.iter().next().map(|_| shown_name(name))
}

fn attributes(name: &X509Name<'_>) -> Vec<(SubjectAttribute, String)> {
    let kinds = [
        ("2.5.4.3", SubjectAttribute::CommonName),
        ("2.5.4.10", SubjectAttribute::Organization),
        ("2.5.4.11", SubjectAttribute::OrganizationalUnit),
        ("0.9.2342.19200300.100.1.1", SubjectAttribute::UserId),
        ("1.2.840.113549.1.9.1", SubjectAttribute::Email),
    ];
    let of = |oid: String| kinds.iter().find(|(known, _)| *known == oid).map(|(_, kind)| *kind);
    let known = name.iter_attributes().take(MAX_VALUES).filter_map(|attribute| {
        let kind = of(attribute.attr_type().to_id_string())?;
        Some((kind, kept(attribute.as_str().ok()?)?))
    });
    known.collect()
}

fn alternatives(certificate: &X509Certificate<'_>) -> Vec<(AlternativeName, String)> {
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let known = names.flatten().take(MAX_VALUES).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((AlternativeName::Dns, kept(name)?.to_ascii_lowercase())),
        GeneralName::URI(uri) => Some((AlternativeName::Uri, kept(uri)?)),
        GeneralName::RFC822Name(address) => Some((AlternativeName::Email, kept(address)?)),
        _ => None,
    });
    known.collect()
}

fn kept(value: &str) -> Option<String> {
    (!value.is_empty() && value.len() <= MAX_LENGTH).then(|| value.to_owned())
}
