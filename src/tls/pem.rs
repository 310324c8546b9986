//! PEM text, split into its blocks (RFC 7468).

use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{files::Unusable, inspect::shown};

/// One `-----BEGIN x-----` to `-----END x-----`.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    /// Of the BEGIN line; counts from 1.
    pub(super) line: usize,
    pub(super) bytes: &'a [u8],
}

impl Block<'_> {
    pub(super) fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    /// What lies between the lines, decoded; headers of the old encrypted keys are not understood.
    pub(super) fn der(&self) -> Result<Vec<u8>, String> {
        let body = self.bytes.iter().position(|b| *b == b'\n').and_then(|start| self.bytes.get(start..)).unwrap_or_default();
        let body = find(body, b"-----END").and_then(|end| body.get(..end)).unwrap_or(body);
        let text = Zeroizing::new(body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>());
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &text).map_err(|e| format!("bad base64, {e}"))
    }

    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, String> {
        let der = self.der()?;
        match x509_parser::parse_x509_certificate(&der) {
            Ok(([], _)) => Ok(CertificateDer::from(der)),
            Ok(_) => Err("data follows the certificate".to_owned()),
            Err(e) => Err(format!("no X.509 certificate, {e}")),
        }
    }
}

/// Splits PEM text into its blocks; other text around them is allowed (RFC 7468 §2).
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, Unusable> {
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
    let label = shown(label);
    Unusable::new(format!("its {label} block (line {line}) has no END line: the file is cut short"), "copy the file again")
}

/// What a file holds instead, for messages.
pub(super) fn labels(blocks: &[Block<'_>]) -> String {
    if blocks.is_empty() {
        return "text without any PEM block".to_owned();
    }
    let mut labels: Vec<_> = blocks.iter().take(6).map(|b| shown(b.label)).collect();
    labels.dedup();
    labels.join(", ")
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
