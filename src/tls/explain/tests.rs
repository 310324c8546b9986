use std::sync::Arc;

use rustls::{CertificateError, OtherError, SignatureScheme, client::ResolvesClientCert as _};

use super::*;
use crate::{
    sources::MemorySources,
    tls::{ClientIdentityFiles, SystemCas, TlsSettings, dev, observed::RecordingResolver},
};

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn policy(with_identity: bool) -> TlsPolicy {
    let minted = dev::mint(&[], NOW).unwrap();
    let identity = ClientIdentityFiles { cert_path: "client.pem".into(), key_path: "client.key".into() };
    let sources = MemorySources::default()
        .with_file("ca.pem", minted.ca)
        .with_file("client.pem", minted.client.certificate)
        .with_file("client.key", minted.client.key.expose());
    let settings = TlsSettings {
        root_ca_cert_path: Some("ca.pem".into()),
        client_identity: with_identity.then_some(identity),
        ..TlsSettings::default()
    };
    settings.load("crm.test", &sources, &|| Arc::new(SystemCas::new([], Vec::new(), "nowhere")), NOW).unwrap()
}

/// What is said about `error` by a server that did or did not ask for a client certificate.
fn told(error: rustls::Error, with_identity: bool, asked: bool) -> Explanation {
    let (policy, observed) = (policy(with_identity), Arc::new(Observed::default()));
    if asked {
        RecordingResolver { identity: None, observed: Arc::clone(&observed) }.resolve(&[], &[SignatureScheme::ED25519]);
    }
    let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
    explain(&error, &Handshake { policy: &policy, observed: &observed, now: NOW }).unwrap()
}

#[test]
fn an_alert_is_read_by_what_the_server_asked_and_what_we_have() {
    use AlertDescription as Alert;
    for (alert, with_identity, asked, expected) in [
        (Alert::CertificateRequired, false, true, Reason::TlsClientCertRequired),
        (Alert::CertificateRequired, true, true, Reason::TlsClientCertRejected),
        // OpenSSL in TLS 1.2 says the same for both.
        (Alert::HandshakeFailure, false, true, Reason::TlsClientCertRequired),
        (Alert::HandshakeFailure, false, false, Reason::TlsNoSharedCipher),
        (Alert::HandshakeFailure, true, false, Reason::TlsNoSharedCipher),
        (Alert::HandshakeFailure, true, true, Reason::TlsClientCertRejected),
        (Alert::UnknownCA, true, true, Reason::TlsClientCertRejected),
        (Alert::CertificateExpired, true, true, Reason::TlsClientCertRejected),
        (Alert::BadCertificate, true, true, Reason::TlsClientCertRejected),
        (Alert::BadCertificate, false, true, Reason::TlsClientCertRequired),
        (Alert::ProtocolVersion, true, false, Reason::TlsProtocolVersion),
        (Alert::UnrecognisedName, false, false, Reason::TlsSniUnknown),
        (Alert::NoApplicationProtocol, false, false, Reason::TlsAlpn),
        (Alert::InternalError, false, false, Reason::Protocol),
    ] {
        let explanation = told(rustls::Error::AlertReceived(alert), with_identity, asked);
        assert_eq!(explanation.reason, expected, "{alert:?}, identity {with_identity}, asked {asked}: {explanation}");
    }
}

#[test]
fn a_certificate_error_has_its_code_even_without_a_captured_chain() {
    let other = |error: webpki::Error| CertificateError::Other(OtherError(Arc::new(error)));
    for (error, expected) in [
        (CertificateError::Expired, Reason::TlsExpired),
        (CertificateError::NotValidYet, Reason::TlsNotYetValid),
        (CertificateError::UnknownIssuer, Reason::TlsUnknownCa),
        (CertificateError::BadSignature, Reason::TlsBadSignature),
        (CertificateError::NotValidForName, Reason::TlsHostnameMismatch),
        (CertificateError::InvalidPurpose, Reason::TlsWrongUsage),
        (CertificateError::Revoked, Reason::TlsRevoked),
        (CertificateError::UnknownRevocationStatus, Reason::TlsRevocationUnknown),
        (CertificateError::BadEncoding, Reason::TlsCertVersion),
        (other(webpki::Error::UnsupportedCertVersion), Reason::TlsCertVersion),
        (other(webpki::Error::CaUsedAsEndEntity), Reason::TlsSelfSignedCa),
        (other(webpki::Error::NameConstraintViolation), Reason::TlsUnknownCa),
        (
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: Vec::new(), supported_algorithms: Vec::new() },
            Reason::TlsWeakSignature,
        ),
    ] {
        let explanation = told(rustls::Error::InvalidCertificate(error.clone()), false, false);
        assert_eq!(explanation.reason, expected, "{error:?}");
        assert!(!explanation.detail.is_empty() && !explanation.remedy.is_empty());
    }
}

#[test]
fn the_error_is_found_behind_an_io_error_that_skips_its_own_payload() {
    let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError));
    assert!(wrapped.source().is_none_or(|s| s.downcast_ref::<rustls::Error>().is_none()), "source() alone would do");
    assert_eq!(find_in_chain::<rustls::Error>(&wrapped), Some(&rustls::Error::DecryptError));
    assert_eq!(find_in_chain::<rustls::Error>(&io::Error::other("no TLS in here")), None);
}

#[test]
fn an_endless_chain_of_errors_is_followed_only_so_far() {
    let deep = (0..10_000).fold(io::Error::other(rustls::Error::DecryptError), |inner, _| io::Error::other(inner));
    assert_eq!(find_in_chain::<rustls::Error>(&deep), None);
}
