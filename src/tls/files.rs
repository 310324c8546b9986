//! From the bytes of a file to certificates or a key: PEM or DER, told apart by content, never by the file's name.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::{
    encrypted_key::{self, Form},
    pem::{self, Block, find},
};
use crate::{reason::Reason, secret::Secret};

/// Most certificates that one file may hold; the largest public bundles hold about 150.
const MAX_CERTIFICATES: usize = 2_000;

/// A file's bytes, wiped when dropped: they may hold a key.
pub(super) type FileBytes = Zeroizing<Vec<u8>>;

/// Why a file's content cannot be used, and what to do about it; `FILE` in a command stands for its path. Holds nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) reason: Reason,
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Unusable {
    /// `local_invalid`.
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: Reason::LocalInvalid, what: what.into(), remedy: remedy.into() }
    }

    /// `local_password`.
    pub(super) fn password(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: Reason::LocalPassword, ..Self::new(what, remedy) }
    }
}

/// The certificates of one file, in order.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// A private key lies beside them.
    pub(super) holds_key: bool,
}

/// Reads a PEM bundle, or a single DER certificate.
pub(super) fn certificates(bytes: &[u8]) -> Result<Bundle, Unusable> {
    let bytes = text_bytes(bytes)?;
    if is_der(bytes) {
        return der_certificate(bytes);
    }
    let blocks = pem::blocks(bytes)?;
    let mut bundle = Bundle { certificates: Vec::new(), holds_key: blocks.iter().any(Block::is_key) };
    let wanted = blocks.iter().filter(|b| matches!(b.label, "CERTIFICATE" | "X509 CERTIFICATE"));
    for (index, block) in wanted.enumerate() {
        if index == MAX_CERTIFICATES {
            return Err(Unusable::new(
                format!("it holds more than {MAX_CERTIFICATES} certificates"),
                "keep only the CAs that this upstream needs",
            ));
        }
        bundle.certificates.push(block.certificate().map_err(|what| {
            Unusable::new(
                format!("certificate {} (line {}) is not usable: {what}", index + 1, block.line),
                "copy this certificate again, or remove it",
            )
        })?);
    }
    if bundle.certificates.is_empty() { Err(no_certificate(&blocks)) } else { Ok(bundle) }
}

/// A private key as it was found.
#[derive(Debug)]
pub(super) struct OpenedKey {
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) was_encrypted: bool,
}

/// Reads the first private key of a PEM file, or a DER one: PKCS#8 (encrypted or not), PKCS#1 or SEC1.
///
/// May take seconds when it is encrypted: never call it on a thread of the asynchronous runtime.
pub(super) fn open_private_key(bytes: &[u8], password: Option<&Secret>) -> Result<OpenedKey, Unusable> {
    let bytes = text_bytes(bytes)?;
    if is_der(bytes) {
        return der_key(bytes, password);
    }
    let blocks = pem::blocks(bytes)?;
    let Some(block) = blocks.iter().find(|b| b.is_key()) else {
        let remedy = if blocks.iter().any(|b| b.label == "CERTIFICATE") {
            "client_key_path must name the key, not the certificate"
        } else {
            "give a PEM or DER private key"
        };
        return Err(Unusable::new(format!("it holds no private key, but {}", pem::labels(&blocks)), remedy));
    };
    let damaged =
        || Unusable::new(format!("the private key (line {}) is damaged", block.line), "copy the key again, with its BEGIN and END lines");
    if find(block.bytes, b"Proc-Type:").is_some() {
        return Err(encrypted_key::traditional());
    }
    // A decoder's own error may quote bytes of the key, so it is not shown.
    if block.label == "ENCRYPTED PRIVATE KEY" {
        let der = Zeroizing::new(block.der().map_err(|_| damaged())?);
        let key = encrypted_key::decrypt(&der, password, Form::Pem)?;
        return Ok(OpenedKey { key, was_encrypted: true });
    }
    let key = PrivateKeyDer::from_pem_slice(block.bytes).map_err(|_| damaged())?;
    Ok(OpenedKey { key, was_encrypted: false })
}

/// Strips the UTF-8 byte order mark that Windows editors write.
pub(super) fn text_bytes(bytes: &[u8]) -> Result<&[u8], Unusable> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Unusable::new("it is written in UTF-16", "save it as UTF-8 or ASCII text"));
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) { Err(Unusable::new("it is empty", "give a PEM or DER file")) } else { Ok(bytes) }
}

