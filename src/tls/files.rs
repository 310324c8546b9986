//! From the bytes of a file to certificates or a key: PEM or DER, told apart by content, never by the file's name.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// Most certificates that one file may hold; the largest public bundles hold about 150.
const MAX_CERTIFICATES: usize = 2_000;

/// A file's bytes, wiped when dropped: they may hold a key.
pub(super) type FileBytes = Zeroizing<Vec<u8>>;

/// Why a file's content cannot be used, and what to do about it. Holds nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Unusable {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
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
    let blocks = pem_blocks(bytes)?;
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

/// Reads the first private key of a PEM file, or a DER one.
pub(super) fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    let bytes = text_bytes(bytes)?;
    if is_der(bytes) {
        return der_key(bytes);
    }
    let blocks = pem_blocks(bytes)?;
    let Some(block) = blocks.iter().find(|b| b.is_key()) else {
        let remedy = if blocks.iter().any(|b| b.label == "CERTIFICATE") {
            "client_key_path must name the key, not the certificate"
        } else {
            "give a PEM or DER private key"
        };
        return Err(Unusable::new(format!("it holds no private key, but {}", labels(&blocks)), remedy));
    };
    if block.label == "ENCRYPTED PRIVATE KEY" || find(block.bytes, b"Proc-Type:").is_some() {
        return Err(encrypted_key());
    }
    // The decoder's own error may quote bytes of the key, so it is not shown.
    PrivateKeyDer::from_pem_slice(block.bytes).map_err(|_| {
        Unusable::new(format!("the private key (line {}) is damaged", block.line), "copy the key again, with its BEGIN and END lines")
    })
}

fn encrypted_key() -> Unusable {
    Unusable::new(
        "its private key is encrypted, and encrypted keys are not supported yet",
        "decrypt it for this machine only: openssl pkcs8 -topk8 -nocrypt -in KEY -out plain.key && chmod 600 plain.key",
    )
}

/// Strips the UTF-8 byte order mark that Windows editors write.
fn text_bytes(bytes: &[u8]) -> Result<&[u8], Unusable> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Unusable::new("it is written in UTF-16", "save it as UTF-8 or ASCII text"));
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) { Err(Unusable::new("it is empty", "give a PEM or DER file")) } else { Ok(bytes) }
}

/// A DER SEQUENCE; PEM text starts with a printable character, and `0` followed by a length byte is not text that has PEM in it.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && find(bytes, b"-----BEGIN ").is_none()
}

/// The content of the outermost DER element.
fn der_content(bytes: &[u8]) -> &[u8] {
    let header = match bytes.get(1) {
        Some(length @ 0x80..=0x84) => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    bytes.get(header..).unwrap_or_default()
}

fn is_pkcs12(bytes: &[u8]) -> bool {
    // PFX ::= SEQUENCE { version INTEGER { v3(3) }, … } (RFC 7292 §4); other key formats have version 0 or 1.
    der_content(bytes).starts_with(&[0x02, 0x01, 0x03])
}

fn pkcs12() -> Unusable {
    Unusable::new(
        "it is a PKCS#12 archive, and PKCS#12 is not supported yet",
        "convert it: openssl pkcs12 -in FILE -nodes -out client.pem, and name client.pem as both client_cert_path and client_key_path",
    )
}

fn is_pkcs7(bytes: &[u8]) -> bool {
    // ContentInfo of type signedData, 1.2.840.113549.1.7.2 (RFC 5652 §5.1).
    der_content(bytes).starts_with(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02])
}

fn pkcs7(form: &str) -> Unusable {
    Unusable::new("it is a PKCS#7 bundle", format!("convert it: openssl pkcs7 -inform {form} -in FILE -print_certs -out bundle.pem"))
}

fn der_certificate(bytes: &[u8]) -> Result<Bundle, Unusable> {
    if is_pkcs12(bytes) {
        return Err(pkcs12());
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

fn der_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    if is_pkcs12(bytes) {
        return Err(pkcs12());
    }
    // EncryptedPrivateKeyInfo ::= SEQUENCE { AlgorithmIdentifier ::= SEQUENCE { OID 1.2.840.113549.1.(5|12)… (RFC 5958 §3)
    let content = der_content(bytes);
    if content.first() == Some(&0x30)
        && find(content.get(..24).unwrap_or(content), &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01]).is_some()
        && x509_parser::parse_x509_certificate(bytes).is_err()
    {
        return Err(encrypted_key());
    }
    if x509_parser::parse_x509_certificate(bytes).is_ok() {
        return Err(Unusable::new("it holds a certificate, but no private key", "client_key_path must name the key, not the certificate"));
    }
    let key = PrivateKeyDer::try_from(bytes)
        .map_err(|_| Unusable::new("it is binary, but no DER private key", "give a PEM or DER private key"))?;
    Ok(key.clone_key())
}

/// One `-----BEGIN x-----` to `-----END x-----`.
struct Block<'a> {
    label: &'a str,
    /// Of the BEGIN line; counts from 1.
    line: usize,
    bytes: &'a [u8],
}

impl Block<'_> {
    fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, String> {
        let body = self.bytes.iter().position(|b| *b == b'\n').and_then(|start| self.bytes.get(start..)).unwrap_or_default();
        let body = find(body, b"-----END").and_then(|end| body.get(..end)).unwrap_or(body);
        let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).map_err(|e| format!("bad base64, {e}"))?;
        match x509_parser::parse_x509_certificate(&der) {
            Ok(([], _)) => Ok(CertificateDer::from(der)),
            Ok(_) => Err("data follows the certificate".to_owned()),
            Err(e) => Err(format!("no X.509 certificate, {e}")),
        }
    }
}

/// Splits PEM text into its blocks; other text around them is allowed (RFC 7468 §2).
fn pem_blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, Unusable> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut offset = 0;
    for (number, raw) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let start = offset;
        offset += raw.len();
        let Ok(line) = std::str::from_utf8(raw.trim_ascii()) else { continue };
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) {
            if let Some((label, line, _)) = open {
                return Err(unfinished(label, line));
            }
            open = Some((label, number + 1, start));
        } else if line.starts_with("-----END ")
            && let Some((label, line, start)) = open.take()
        {
            blocks.push(Block { label, line, bytes: bytes.get(start..offset).unwrap_or_default() });
        }
    }
    match open {
        Some((label, line, _)) => Err(unfinished(label, line)),
        None => Ok(blocks),
    }
}

fn unfinished(label: &str, line: usize) -> Unusable {
    let label = super::inspect::shown(label);
    Unusable::new(format!("its {label} block (line {line}) has no END line: the file is cut short"), "copy the file again")
}

fn no_certificate(blocks: &[Block<'_>]) -> Unusable {
    let has = |label: &str| blocks.iter().any(|b| b.label == label);
    if has("TRUSTED CERTIFICATE") {
        return Unusable::new("it holds an OpenSSL TRUSTED CERTIFICATE", "convert it: openssl x509 -in FILE -out plain.pem");
    }
    if has("PKCS7") || has("CMS") {
        return pkcs7("PEM");
    }
    Unusable::new(
        format!("it holds no certificate, but {}", labels(blocks)),
        "give a file with a BEGIN CERTIFICATE block, or a DER certificate",
    )
}

fn labels(blocks: &[Block<'_>]) -> String {
    if blocks.is_empty() {
        return "text without any PEM block".to_owned();
    }
    let mut labels: Vec<_> = blocks.iter().take(6).map(|b| super::inspect::shown(b.label)).collect();
    labels.dedup();
    labels.join(", ")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests;
