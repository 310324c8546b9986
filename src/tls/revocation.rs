//! The revocation lists of one policy.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError,
    client::ServerCertVerifierBuilder,
    pki_types::{CertificateDer, CertificateRevocationListDer},
};

use super::{
    CrlExpired, CrlFacts, CrlMissing, CrlScope, RevocationSettings,
    crl::{self, Crl},
    inspect::shown_date,
    load::{Reading, unusable},
};
use crate::reason::{Explanation, Reason};

/// Lists and what is made of them; without a list, nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Revocation {
    /// Newest first, because the first that fits a certificate is asked.
    lists: Arc<[Crl]>,
    scope: CrlScope,
    missing: CrlMissing,
    expired: CrlExpired,
}

impl Revocation {
    /// Reads every file. What is overdue or ahead of its time is warned about.
    pub(super) fn load(settings: &RevocationSettings, reading: &mut Reading<'_>) -> Result<Self, Explanation> {
        let mut lists = Vec::new();
        for path in &settings.crl_paths {
            let bytes = reading.read(path, "crl_paths")?;
            let mut read = crl::read(&bytes).map_err(|e| unusable(path, "crl_paths", e))?;
            for list in &mut read {
                list.facts.file.clone_from(path);
                let said = |what: String| format!("crl_paths {}: the list of {} {what}", path.display(), list.facts.issuer);
                if list.facts.is_expired_at(reading.now) {
                    let end = shown_date(list.facts.next_update.unwrap_or_default());
                    reading.warn(match settings.expired {
                        CrlExpired::Warn => said(format!("should have been renewed on {end} and is used all the same; fetch it again")),
                        CrlExpired::Deny => {
                            said(format!("should have been renewed on {end}, so its certificates are refused; fetch it again"))
                        }
                    });
                }
                if list.facts.this_update > i64::try_from(reading.now.as_secs()).unwrap_or(i64::MAX) {
                    reading.warn(said(format!(
                        "is dated {}, ahead of the clock here; check this machine's clock",
                        shown_date(list.facts.this_update)
                    )));
                }
            }
            lists.extend(read);
        }
        crl::newest_first(&mut lists);
        let &RevocationSettings { scope, missing, expired, .. } = settings;
        Ok(Self { lists: lists.into(), scope, missing, expired })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &CrlFacts> {
        self.lists.iter().map(|list| &list.facts)
    }

    /// Whether this may take the place of earlier lists: nobody may bring a revoked server back with an old list.
    ///
    /// # Errors
    /// Names the list that is older than the one in use.
    pub(super) fn may_follow(&self, earlier: &Self) -> Result<(), Explanation> {
        let (in_use, new): (Vec<_>, Vec<_>) = (earlier.facts().collect(), self.facts().collect());
        let Some(older) = crl::put_back(&in_use, &new) else { return Ok(()) };
        Err(Explanation::new(
            Reason::LocalInvalid,
            format!(
                "crl_paths {}: the revocation list of {} of {} is older than the one in use",
                older.file.display(),
                older.issuer,
                shown_date(older.this_update)
            ),
            "fetch the newest list from its CA, or restart to use the old one",
        ))
    }

    pub(super) fn denies_expired(&self) -> bool {
        self.expired == CrlExpired::Deny
    }

    /// Sets up the verification; without a list it checks no revocation at all.
    pub(super) fn apply(&self, builder: ServerCertVerifierBuilder) -> ServerCertVerifierBuilder {
        if self.is_empty() {
            return builder;
        }
        let lists = self.lists.iter().map(|list| CertificateRevocationListDer::from(list.der.as_ref().to_vec()));
        let mut builder = builder.with_crls(lists);
        if self.scope == CrlScope::Leaf {
            builder = builder.only_check_end_entity_revocation();
        }
        if self.missing == CrlMissing::Allow {
            builder = builder.allow_unknown_revocation_status();
        }
        if self.denies_expired() {
            builder = builder.enforce_revocation_expiration();
        }
        builder
    }

    /// Whether a list names a leaf that is trusted without a path. Its signature cannot be checked then, and need not be:
    /// the list is the operator's own file, and only ever refuses.
    pub(super) fn names(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return false };
        self.lists.iter().filter(|list| list.facts.raw_issuer() == certificate.issuer().as_raw()).any(|list| {
            let parsed = webpki::BorrowedCertRevocationList::from_der(list.der.as_ref()).map(webpki::CertRevocationList::from);
            parsed.is_ok_and(|list| list.find_serial(certificate.raw_serial()).is_ok_and(|found| found.is_some()))
        })
    }

    /// What the lists say against a leaf that is trusted without a path. None need cover it: it was named by the operator.
    pub(super) fn refusal(&self, leaf: &CertificateDer<'_>, now: Duration) -> Option<CertificateError> {
        if self.names(leaf) {
            return Some(CertificateError::Revoked);
        }
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return None };
        let newest = self.facts().find(|facts| facts.raw_issuer() == certificate.issuer().as_raw())?;
        (self.denies_expired() && newest.is_expired_at(now)).then_some(CertificateError::ExpiredRevocationList)
    }

    /// When the lists end without which nothing is accepted; none where an overdue one is used on.
    pub(super) fn ends(&self) -> impl Iterator<Item = Duration> {
        let ends = self.facts().filter(|_| self.denies_expired()).filter_map(|facts| facts.next_update);
        ends.map(|end| Duration::from_secs(u64::try_from(end).unwrap_or_default()))
    }

    /// `2 revocation lists (leaf)`; `None` without any.
    pub(super) fn words(&self) -> Option<String> {
        let scope = match self.scope {
            CrlScope::Leaf => "leaf",
            CrlScope::Chain => "whole chain",
        };
        match self.lists.len() {
            0 => None,
            1 => Some(format!("1 revocation list ({scope})")),
            n => Some(format!("{n} revocation lists ({scope})")),
        }
    }
}
