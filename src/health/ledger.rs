//! What holds at the moment, and what of it was told: everything once, and its end once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Stage};

/// Something that holds about one of the things that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How far it has gone, the smaller the worse: it is told again only when it gets worse. For an expiry, the seconds of the
    /// threshold; two upstreams with the same certificate are told of together, because the alert's key is the certificate's.
    pub rank: u64,
    pub alert: Alert,
}

/// Remembers what was told. Knows no clock and does no I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    open: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    rank: u64,
    /// Where it was seen; with the last of them it is over.
    scopes: BTreeSet<String>,
    /// As it was told last.
    alert: Alert,
}

impl Ledger {
    /// Takes everything that holds about `scope` now, and gives what is to be told: what is new or worse, and what is over.
    ///
    /// A scope is one thing that is looked at as a whole, such as the chain that an upstream's server shows. `at` is in seconds
    /// since 1970.
    pub fn settle(&mut self, scope: &str, conditions: Vec<Condition>, at: u64) -> Vec<Alert> {
        let holds: BTreeSet<String> = conditions.iter().map(|condition| condition.alert.key.clone()).collect();
        let mut told = self.release(scope, at, |key| !holds.contains(key));
        for Condition { rank, mut alert } in conditions {
            alert.stage = Stage::Firing;
            match self.open.get_mut(&alert.key) {
                None => {
                    let scopes = BTreeSet::from([scope.to_owned()]);
                    self.open.insert(alert.key.clone(), Entry { rank, scopes, alert: alert.clone() });
                    told.push(alert);
                }
                Some(entry) => {
                    entry.scopes.insert(scope.to_owned());
                    if rank < entry.rank {
                        entry.rank = rank;
                        entry.alert = alert.clone();
                        told.push(alert);
                    }
                }
            }
        }
        told
    }

    /// Forgets the scopes that are not watched any more; what was told of them alone is over.
    pub fn keep(&mut self, scopes: impl Fn(&str) -> bool, at: u64) -> Vec<Alert> {
        let gone: BTreeSet<String> =
            self.open.values().flat_map(|entry| entry.scopes.iter()).filter(|scope| !scopes(scope)).cloned().collect();
        gone.iter().flat_map(|scope| self.release(scope, at, |_| true)).collect()
    }

    /// What was told and holds on, worst first.
    pub fn open(&self) -> Vec<&Alert> {
        let mut open: Vec<_> = self.open.values().map(|entry| &entry.alert).collect();
        open.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        open
    }

    /// Whether a matter was told and holds on.
    pub fn is_open(&self, key: &str) -> bool {
        self.open.contains_key(key)
    }

    fn release(&mut self, scope: &str, at: u64, over: impl Fn(&str) -> bool) -> Vec<Alert> {
        let mut told = Vec::new();
        self.open.retain(|key, entry| {
            let left = over(key) && entry.scopes.remove(scope) && entry.scopes.is_empty();
            if left {
                told.push(Alert { stage: Stage::Resolved, remedy: String::new(), at, ..entry.alert.clone() });
            }
            !left
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::alert::{Grade, Topic},
        *,
    };

    const DAY: u64 = 24 * 60 * 60;

    fn expiry(fingerprint: &str, days: u64) -> Condition {
        let alert = Alert {
            topic: Topic::Expiry,
            stage: Stage::Firing,
            severity: if days > 7 { Grade::Warning } else { Grade::Error },
            key: format!("expiry:{fingerprint}"),
            upstream: Some("crm".into()),
            code: None,
            summary: format!("{fingerprint} ends within {days} days"),
            remedy: "renew it".into(),
            certificate: None,
            at: 0,
        };
        Condition { rank: days * DAY, alert }
    }

    fn told(alerts: &[Alert]) -> Vec<(&str, &str)> {
        alerts.iter().map(|alert| (alert.stage.word(), alert.summary.as_str())).collect()
    }

    #[test]
    fn a_certificate_is_told_of_once_a_threshold_and_its_renewal_once() {
        let mut ledger = Ledger::default();
        assert_eq!(told(&ledger.settle("crm", vec![expiry("a", 14)], 1)), [("firing", "a ends within 14 days")]);
        assert_eq!(told(&ledger.settle("crm", vec![expiry("a", 14)], 2)), []);
        assert_eq!(told(&ledger.settle("crm", vec![expiry("a", 7)], 3)), [("firing", "a ends within 7 days")]);
        assert_eq!(told(&ledger.settle("crm", vec![expiry("a", 7)], 4)), []);
        let over = ledger.settle("crm", vec![], 5);
        assert_eq!(told(&over), [("resolved", "a ends within 7 days")]);
        assert_eq!((over[0].at, over[0].remedy.as_str()), (5, ""));
        assert_eq!(ledger.settle("crm", vec![], 6), []);
        assert_eq!(ledger.open(), Vec::<&Alert>::new());
    }

    #[test]
    fn another_certificate_begins_anew() {
        let mut ledger = Ledger::default();
        ledger.settle("crm", vec![expiry("a", 1)], 1);
        let next = ledger.settle("crm", vec![expiry("b", 30)], 2);
        assert_eq!(told(&next), [("resolved", "a ends within 1 days"), ("firing", "b ends within 30 days")]);
    }

    #[test]
    fn one_certificate_of_two_upstreams_is_one_matter() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.settle("crm", vec![expiry("a", 7)], 1).len(), 1);
        assert_eq!(ledger.settle("wiki", vec![expiry("a", 7)], 1), []);
        assert_eq!(ledger.settle("crm", vec![], 2), [], "the other still shows it");
        assert_eq!(told(&ledger.settle("wiki", vec![], 3)), [("resolved", "a ends within 7 days")]);
    }

    #[test]
    fn what_is_not_watched_any_more_is_over() {
        let mut ledger = Ledger::default();
        ledger.settle("crm", vec![expiry("a", 7), expiry("b", 7)], 1);
        ledger.settle("wiki", vec![expiry("b", 7)], 1);
        assert_eq!(told(&ledger.keep(|scope| scope == "wiki", 2)), [("resolved", "a ends within 7 days")]);
        assert!(ledger.is_open("expiry:b"));
    }

    #[test]
    fn nothing_is_told_again_after_it_was_read_back() {
        let mut ledger = Ledger::default();
        ledger.settle("crm", vec![expiry("a", 7)], 1);
        let text = serde_json::to_string(&ledger).unwrap();
        let mut again: Ledger = serde_json::from_str(&text).unwrap();
        assert_eq!(again, ledger);
        assert_eq!(again.settle("crm", vec![expiry("a", 7)], 9), []);
        assert_eq!(again.settle("crm", vec![expiry("a", 1)], 9).len(), 1);
    }
}
