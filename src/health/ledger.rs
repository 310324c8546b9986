//! What holds at the moment, and what of it was told: everything once, and its end once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Stage};

/// Something that holds about one of the things that are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How far it has gone, and told once for each: for an expiry, the seconds of the threshold. Two upstreams with the same
    /// certificate are told of together, because the alert's key is the certificate's.
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
    /// As it was told last.
    rank: u64,
    /// Every rank that was told: not the worst alone, because one that was told while the clock was wrong silences no other.
    told: BTreeSet<u64>,
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
        self.settle_dated(scope, conditions, &BTreeSet::new(), at)
    }

    /// The same for what comes with time. `there`: the keys of everything that is still seen, whether or not it is due. What
    /// was told of it is not over because the clock was set back.
    pub fn settle_dated(&mut self, scope: &str, conditions: Vec<Condition>, there: &BTreeSet<String>, at: u64) -> Vec<Alert> {
        let holds: BTreeSet<String> = conditions.iter().map(|condition| condition.alert.key.clone()).collect();
        let mut told = self.release(scope, at, |key, alert| !(holds.contains(key) || there.contains(key) && at < alert.at));
        for Condition { rank, mut alert } in conditions {
            (alert.stage, alert.rank) = (Stage::Firing, rank);
            match self.open.get_mut(&alert.key) {
                None => {
                    let scopes = BTreeSet::from([scope.to_owned()]);
                    self.open.insert(alert.key.clone(), Entry { rank, told: BTreeSet::from([rank]), scopes, alert: alert.clone() });
                    told.push(alert);
                }
                Some(entry) => {
                    entry.scopes.insert(scope.to_owned());
                    // What is milder than before is news only while the clock says that nothing was told yet.
                    let is_news = rank < entry.rank || alert.at < entry.alert.at;
                    if is_news && entry.told.insert(rank) {
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
        gone.iter().flat_map(|scope| self.release(scope, at, |_, _| true)).collect()
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

    fn release(&mut self, scope: &str, at: u64, over: impl Fn(&str, &Alert) -> bool) -> Vec<Alert> {
        let mut told = Vec::new();
        self.open.retain(|key, entry| {
            let left = over(key, &entry.alert) && entry.scopes.remove(scope) && entry.scopes.is_empty();
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
            rank: 0,
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

    /// A certificate that ends on day 100, as a look on `day` finds it; the spans are 14, 7 and 1 days.
    fn look(ledger: &mut Ledger, day: u64) -> Vec<(Stage, String)> {
        let left = 100_u64.checked_sub(day);
        let span = match left {
            None => Some(0),
            Some(left) => [1, 7, 14].into_iter().find(|span| left <= *span),
        };
        let conditions = span.map(|span| {
            let mut condition = expiry("a", span);
            condition.alert.at = day * DAY;
            condition
        });
        let there = BTreeSet::from(["expiry:a".to_owned()]);
        let told = ledger.settle_dated("crm", conditions.into_iter().collect(), &there, day * DAY);
        told.into_iter().map(|alert| (alert.stage, alert.summary)).collect()
    }

    #[test]
    fn a_clock_set_back_repeats_nothing_and_ends_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(look(&mut ledger, 86).len(), 1);
        assert_eq!(look(&mut ledger, 93).len(), 1);
        for day in [87, 10, 0, 86, 93, 95] {
            assert_eq!(look(&mut ledger, day), [], "day {day}");
            assert!(ledger.is_open("expiry:a"));
        }
        assert_eq!(look(&mut ledger, 99), [(Stage::Firing, "a ends within 1 days".to_owned())]);
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_while_silences_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(look(&mut ledger, 5000), [(Stage::Firing, "a ends within 0 days".to_owned())]);
        assert_eq!(look(&mut ledger, 10), []);
        for (day, span) in [(86, 14), (93, 7), (99, 1)] {
            assert_eq!(look(&mut ledger, day), [(Stage::Firing, format!("a ends within {span} days"))]);
            assert_eq!(look(&mut ledger, day), []);
        }
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