/// A DER SEQUENCE; PEM text starts with a printable character, and `0` followed by a length byte is not text that has PEM in it.
pub(super) fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && find(bytes, b"-----BEGIN ").is_none()
}

/// The content of the outermost DER element.
pub(super) fn der_content(bytes: &[u8]) -> &[u8] {
    let header = match bytes.get(1) {
        Some(length @ 0x80..=0x84) => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    bytes.get(header..).unwrap_or_default()
}

pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    // PFX ::= SEQUENCE { version INTEGER { v3(3) }, … } (RFC 7292 §4); other key formats have version 0 or 1.
    der_content(bytes).starts_with(&[0x02, 0x01, 0x03])
}

const ARCHIVE: &str = "or name the archive itself: client_pkcs12_path, or pkcs12 of a listener";

fn pkcs12_for_certificates() -> Unusable {
    Unusable::new("it is a PKCS#12 archive", format!("extract the certificates: openssl pkcs12 -in FILE -nokeys -out FILE.pem; {ARCHIVE}"))
}

fn pkcs12_for_a_key() -> Unusable {
    Unusable::new(
        "it is a PKCS#12 archive",
        format!("extract the key: umask 077; openssl pkcs12 -in FILE -nocerts -nodes -out FILE.key; {ARCHIVE}"),
    )
}

fn is_pkcs7(bytes: &[u8]) -> bool {
    // ContentInfo of type signedData, 1.2.840.113549.1.7.2 (RFC 5652 §5.1).
    der_content(bytes).starts_with(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02])
}

fn pkcs7(form: &str) -> Unusable {
    Unusable::new("it is a PKCS#7 bundle", format!("convert it: openssl pkcs7 -inform {form} -in FILE -print_certs -out FILE.pem"))
}

fn der_certificate(bytes: &[u8]) -> Result<Bundle, Unusable> {
    if is_pkcs12(bytes) {
        return Err(pkcs12_for_certificates());
    }
    if is_pkcs7(bytes) {
        return Err(pkcs7("DER"));
    }
    match x509_parser::parse_x509_certificate(bytes) {
        Ok(([], _)) => Ok(Bundle { certificates: vec![CertificateDer::from(bytes.to_vec())], holds_key: false }),
        Ok((rest, _)) => {
            Err(Unusable::new(format!("{} bytes follow its DER certificate", rest.len()), "give one DER certificate, or a PEM bundle"))
        }
        Err(_) if PrivateKeyDer::try_from(bytes).is_ok() => {
            Err(Unusable::new("it holds a private key, but no certificate", "name the certificate's file here"))
        }
        Err(_) => Err(Unusable::new("it is binary, but no DER certificate", "give a PEM or DER file")),
    }
}

fn der_key(bytes: &[u8], password: Option<&Secret>) -> Result<OpenedKey, Unusable> {
    if is_pkcs12(bytes) {
        return Err(pkcs12_for_a_key());
    }
    let is_certificate = x509_parser::parse_x509_certificate(bytes).is_ok();
    if is_certificate {
        return Err(Unusable::new("it holds a certificate, but no private key", "client_key_path must name the key, not the certificate"));
    }
    if encrypted_key::is_encrypted(bytes) {
        let key = encrypted_key::decrypt(bytes, password, Form::Der)?;
        return Ok(OpenedKey { key, was_encrypted: true });
    }
    let key = PrivateKeyDer::try_from(bytes)
        .map_err(|_| Unusable::new("it is binary, but no DER private key", "give a PEM or DER private key"))?;
    Ok(OpenedKey { key: key.clone_key(), was_encrypted: false })
}

fn no_certificate(blocks: &[Block<'_>]) -> Unusable {
    let has = |label: &str| blocks.iter().any(|b| b.label == label);
    if has("TRUSTED CERTIFICATE") {
        return Unusable::new("it holds an OpenSSL TRUSTED CERTIFICATE", "convert it: openssl x509 -in FILE -out FILE.pem");
    }
    if has("PKCS7") || has("CMS") {
        return pkcs7("PEM");
    }
    Unusable::new(
        format!("it holds no certificate, but {}", pem::labels(blocks)),
        "give a file with a BEGIN CERTIFICATE block, or a DER certificate",
    )
}

#[cfg(test)]
mod tests;
