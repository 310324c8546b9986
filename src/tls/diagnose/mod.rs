//! Everything that is wrong with what a server showed, not only what a verification stumbles over first.

mod links;
mod trial;

use std::time::Duration;

pub use trial::Shows;

use super::{Negotiated, Observed, Report, TlsPolicy, Verdict};
use crate::{
    finding::{Finding, Severity},
    reason::Explanation,
};

/// What one handshake showed.
#[derive(Debug)]
pub struct Seen<'a> {
    pub observed: &'a Observed,
    pub negotiated: Option<Negotiated>,
    /// Why it failed; `None` if it went well.
    pub trouble: Option<Explanation>,
}

impl TlsPolicy {
    /// Judges what a handshake showed, at a time since 1970.
    pub fn report(&self, seen: Seen<'_>, now: Duration) -> Report {
        let presented = seen.observed.chain();
        let chain = links::links(&presented);
        let mut findings = Vec::new();
        let verdict = match (seen.trouble, self.is_unverified()) {
            (Some(trouble), _) => {
                findings.push(Finding::new(trouble.reason, Severity::Error, trouble.detail, trouble.remedy));
                Verdict::Fail
            }
            (None, true) => Verdict::Insecure,
            (None, false) => Verdict::Ok,
        };
        Report { verdict, policy: self.words(), negotiated: seen.negotiated, chain, findings, at: now, presented }
    }
}
