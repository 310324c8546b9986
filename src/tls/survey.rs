//! What is in a file of certificates and keys, whatever its form, for people who wonder.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::{
    oid_registry as oids,
    prelude::{FromDer as _, X509Certificate},
    public_key::PublicKey,
};

use super::{
    CrlFacts, crl,
    files::{self, Unusable},
    inspect::{CertificateFacts, hexadecimal, shown},
    pem, pkcs12,
    policy::provider,
};
use crate::{reason::Explanation, secret::Secret};

/// One thing that a file holds.
#[derive(Debug)]
pub enum Item {
    Certificate(Box<CertificateItem>),
    Key(KeyItem),
    RevocationList(CrlFacts),
}

/// A certificate in full.
#[derive(Debug)]
pub struct CertificateItem {
    pub facts: CertificateFacts,
    /// Of the whole certificate, in hexadecimal: the thumbprint that Windows shows.
    pub sha1: String,
    /// Such as `RSA, 2048 bits`.
    pub key: String,
    /// Such as `1F3A`.
    pub serial: String,
    public_key: Vec<u8>,
}

/// A private key. Nothing of it can be printed.
#[derive(Debug)]
pub struct KeyItem {
    /// It could be read: `Ok(())`, or why not, in words.
    pub opened: Result<(), String>,
    pub was_encrypted: bool,
    public_key: Option<Vec<u8>>,
}

impl KeyItem {
    /// `None` where the key could not be read.
    pub fn belongs_to(&self, certificate: &CertificateItem) -> Option<bool> {
        self.public_key.as_ref().map(|key| *key == certificate.public_key)
    }
}

/// Reads everything in a file: PEM blocks of any kind, a DER certificate, key or revocation list, or a PKCS#12 archive.
///
/// May take seconds where a password is involved: never call it on a thread of the asynchronous runtime.
///
/// # Errors
/// `local_invalid` when there is nothing of it in the file, or what is there is damaged; `local_password` for an archive.
pub fn survey(bytes: &[u8], password: Option<&Secret>) -> Result<Vec<Item>, Explanation> {
    survey_bytes(bytes, password).map_err(|Unusable { reason, what, remedy }| Explanation::new(reason, what, remedy))
}

fn survey_bytes(bytes: &[u8], password: Option<&Secret>) -> Result<Vec<Item>, Unusable> {
    let text = files::text_bytes(bytes)?;
    if !files::is_der(text) {
        return pem_items(text, password);
    }
    if files::is_pkcs12(text) {
        let archive = pkcs12::read(text, password, None, &provider())?;
        let mut items = certificates(&archive.chain)?;
        items.push(Item::Key(opened(&archive.key, true)));
        return Ok(items);
    }
    if let Ok(lists) = crl::read(text) {
        return Ok(lists.into_iter().map(|list| Item::RevocationList(list.facts)).collect());
    }
    match files::certificates(text) {
        Ok(bundle) => certificates(&bundle.certificates),
        // What is no certificate may be a key, and if it is none either, that was the better message.
        Err(no_certificate) => match files::open_private_key(text, password) {
            Ok(found) => Ok(vec![Item::Key(opened(&found.key, found.was_encrypted))]),
            Err(no_key) if no_key.reason == crate::reason::Reason::LocalPassword => Ok(vec![Item::Key(locked(&no_key))]),
            Err(_) => Err(no_certificate),
        },
    }
}

fn pem_items(text: &[u8], password: Option<&Secret>) -> Result<Vec<Item>, Unusable> {
    let blocks = pem::blocks(text)?;
    let holds = |labels: &[&str]| blocks.iter().any(|block| labels.contains(&block.label));
    let mut items = Vec::new();
    if holds(&["CERTIFICATE", "X509 CERTIFICATE"]) {
        items.extend(certificates(&files::certificates(text)?.certificates)?);
    }
    if blocks.iter().any(pem::Block::is_key) {
        items.push(Item::Key(match files::open_private_key(text, password) {
            Ok(found) => opened(&found.key, found.was_encrypted),
            Err(unusable) => locked(&unusable),
        }));
    }
    if holds(&["X509 CRL", "CRL"]) {
        items.extend(crl::read(text)?.into_iter().map(|list| Item::RevocationList(list.facts)));
    }
    if items.is_empty() {
        // Says what is there instead.
        return files::certificates(text).and_then(|bundle| certificates(&bundle.certificates));
    }
    Ok(items)
}

fn certificates(chain: &[CertificateDer<'static>]) -> Result<Vec<Item>, Unusable> {
    let read = |(index, der): (usize, &CertificateDer<'static>)| {
        certificate(der).map(|item| Item::Certificate(Box::new(item))).ok_or_else(|| {
            Unusable::new(format!("certificate {} cannot be read", index + 1), "replace it by an ordinary X.509 certificate")
        })
    };
    chain.iter().enumerate().map(read).collect()
}

fn certificate(der: &CertificateDer<'_>) -> Option<CertificateItem> {
    let facts = CertificateFacts::read(der)?;
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    Some(CertificateItem {
        sha1: hexadecimal(sha1.as_ref()),
        key: key_words(&parsed),
        serial: shown(&hexadecimal(parsed.raw_serial()).to_ascii_uppercase()),
        public_key: parsed.public_key().raw.to_vec(),
        facts,
    })
}

fn key_words(certificate: &X509Certificate<'_>) -> String {
    let info = certificate.public_key();
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        Ok(PublicKey::EC(_)) => match curve {
            Some(curve) if curve == oids::OID_EC_P256 => "ECDSA, P-256".to_owned(),
            Some(curve) if curve == oids::OID_NIST_EC_P384 => "ECDSA, P-384".to_owned(),
            Some(curve) if curve == oids::OID_NIST_EC_P521 => "ECDSA, P-521".to_owned(),
            Some(curve) => format!("ECDSA, curve {}", shown(&curve.to_string())),
            None => "ECDSA".to_owned(),
        },
        _ if info.algorithm.algorithm == oids::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => format!("of kind {}", shown(&info.algorithm.algorithm.to_string())),
    }
}

fn opened(key: &PrivateKeyDer<'static>, was_encrypted: bool) -> KeyItem {
    let public_key = provider().key_provider.load_private_key(key.clone_key()).ok().and_then(|key| Some(key.public_key()?.to_vec()));
    let opened = match &public_key {
        Some(_) => Ok(()),
        None => Err("it is of a kind or size that cannot be used".to_owned()),
    };
    KeyItem { opened, was_encrypted, public_key }
}

fn locked(unusable: &Unusable) -> KeyItem {
    let was_encrypted = unusable.reason == crate::reason::Reason::LocalPassword;
    // How a password is given is not known here.
    let why = if was_encrypted { unusable.what.clone() } else { format!("{}; {}", unusable.what, unusable.remedy) };
    KeyItem { opened: Err(why), was_encrypted, public_key: None }
}
