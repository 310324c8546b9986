//! `expected_sans`: the names that a certificate must carry one of, instead of the host's.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::prelude::GeneralName;

use super::forward_signatures;
use crate::tls::ExpectedSan;

impl ExpectedSan {
    /// Reads `dns:NAME` or `uri:URI`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("dns:") {
            return matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))).then(|| Self::Dns(name.to_owned()));
        }
        let uri = text.strip_prefix("uri:")?;
        let (scheme, rest) = uri.split_once(':')?;
        let is_uri = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_graphic());
        is_uri.then(|| Self::Uri(uri.to_owned()))
    }

    /// Whether the certificate carries this name.
    pub(in crate::tls) fn is_in(&self, leaf: &CertificateDer<'_>) -> bool {
        match self {
            Self::Dns(name) => match (ParsedCertificate::try_from(leaf), ServerName::try_from(name.as_str())) {
                (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
                _ => false,
            },
            Self::Uri(wanted) => {
                let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return false };
                let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
                names.value.general_names.iter().any(|name| matches!(name, GeneralName::URI(uri) if uri == wanted))
            }
        }
    }
}

impl fmt::Display for ExpectedSan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(uri) => write!(f, "uri:{uri}"),
        }
    }
}

/// Replaces the check of the host's name by a check of the expected ones.
///
/// The verification checks the name last, so that a name error proves that everything else has passed.
#[derive(Debug)]
pub(in crate::tls) struct ExpectedNames {
    pub(in crate::tls) strict: Arc<dyn ServerCertVerifier>,
    pub(in crate::tls) names: Arc<[ExpectedSan]>,
}

impl ServerCertVerifier for ExpectedNames {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Ok(_) | Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                if self.names.iter().any(|name| name.is_in(end_entity)) {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(Error::InvalidCertificate(CertificateError::NotValidForName))
                }
            }
            refused => refused,
        }
    }

    forward_signatures!(strict);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_by_their_kind() {
        for text in ["dns:crm.corp", "uri:spiffe://corp/ns/crm", "uri:urn:x"] {
            assert_eq!(ExpectedSan::parse(text).map(|name| name.to_string()).as_deref(), Some(text));
        }
        for text in
            ["crm.corp", "dns:", "dns:*.corp", "dns:10.0.0.1", "dns:a b", "uri:", "uri:spiffe", "uri:1:x", "uri:a:b c", "ip:10.0.0.1"]
        {
            assert_eq!(ExpectedSan::parse(text), None, "{text}");
        }
    }
}
