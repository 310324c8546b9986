//! Whether the certificate that a server shows is another one than before, and whether that was to be expected.

use serde::{Deserialize, Serialize};

use crate::finding::Severity;

/// A server that several machines stand behind may show a few certificates in turn; that many are remembered.
const REMEMBERED: usize = 8;

/// What is remembered of a certificate that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// SHA-256 of the DER, in hexadecimal.
    pub sha256: String,
    pub issuer: String,
    /// Of the public key.
    pub spki_sha256: String,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// The certificates that one server has shown, the last one last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History(Vec<Shown>);

/// Another certificate than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: Shown,
    pub after: Shown,
    pub new_issuer: bool,
    pub new_key: bool,
    /// Before two thirds of the old one's lifetime had passed, when nobody renews yet.
    pub early: bool,
}

impl Change {
    /// An issuer or key that changes long before a renewal is due may be an attack; all else is routine.
    pub fn severity(&self) -> Severity {
        if self.early && (self.new_issuer || self.new_key) { Severity::Warning } else { Severity::Info }
    }

    /// What changed and when, in words.
    pub fn words(&self) -> &'static str {
        match (self.new_issuer, self.new_key, self.early) {
            (true, true, true) => "with another issuer and another key, long before the old one was due",
            (true, false, true) => "with another issuer, long before the old one was due",
            (false, true, true) => "with another key, long before the old one was due",
            (false, false, true) => "with the same issuer and key, before the old one was due",
            (true, _, false) => "from another issuer; the old one was due for renewal",
            (false, _, false) => "as it was due for renewal",
        }
    }
}

impl History {
    pub fn knows(&self, shown: &Shown) -> bool {
        self.0.iter().any(|known| known.sha256 == shown.sha256)
    }

    /// Notes what is shown at `now`, in seconds since 1970. `None` for the first certificate and for one that was shown before.
    pub fn note(&mut self, shown: &Shown, now: i64) -> Option<Change> {
        if let Some(place) = self.0.iter().position(|known| known.sha256 == shown.sha256) {
            let known = self.0.remove(place);
            self.0.push(known);
            return None;
        }
        let change = self.0.last().map(|before| Change {
            before: before.clone(),
            after: shown.clone(),
            new_issuer: before.issuer != shown.issuer,
            new_key: before.spki_sha256 != shown.spki_sha256,
            early: is_early(before, now),
        });
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(shown.clone());
        change
    }
}

fn is_early(before: &Shown, now: i64) -> bool {
    let lifetime = i128::from(before.not_after) - i128::from(before.not_before);
    let passed = i128::from(now) - i128::from(before.not_before);
    passed * 3 < lifetime * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: i64 = 24 * 60 * 60;

    fn shown(sha256: &str, issuer: &str, key: &str) -> Shown {
        Shown { sha256: sha256.into(), issuer: issuer.into(), spki_sha256: key.into(), not_before: 0, not_after: 90 * D }
    }

    fn change(to: &Shown, day: i64) -> (Severity, bool) {
        let mut history = History::default();
        assert_eq!(history.note(&shown("a", "CN=R3", "k1"), 0), None, "the first is no change");
        let change = history.note(to, day * D).unwrap();
        assert_eq!((change.before.sha256.as_str(), change.after.sha256.as_str()), ("a", "b"));
        (change.severity(), change.early)
    }

    #[test]
    fn another_issuer_or_key_is_a_warning_before_two_thirds_of_the_lifetime() {
        for (to, day, severity) in [
            (shown("b", "CN=R3", "k1"), 1, Severity::Info),
            (shown("b", "CN=R3", "k2"), 1, Severity::Warning),
            (shown("b", "CN=E5", "k1"), 59, Severity::Warning),
            (shown("b", "CN=E5", "k2"), 60, Severity::Info),
            (shown("b", "CN=R3", "k2"), 90, Severity::Info),
        ] {
            assert_eq!(change(&to, day), (severity, day < 60), "{to:?} on day {day}");
        }
    }

    #[test]
    fn machines_that_take_turns_are_no_change_each_time() {
        let mut history = History::default();
        let (a, b) = (shown("a", "CN=R3", "k1"), shown("b", "CN=R3", "k2"));
        history.note(&a, 0);
        assert!(history.note(&b, D).is_some());
        for _ in 0..5 {
            assert_eq!(history.note(&a, D), None);
            assert_eq!(history.note(&b, D), None);
        }
    }

    #[test]
    fn a_server_with_ever_new_certificates_takes_no_memory() {
        let mut history = History::default();
        for n in 0..100 {
            history.note(&shown(&n.to_string(), "CN=R3", "k"), 0);
        }
        assert_eq!(history.0.len(), REMEMBERED);
    }
}
