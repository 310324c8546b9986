use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use time::OffsetDateTime;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// A list of the CA `name` that is renewed after `days`.
fn list(name: &str, number: u64, issued: i64, days: i64) -> Vec<u8> {
    let date = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
    let issuer = Issuer::new(params, KeyPair::generate().unwrap());
    let list = CertificateRevocationListParams {
        this_update: date(issued),
        next_update: date(issued + days * DAY),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&issuer).unwrap().der().to_vec()
}

fn pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    read(bytes.as_ref()).unwrap_err().what
}

#[test]
fn lists_are_read_from_der_and_from_pem_of_several() {
    let (one, two) = (list("one", 1, NOW, 7), list("two", 1, NOW, 7));
    assert_eq!(read(&one).unwrap().len(), 1);
    let both = read((pem(&one) + &pem(&two)).as_bytes()).unwrap();
    assert_eq!(both.iter().map(|list| list.der.as_ref().to_vec()).collect::<Vec<_>>(), [one, two]);
    assert!(both.first().unwrap().facts.issuer.contains("CN=one"));
}

#[test]
fn one_bad_list_is_named_and_nothing_is_used() {
    let good = list("one", 1, NOW, 7);
    assert!(refused(pem(&good) + &pem(b"no list")).starts_with("revocation list 2 (line 4) is not usable"));
    assert!(refused([good.clone(), vec![0]].concat()).contains("1 bytes follow"));
    assert!(refused(&good[..good.len() - 1]).contains("no DER revocation list"));
    assert!(refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("no revocation list, but CERTIFICATE"));
    assert!(refused("").contains("empty"));
    assert!(refused(pem(&good).repeat(MAX_LISTS + 1)).contains("more than 200"));
}

#[test]
fn a_list_is_overdue_after_its_next_update() {
    let facts = read(&list("one", 1, NOW, 7)).unwrap().remove(0).facts;
    let at = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap());
    assert!(!facts.is_expired_at(at(NOW + 7 * DAY)));
    assert!(facts.is_expired_at(at(NOW + 7 * DAY + 1)));
}

#[test]
fn an_older_list_of_the_same_ca_is_known_by_its_number() {
    let facts = |name, number, issued| read(&list(name, number, issued, 7)).unwrap().remove(0).facts;
    assert!(facts("one", 9, NOW).is_older_than(&facts("one", 10, NOW)));
    assert!(!facts("one", 256, NOW).is_older_than(&facts("one", 255, NOW)));
    assert!(facts("one", 5, NOW).is_older_than(&facts("one", 5, NOW + DAY)));
    assert!(!facts("one", 5, NOW).is_older_than(&facts("one", 5, NOW)));
    assert!(!facts("one", 1, NOW).is_older_than(&facts("another", 2, NOW)));
}
