use p12_keystore::{Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain};
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::tls::dev;

const NOW: std::time::Duration = std::time::Duration::from_secs(1_800_000_000);

fn entry(pair: &dev::PemPair, ca: Option<&str>) -> KeyStoreEntry {
    let certificate = |pem: &str| Certificate::from_der(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes()).unwrap();
    let certificates = std::iter::once(pair.certificate.as_str()).chain(ca).map(certificate);
    KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("id", PrivateKey::from_der(key.secret_der()).unwrap(), certificates))
}

fn store(aliases: &[&str]) -> KeyStore {
    let mut store = KeyStore::new();
    for alias in aliases {
        let minted = dev::mint(&[], NOW).unwrap();
        store.add_entry(alias, entry(&minted.client, Some(&minted.ca)));
    }
    store
}

/// As OpenSSL 3 writes them, with few rounds because nobody attacks a test.
fn modern(store: &KeyStore) -> Vec<u8> {
    store.writer("right").encryption_iterations(10).mac_iterations(10).write().unwrap()
}

fn opened(bytes: &[u8], password: Option<&str>, alias: Option<&str>) -> Result<Archive, Unusable> {
    read(bytes, password.map(Secret::new).as_ref(), alias, &crate::tls::policy::provider())
}

fn refused(bytes: &[u8], password: Option<&str>, alias: Option<&str>) -> (Reason, String) {
    let unusable = opened(bytes, password, alias).unwrap_err();
    (unusable.reason, format!("{} | {}", unusable.what, unusable.remedy))
}

#[test]
fn the_one_key_comes_with_its_chain_and_without_the_root() {
    let archive = opened(&modern(&store(&["nexus"])), Some("right"), None).unwrap();
    assert_eq!(archive.chain.len(), 1);
    assert_eq!(archive.legacy, None);
    assert!(CertificateFacts::read(archive.chain.first().unwrap()).unwrap().for_clients);
}

#[test]
fn a_wrong_or_missing_password_is_told_as_such() {
    let bytes = modern(&store(&["nexus"]));
    let (reason, told) = refused(&bytes, Some("wrong"), None);
    assert_eq!(reason, Reason::LocalPassword);
    assert!(told.contains("the password is wrong"), "{told}");
    let (reason, told) = refused(&bytes, None, None);
    assert_eq!(reason, Reason::LocalPassword);
    assert!(told.contains("none is configured"), "{told}");
    assert_eq!(refused(&bytes, Some("😀"), None).0, Reason::LocalPassword);
}

#[test]
fn several_keys_are_never_chosen_from_silently() {
    let bytes = modern(&store(&["blue", "green"]));
    let (reason, told) = refused(&bytes, Some("right"), None);
    assert_eq!(reason, Reason::LocalInvalid);
    assert!(told.contains("2 private keys: \"blue\", \"green\"") && told.contains("client_pkcs12_alias"), "{told}");
    assert!(refused(&bytes, Some("right"), Some("red")).1.contains("no private key named \"red\", but \"blue\", \"green\""));
    let by_name = opened(&bytes, Some("right"), Some("green")).unwrap();
    let by_place = opened(&bytes, Some("right"), Some("#2")).unwrap();
    assert_eq!(by_name.chain, by_place.chain);
    assert_ne!(by_name.chain, opened(&bytes, Some("right"), Some("blue")).unwrap().chain);
    assert_eq!(refused(&bytes, Some("right"), Some("#3")).0, Reason::LocalInvalid);
}

#[test]
fn outdated_protection_is_read_and_warned_about() {
    let store = store(&["nexus"]);
    let weak = |algorithm, mac| {
        let bytes =
            store.writer("right").encryption_algorithm(algorithm).encryption_iterations(10).mac_algorithm(mac).mac_iterations(10).write();
        opened(&bytes.unwrap(), Some("right"), None).unwrap().legacy
    };
    let aes = EncryptionAlgorithm::PbeWithHmacSha256AndAes256;
    assert_eq!(weak(aes, MacAlgorithm::HmacSha256), None);
    assert!(weak(aes, MacAlgorithm::HmacSha1).unwrap().contains("SHA-1"));
    for algorithm in [EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc, EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc] {
        let warning = weak(algorithm, MacAlgorithm::HmacSha1).unwrap();
        assert!(warning.contains("RC2 or Triple DES") && warning.contains("openssl pkcs12 -legacy"), "{warning}");
    }
}

#[test]
fn an_archive_that_asks_for_too_much_work_is_refused_before_it_begins() {
    assert_eq!(mac_rounds(&[0x30, 0x0b, 0x30, 0, 0x04, 0, 0x02, 5, 0x00, 0xff, 0xff, 0xff, 0xff]), Some(u32::MAX));
    assert_eq!(mac_rounds(&[0x30, 0x04, 0x30, 0, 0x04, 0]), Some(1), "the default of RFC 7292");
    // The rounds are the last field.
    let bytes = store(&["nexus"]).writer("right").encryption_iterations(10).mac_iterations(0x01_00_00).write().unwrap();
    let greedy = [bytes.strip_suffix(&[0x01, 0x00, 0x00]).unwrap(), &[0x7f, 0xff, 0xff]].concat();
    let (reason, told) = refused(&greedy, Some("right"), None);
    assert_eq!(reason, Reason::LocalInvalid);
    assert!(told.contains("more work"), "{told}");
}

#[test]
fn what_is_no_archive_is_told_by_what_it_is() {
    let minted = dev::mint(&[], NOW).unwrap();
    assert!(refused(minted.client.certificate.as_bytes(), None, None).1.contains("PEM text"));
    assert!(refused(b"hello", None, None).1.contains("no PKCS#12 archive"));
    assert!(refused(b"", None, None).1.contains("empty"));
    let bytes = modern(&store(&["nexus"]));
    for cut in [1, 100, bytes.len() / 2] {
        assert_eq!(refused(&bytes[..bytes.len() - cut], Some("right"), None).0, Reason::LocalInvalid, "{cut} bytes are missing");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let (one, other) = (dev::mint(&[], NOW).unwrap(), dev::mint(&[], NOW).unwrap());
    let mut store = KeyStore::new();
    let mixed = dev::PemPair { certificate: one.client.certificate, key: other.client.key };
    store.add_entry("mixed", entry(&mixed, None));
    let (reason, told) = refused(&modern(&store), Some("right"), None);
    assert_eq!(reason, Reason::LocalKeyMismatch);
    assert!(told.contains("one certificate, which is not the key's"), "{told}");
}

#[test]
fn a_key_that_no_certificate_is_linked_to_is_matched_by_its_public_key() {
    let (ours, other) = (dev::mint(&[], NOW).unwrap(), dev::mint(&[], NOW).unwrap());
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let certificate = |pem: &str| CertificateBag {
        friendly_name: None,
        local_key_id: None,
        trusted: false,
        cert: Certificate::from_der(&der(pem)).unwrap(),
    };
    let key = PrivateKeyDer::from_pem_slice(ours.client.key.expose().as_bytes()).unwrap();
    let bag = PrivateKeyBag { friendly_name: None, local_key_id: None, key: PrivateKey::from_der(key.secret_der()).unwrap() };
    let signing = crate::tls::policy::provider().key_provider.load_private_key(key).unwrap();
    let certificates = [&ours.ca, &other.client.certificate, &ours.client.certificate].map(|pem| certificate(pem));
    let leaf = leaf_of(&certificates, &bag, &signing).unwrap();
    assert_eq!(leaf.cert.as_der(), der(&ours.client.certificate).as_ref());
    assert!(leaf_of(&certificates[..2], &bag, &signing).is_none());
}
