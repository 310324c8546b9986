//! What is wrong with one certificate by itself: dates, version, key, signature, usage.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    oid_registry::{self as oids, Oid, asn1_rs::oid},
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
};

use crate::{
    finding::{Finding, Severity},
    reason::Reason,
    tls::inspect::{CertificateFacts, shown, shown_date, shown_span},
};

/// Least and most bits of an RSA key whose signatures can be verified.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Critical extensions that the verification understands.
const UNDERSTOOD: [Oid<'static>; 6] = [
    oids::OID_X509_EXT_KEY_USAGE,
    oids::OID_X509_EXT_SUBJECT_ALT_NAME,
    oids::OID_X509_EXT_BASIC_CONSTRAINTS,
    oids::OID_X509_EXT_NAME_CONSTRAINTS,
    oids::OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    oids::OID_X509_EXT_EXTENDED_KEY_USAGE,
];

/// The TLS feature extension (RFC 7633 §4.1): "must staple".
const TLS_FEATURE: Oid<'static> = oid!(1.3.6.1.5.5.7.1.24);

/// Where a certificate stands in a server's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leaf,
    /// Needed between the leaf and its anchor.
    Issuer,
    /// Not needed.
    Bystander,
}

/// A presented certificate that can be read.
pub(super) struct Certificate<'a> {
    pub(super) der: &'a CertificateDer<'static>,
    pub(super) facts: CertificateFacts,
    pub(super) parsed: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { facts: CertificateFacts::read(der)?, der, parsed })
    }

    /// Every finding about it. `now` in seconds since 1970.
    pub(super) fn findings(&self, role: Role, now: i64) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.dates(role, now).into_iter().collect();
        if role != Role::Bystander {
            found.extend(self.form(role));
            found.extend(self.key(role));
            found.extend(self.signature(role));
            found.extend(self.usage(role));
        }
        found
    }

    pub(super) fn demands_a_staple(&self) -> bool {
        self.parsed.extensions().iter().any(|extension| extension.oid == TLS_FEATURE)
    }

    fn words(&self, role: Role) -> String {
        match role {
            Role::Leaf => format!("the server's certificate {}", self.facts.subject),
            Role::Issuer => format!("the intermediate certificate {}", self.facts.subject),
            Role::Bystander => format!("the certificate {}, which the server sends without need,", self.facts.subject),
        }
    }

    fn dates(&self, role: Role, now: i64) -> Option<Finding> {
        let CertificateFacts { not_before, not_after, .. } = self.facts;
        let whose = self.words(role);
        let (expired, renewal) = match role {
            Role::Leaf => (Reason::TlsExpired, "renew the certificate on the server"),
            Role::Issuer => (Reason::TlsIntermediateExpired, "replace the intermediate in the server's certificate chain"),
            Role::Bystander => (Reason::TlsIntermediateExpired, "remove it from the server's certificate chain"),
        };
        let severity = if role == Role::Bystander { Severity::Info } else { Severity::Error };
        if not_before > not_after {
            let detail = format!(
                "{whose} has impossible dates: it begins on {} and ends before, on {}",
                shown_date(not_before),
                shown_date(not_after)
            );
            return Some(Finding::new(expired, severity, detail, "reissue the certificate"));
        }
        if now > not_after {
            let detail = format!("{whose} expired {} ago, on {}", shown_span(not_after, now), shown_date(not_after));
            return Some(Finding::new(expired, severity, detail, renewal));
        }
        if now < not_before {
            let detail = format!(
                "{whose} is valid only from {}, in {}; the clock here says {}",
                shown_date(not_before),
                shown_span(now, not_before),
                shown_date(now)
            );
            let remedy = "check this machine's clock first, then the server's certificate";
            return Some(Finding::new(Reason::TlsNotYetValid, severity, detail, remedy));
        }
        None
    }

    fn form(&self, role: Role) -> Vec<Finding> {
        let whose = self.words(role);
        let remedy = "reissue it as an ordinary X.509 version 3 certificate";
        let mut found = Vec::new();
        if self.facts.old_version {
            let version = self.parsed.version().0.saturating_add(1);
            let detail = format!("{whose} is an X.509 version {version} certificate, which cannot be verified");
            found.push(Finding::new(Reason::TlsCertVersion, Severity::Error, detail, remedy));
        }
        let strange = self.parsed.extensions().iter().find(|extension| extension.critical && !UNDERSTOOD.contains(&extension.oid));
        if let Some(extension) = strange {
            let oid = shown(&extension.oid.to_string());
            let detail = format!("{whose} has a critical extension that is not understood ({oid})");
            found.push(Finding::new(Reason::TlsCertVersion, Severity::Error, detail, remedy));
        }
        found
    }

    fn key(&self, role: Role) -> Option<Finding> {
        let whose = self.words(role);
        let info = self.parsed.public_key();
        let kind = &info.algorithm.algorithm;
        let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let problem = match info.parsed() {
            Ok(PublicKey::RSA(key)) if !RSA_BITS.contains(&key.key_size()) => {
                format!("an RSA key of {} bits; between {} and {} are needed", key.key_size(), RSA_BITS.start(), RSA_BITS.end())
            }
            Ok(PublicKey::RSA(_)) => return None,
            Ok(PublicKey::EC(_)) => {
                let known = [oids::OID_EC_P256, oids::OID_NIST_EC_P384, oids::OID_NIST_EC_P521];
                match curve {
                    Some(curve) if known.contains(&curve) => return None,
                    _ => "a key on an elliptic curve that is not accepted; P-256, P-384 and P-521 are".to_owned(),
                }
            }
            _ if *kind == oids::OID_SIG_ED25519 => return None,
            _ if *kind == oids::OID_SIG_ED448 => "an Ed448 key, which is not accepted".to_owned(),
            _ => "a key of a kind that is not accepted".to_owned(),
        };
        let remedy = "reissue the certificate with an ECDSA key on P-256, or an RSA key of 2048 bits or more";
        Some(Finding::new(Reason::TlsWeakKey, Severity::Error, format!("{whose} has {problem}"), remedy))
    }

    /// Nobody verifies the signature of a self-signed certificate: it is trusted by itself, or not at all.
    fn signature(&self, role: Role) -> Option<Finding> {
        let algorithm = &self.parsed.signature_algorithm.algorithm;
        let accepted = [
            oids::OID_PKCS1_SHA256WITHRSA,
            oids::OID_PKCS1_SHA384WITHRSA,
            oids::OID_PKCS1_SHA512WITHRSA,
            // Some of its parameters are accepted, and others are not; the verification tells.
            oids::OID_PKCS1_RSASSAPSS,
            oids::OID_SIG_ECDSA_WITH_SHA256,
            oids::OID_SIG_ECDSA_WITH_SHA384,
            oids::OID_SIG_ECDSA_WITH_SHA512,
            oids::OID_SIG_ED25519,
        ];
        if self.facts.self_signed || accepted.contains(algorithm) {
            return None;
        }
        let named = [
            (oids::OID_PKCS1_SHA1WITHRSA, "SHA-1 with RSA"),
            (oids::OID_PKCS1_MD5WITHRSAENC, "MD5 with RSA"),
            (oid!(1.2.840.10045.4.1), "SHA-1 with ECDSA"),
            (oids::OID_SIG_ED448, "Ed448"),
        ];
        let name =
            named.iter().find(|(oid, _)| oid == algorithm).map_or_else(|| shown(&algorithm.to_string()), |(_, name)| (*name).to_owned());
        let detail = format!("{} is signed with {name}, which is not accepted", self.words(role));
        Some(Finding::new(
            Reason::TlsWeakSignature,
            Severity::Error,
            detail,
            "reissue it with SHA-256 or better, from an RSA, ECDSA or Ed25519 CA",
        ))
    }

    fn usage(&self, role: Role) -> Vec<Finding> {
        let whose = self.words(role);
        let mut found = Vec::new();
        if !self.facts.for_servers && role == Role::Leaf {
            let client = if self.facts.for_clients { "is for clients, not for servers" } else { "is not for servers" };
            found.push(Finding::new(
                Reason::TlsWrongUsage,
                Severity::Error,
                format!("{whose} {client} (no serverAuth in its extended key usage)"),
                "reissue the server's certificate with serverAuth; a client certificate cannot serve",
            ));
        } else if !self.facts.for_servers {
            found.push(Finding::new(
                Reason::TlsWrongUsage,
                Severity::Error,
                format!("{whose} may not issue for servers (no serverAuth in its extended key usage)"),
                "use a CA whose certificate permits servers",
            ));
        }
        let usage = self.parsed.key_usage().ok().flatten().map(|extension| extension.value);
        let missing = match (role, usage) {
            (Role::Leaf, Some(usage)) if !usage.digital_signature() => Some("digitalSignature"),
            (Role::Issuer, Some(usage)) if !usage.key_cert_sign() => Some("keyCertSign"),
            _ => None,
        };
        if let Some(missing) = missing {
            found.push(Finding::new(
                Reason::TlsWrongUsage,
                Severity::Warning,
                format!("{whose} lacks {missing} in its key usage: it is accepted here, and refused by other clients"),
                "reissue the certificate with it",
            ));
        }
        if role == Role::Issuer && !self.facts.is_ca && !self.facts.old_version {
            found.push(Finding::new(
                Reason::TlsUnknownCa,
                Severity::Error,
                format!("{whose} is not a CA certificate, so that what it issued counts for nothing"),
                "issue the server's certificate from a CA certificate (CA:TRUE in its basic constraints)",
            ));
        }
        found
    }
}
