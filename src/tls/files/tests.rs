use super::*;

const NOW: std::time::Duration = std::time::Duration::from_secs(1_800_000_000);

struct Pem {
    certificate: String,
    key: String,
}

fn minted() -> Pem {
    let pair = crate::tls::dev::mint(&[], NOW).unwrap().client;
    Pem { certificate: pair.certificate, key: pair.key.expose().to_owned() }
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap()
}

fn block(label: &str) -> String {
    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
}

/// A DER SEQUENCE of `content`, long form.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], &length[..], content].concat()
}

fn count(bytes: impl AsRef<[u8]>) -> usize {
    certificates(bytes.as_ref()).unwrap().certificates.len()
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    let unusable = certificates(bytes.as_ref()).unwrap_err();
    format!("{} | {}", unusable.what, unusable.remedy)
}

fn key_refused(bytes: impl AsRef<[u8]>) -> String {
    let unusable = open_private_key(bytes.as_ref(), None).unwrap_err();
    format!("{} | {}", unusable.what, unusable.remedy)
}

#[test]
fn a_bundle_is_read_however_it_was_saved() {
    let Pem { certificate, key } = minted();
    assert_eq!(count(&certificate), 1);
    assert_eq!(count(certificate.clone() + "some text\n\n" + &certificate), 2);
    assert_eq!(count(certificate.replace('\n', "\r\n")), 1);
    assert_eq!(count(certificate.trim_end()), 1);
    assert_eq!(count(format!("\u{feff}{certificate}")), 1);
    assert_eq!(count(der(&certificate)), 1);
    let with_key = certificates((key + &certificate).as_bytes()).unwrap();
    assert!(with_key.holds_key && with_key.certificates.len() == 1);
}

#[test]
fn one_bad_block_is_named() {
    let Pem { certificate, .. } = minted();
    let bad_base64 = certificate.clone() + &block("CERTIFICATE").replace("AAAA", "A*AA") + &certificate;
    let lines = certificate.lines().count();
    assert!(refused(bad_base64).starts_with(&format!("certificate 2 (line {}) is not usable: bad base64", lines + 1)));
    assert!(refused(certificate.clone() + &certificate + &block("CERTIFICATE")).starts_with("certificate 3 "));
    let cut = certificate.split("-----END").next().unwrap();
    assert!(refused(certificate.clone() + cut).contains("has no END line"));
    assert!(refused(cut.to_owned() + &certificate).contains("has no END line"));
}

#[test]
fn what_holds_no_certificate_is_told_by_what_it_holds() {
    let Pem { certificate, key } = minted();
    assert!(refused(&key).starts_with("it holds no certificate, but PRIVATE KEY"));
    assert!(refused(block("EC PARAMETERS") + &block("EC PRIVATE KEY")).contains("EC PARAMETERS, EC PRIVATE KEY"));
    assert!(refused("hello").contains("text without any PEM block"));
    assert!(refused("").contains("empty"));
    assert!(refused("\u{feff} \r\n").contains("empty"));
    assert!(refused([0xff, 0xfe, b'-', 0]).contains("UTF-16"));
    assert!(refused(block("TRUSTED CERTIFICATE")).contains("openssl x509 -in FILE -out FILE.pem"));
    assert!(refused(block("PKCS7")).contains("openssl pkcs7 -inform PEM"));
    assert!(refused(der(&key)).contains("holds a private key, but no certificate"));
    assert!(refused([der(&certificate), vec![0]].concat()).contains("1 bytes follow"));
    assert!(refused(sequence(&[0; 300])).contains("no DER certificate"));
}

#[test]
fn archives_and_encrypted_keys_come_with_the_command_that_converts_them() {
    let pkcs12 = sequence(&[&[0x02, 0x01, 0x03][..], &[0; 300]].concat());
    let pkcs7 = sequence(&[&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02][..], &[0; 300]].concat());
    assert!(refused(&pkcs12).contains("it is a PKCS#12 archive | extract the certificates: openssl pkcs12 -in FILE -nokeys"));
    assert!(key_refused(&pkcs12).contains("openssl pkcs12 -in FILE -nocerts") && key_refused(&pkcs12).contains("client_pkcs12_path"));
    assert!(refused(&pkcs7).contains("openssl pkcs7 -inform DER"));
    let traditional =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(key_refused(traditional).contains("openssl pkcs8 -topk8 -in FILE"));
    let triple_des = sequence(&[&[0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d][..], &[0; 300]].concat());
    assert!(key_refused(triple_des).contains("openssl pkey -inform DER"));
}

#[test]
fn a_key_is_read_from_pem_and_der() {
    let Pem { certificate, key } = minted();
    let read = |bytes: &[u8]| open_private_key(bytes, None).unwrap().key;
    let from_pem = read(key.as_bytes());
    assert_eq!(read(&der(&key)).secret_der(), from_pem.secret_der());
    assert_eq!(read((certificate + &key).as_bytes()).secret_der(), from_pem.secret_der());
    assert_eq!(read(format!("\u{feff}{}", key.replace('\n', "\r\n")).as_bytes()).secret_der(), from_pem.secret_der());
}

#[test]
fn an_encrypted_key_is_opened_with_its_password_only() {
    use rustls::pki_types::pem::PemObject as _;
    let Pem { key, .. } = minted();
    let plain = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let info = pkcs8::PrivateKeyInfoRef::try_from(plain.secret_der()).unwrap();
    let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(10, &[7; 16], [9; 16]).unwrap();
    let encrypted = info.encrypt_with_params(parameters, "right").unwrap();
    let pem = encrypted.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
    for bytes in [encrypted.as_bytes(), pem.as_bytes()] {
        let opened = open_private_key(bytes, Some(&Secret::new("right"))).unwrap();
        assert!(opened.was_encrypted);
        assert_eq!(opened.key.secret_der(), plain.secret_der());
        for (password, told) in [(None, "no password is configured"), (Some(Secret::new("wrong")), "the password is wrong")] {
            let refused = open_private_key(bytes, password.as_ref()).unwrap_err();
            assert_eq!(refused.reason, Reason::LocalPassword);
            assert!(refused.what.contains(told), "{}", refused.what);
        }
    }
    assert!(!open_private_key(key.as_bytes(), Some(&Secret::new("needless"))).unwrap().was_encrypted);
}

#[test]
fn a_damaged_key_is_refused_without_a_word_of_it() {
    let Pem { certificate, key } = minted();
    let line = key.lines().nth(1).unwrap();
    let damaged = key.replace(line, &format!("{line}*"));
    let told = key_refused(&damaged);
    assert!(told.starts_with("the private key (line 1) is damaged"), "{told}");
    assert!(!told.contains('*') && !told.contains(line));
    assert!(key_refused(&certificate).contains("client_key_path must name the key"));
    assert!(key_refused(der(&certificate)).contains("client_key_path must name the key"));
    assert!(key_refused("hello").contains("text without any PEM block"));
}

#[test]
fn an_endless_bundle_is_refused() {
    let Pem { certificate, .. } = minted();
    assert!(refused(certificate.repeat(MAX_CERTIFICATES + 1)).contains("more than 2000 certificates"));
}
