//! Certificate revocation lists (RFC 5280 §5), read from files.

use std::{path::PathBuf, time::Duration};

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::{
    files::{Unusable, is_der, text_bytes},
    inspect::shown_name,
    pem,
};

/// Most lists that one file may hold.
const MAX_LISTS: usize = 200;

/// One revocation list that the verification can use. Its signature is checked when it is used.
#[derive(Clone, Debug)]
pub(super) struct Crl {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) facts: CrlFacts,
}

/// What a revocation list says about itself. Text is capped and escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// Where it was read from; empty until whoever read the file says so.
    pub file: PathBuf,
    pub issuer: String,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970; a list without it never ends.
    pub next_update: Option<i64>,
    /// CRL number, big-endian, without leading zeros (RFC 5280 §5.2.3).
    pub number: Option<Vec<u8>>,
    /// How many certificates it revokes.
    pub revoked: usize,
    raw_issuer: Vec<u8>,
}

impl CrlFacts {
    /// Whether its next issue is overdue.
    pub fn is_expired_at(&self, now: Duration) -> bool {
        self.next_update.is_some_and(|end| end < i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }

    /// Whether both come from the same CA and `self` is the older one: by number where both have one, else by date.
    pub fn is_older_than(&self, other: &Self) -> bool {
        if self.raw_issuer != other.raw_issuer {
            return false;
        }
        match (&self.number, &other.number) {
            (Some(own), Some(others)) if own != others => (own.len(), own) < (others.len(), others),
            _ => self.this_update < other.this_update,
        }
    }

    /// The issuer's name in DER.
    pub(super) fn raw_issuer(&self) -> &[u8] {
        &self.raw_issuer
    }
}

/// Brings the newest list of each CA before its older ones, because the first that fits a certificate is asked.
pub(super) fn newest_first(lists: &mut [Crl]) {
    let age = |facts: &CrlFacts| (facts.this_update, facts.number.as_ref().map(|number| (number.len(), number.clone())));
    lists.sort_by_cached_key(|list| std::cmp::Reverse(age(&list.facts)));
}

/// The first of the new lists that is older than one in use, although its CA has none newer among the new ones: somebody put
/// an old list back, and whoever was revoked since would be good again.
pub(super) fn put_back<'a>(in_use: &[&CrlFacts], new: &[&'a CrlFacts]) -> Option<&'a CrlFacts> {
    let is_older_than_any = |list: &CrlFacts, others: &[&CrlFacts]| others.iter().any(|other| list.is_older_than(other));
    new.iter().copied().find(|list| is_older_than_any(list, in_use) && !is_older_than_any(list, new))
}

/// Reads a PEM file of one or more lists, or a single DER list.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Crl>, Unusable> {
    let bytes = text_bytes(bytes)?;
    if is_der(bytes) {
        return Ok(vec![parse(bytes.to_vec()).map_err(|what| Unusable::new(what, REMEDY))?]);
    }
    let blocks = pem::blocks(bytes)?;
    let mut lists = Vec::new();
    for (index, block) in blocks.iter().filter(|block| matches!(block.label, "X509 CRL" | "CRL")).enumerate() {
        if index == MAX_LISTS {
            return Err(Unusable::new(
                format!("it holds more than {MAX_LISTS} revocation lists"),
                "keep only those that this server needs",
            ));
        }
        let list = block
            .der()
            .and_then(parse)
            .map_err(|what| Unusable::new(format!("revocation list {} (line {}) is not usable: {what}", index + 1, block.line), REMEDY))?;
        lists.push(list);
    }
    if lists.is_empty() {
        return Err(Unusable::new(
            format!("it holds no revocation list, but {}", pem::labels(&blocks)),
            "give a file with a BEGIN X509 CRL block, or a DER list",
        ));
    }
    Ok(lists)
}

const REMEDY: &str = "fetch the list again from its CA; only full lists are read, neither delta nor indirect ones";

fn parse(der: Vec<u8>) -> Result<Crl, String> {
    let facts = facts(&der)?;
    // What the verification cannot work with must not fail later, at every handshake.
    webpki::BorrowedCertRevocationList::from_der(&der).map_err(|e| format!("the revocation list of {}: {e}", facts.issuer))?;
    Ok(Crl { der: CertificateRevocationListDer::from(der), facts })
}

fn facts(der: &[u8]) -> Result<CrlFacts, String> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(CrlFacts {
            file: PathBuf::new(),
            issuer: shown_name(list.issuer()),
            this_update: list.last_update().timestamp(),
            next_update: list.next_update().map(|time| time.timestamp()),
            number: list.crl_number().map(x509_parser::num_bigint::BigUint::to_bytes_be),
            revoked: list.iter_revoked_certificates().count(),
            raw_issuer: list.issuer().as_raw().to_vec(),
        }),
        Ok((rest, _)) => Err(format!("{} bytes follow the revocation list", rest.len())),
        Err(_) => Err("no DER revocation list".to_owned()),
    }
}

#[cfg(test)]
mod tests;
