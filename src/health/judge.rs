//! Puts what is seen beside what was seen and told before, and says what is to be told. No clock, no I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    alert::Alert,
    board::{Role, WatchedCertificate, WatchedList},
    conditions::{self, seconds},
    definitions::Definitions,
    ledger::{Condition, Ledger},
    renewal::{History, Shown},
    streak::{Standing, Streak},
    threshold::Thresholds,
};
use crate::{
    reason::Explanation,
    tls::{Position, Report},
};

/// Begins the scopes of rejected reloads; the upstream's name follows, a listener's table in brackets, or nothing where the
/// whole file was meant.
const REJECTED: &str = "rejected:";

/// What must not be forgotten in a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    ledger: Ledger,
    /// What was shown, by scope.
    histories: BTreeMap<String, History>,
    /// By upstream.
    tools: BTreeMap<String, Definitions>,
}

#[derive(Debug)]
pub(super) struct Judge {
    thresholds: Thresholds,
    failures_before_down: NonZeroU32,
    memory: Memory,
    streaks: BTreeMap<String, Streak>,
    /// The memory differs from what was written.
    dirty: bool,
}

impl Judge {
    pub(super) fn new(thresholds: Thresholds, failures_before_down: NonZeroU32, memory: Memory) -> Self {
        Self { thresholds, failures_before_down, memory, streaks: BTreeMap::new(), dirty: false }
    }

    /// Judges by other settings from now on.
    pub(super) fn set_up(&mut self, thresholds: Thresholds, failures_before_down: NonZeroU32) {
        (self.thresholds, self.failures_before_down) = (thresholds, failures_before_down);
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the memory has to be written; asked once.
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn open(&self) -> Vec<Alert> {
        self.memory.ledger.open().into_iter().cloned().collect()
    }

    /// An upstream was checked. `certificates` are those of its server as far as the handshake got, which may be none: a server
    /// that cannot be reached has not renewed anything.
    pub(super) fn checked(
        &mut self,
        upstream: &str,
        report: Option<&Report>,
        certificates: &[WatchedCertificate],
        failure: Option<&Explanation>,
        now: Duration,
    ) -> (Standing, Vec<Alert>) {
        let streak = self.streaks.entry(upstream.to_owned()).or_default();
        let standing = if failure.is_some() { streak.failed(self.failures_before_down) } else { streak.passed() };
        let length = streak.length();
        let mut told = Vec::new();
        let mut ended = false;
        if !certificates.is_empty() {
            let expiries = conditions::expiries(certificates, &self.thresholds, now);
            ended = expiries.iter().any(|expiry| expiry.rank == 0);
            told.extend(self.settle_dated(&format!("server:{upstream}"), expiries, &conditions::expiry_keys(certificates), now));
        }
        // An end is told of already.
        let problem = if ended { None } else { conditions::problem(upstream, report, failure, now) };
        told.extend(self.settle(&format!("problem:{upstream}"), problem.into_iter().collect(), now));
        match (standing, failure) {
            (Standing::Down, Some(why)) => {
                told.extend(self.settle(&format!("down:{upstream}"), vec![conditions::down(upstream, length, why, now)], now));
            }
            (Standing::Well, _) => told.extend(self.settle(&format!("down:{upstream}"), Vec::new(), now)),
            _ => {}
        }
        (standing, told)
    }

    /// How many checks of an upstream failed in a row.
    pub(super) fn failures(&self, upstream: &str) -> u32 {
        self.streaks.get(upstream).map_or(0, |streak| streak.length())
    }

    /// Certificates from files, or those of a listener: `scope` is where they are.
    pub(super) fn held(&mut self, scope: &str, certificates: &[WatchedCertificate], now: Duration) -> Vec<Alert> {
        let expiries = conditions::expiries(certificates, &self.thresholds, now);
        self.settle_dated(scope, expiries, &conditions::expiry_keys(certificates), now)
    }

    /// What is served at `public_url`.
    pub(super) fn public(&mut self, report: &Report, shown: &[WatchedCertificate], now: Duration) -> Vec<Alert> {
        let mut told = self.settle("problem-public", conditions::public_problem(report, now).into_iter().collect(), now);
        if !shown.is_empty() {
            told.extend(self.held("public", shown, now));
            told.extend(self.shown("public", shown, now));
        }
        told
    }

    pub(super) fn lists(&mut self, scope: &str, lists: &[WatchedList], now: Duration) -> Vec<Alert> {
        self.settle_dated(scope, conditions::list_expiries(lists, now), &conditions::list_keys(lists), now)
    }

    /// The leaf that a server shows; tells of another one than before.
    pub(super) fn shown(&mut self, scope: &str, certificates: &[WatchedCertificate], now: Duration) -> Option<Alert> {
        let leaf = certificates.iter().find(|certificate| certificate.position == Position::Leaf)?;
        let shown = Shown {
            sha256: leaf.facts.fingerprint.clone(),
            issuer: leaf.facts.issuer.clone(),
            spki_sha256: leaf.facts.spki_sha256.clone(),
            not_before: leaf.facts.not_before,
            not_after: leaf.facts.not_after,
        };
        let history = self.memory.histories.entry(scope.to_owned()).or_default();
        self.dirty |= !history.knows(&shown);
        let change = history.note(&shown, seconds(now))?;
        let upstream = leaf.upstream.as_deref();
        let whose = match (upstream, leaf.role) {
            (Some(name), _) => format!("upstream \"{name}\""),
            (None, Role::Public) => "public_url".to_owned(),
            (None, _) => "the gateway's own listener".to_owned(),
        };
        Some(conditions::changed(&whose, upstream, &change, &leaf.facts.subject, now))
    }

    /// The tools that an upstream offers; tells of other definitions than before.
    pub(super) fn offered(&mut self, upstream: &str, definitions: &Definitions, now: Duration) -> Option<Alert> {
        let before = self.memory.tools.insert(upstream.to_owned(), definitions.clone());
        self.dirty |= before.as_ref() != Some(definitions);
        let before = before?;
        definitions.difference_to(&before).map(|difference| conditions::tools(upstream, &difference, now))
    }

    /// New files or a new configuration were rejected, or (`None`) accepted: an upstream's, or those of the gateway's own
    /// `part`, which is `[server.tls]` and the like for a listener and empty for `nexus.toml`.
    pub(super) fn reloaded(&mut self, upstream: Option<&str>, part: &str, rejection: Option<&str>, now: Duration) -> Vec<Alert> {
        let scope = format!("{REJECTED}{}", upstream.unwrap_or(part));
        let condition = rejection.map(|detail| conditions::rejected(&scope, upstream, detail, now));
        self.settle(&scope, condition.into_iter().collect(), now)
    }

    /// The process begins: it runs with what stands in the files now, so nothing is rejected any more.
    pub(super) fn started(&mut self, now: Duration) -> Vec<Alert> {
        let over = self.memory.ledger.keep(|scope| !scope.starts_with(REJECTED), now.as_secs());
        self.dirty |= !over.is_empty();
        over
    }

    /// What an upstream is degraded for.
    pub(super) fn concern(&self, certificates: &[WatchedCertificate], now: Duration) -> Option<Explanation> {
        conditions::concern(certificates, &self.thresholds, now)
    }

    /// Forgets the upstreams that are gone.
    pub(super) fn keep(&mut self, upstreams: impl Fn(&str) -> bool, scopes: impl Fn(&str) -> bool, now: Duration) -> Vec<Alert> {
        self.streaks.retain(|name, _| upstreams(name));
        self.memory.tools.retain(|name, _| upstreams(name));
        self.memory.histories.retain(|scope, _| scopes(scope));
        self.dirty = true;
        self.memory.ledger.keep(scopes, now.as_secs())
    }

    fn settle(&mut self, scope: &str, conditions: Vec<Condition>, now: Duration) -> Vec<Alert> {
        self.settle_dated(scope, conditions, &BTreeSet::new(), now)
    }

    fn settle_dated(&mut self, scope: &str, conditions: Vec<Condition>, there: &BTreeSet<String>, now: Duration) -> Vec<Alert> {
        let told = self.memory.ledger.settle_dated(scope, conditions, there, now.as_secs());
        self.dirty |= !told.is_empty();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::{super::alert::Stage, *};
    use crate::reason::Reason;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn judge() -> Judge {
        Judge::new(Thresholds::default(), NonZeroU32::new(3).unwrap(), Memory::default())
    }

    fn why(reason: Reason) -> Explanation {
        Explanation::new(reason, "it went wrong", "mend it")
    }

    fn keys(told: &[Alert]) -> Vec<(&str, &str)> {
        told.iter().map(|alert| (alert.stage.word(), alert.key.as_str())).collect()
    }

    #[test]
    fn what_the_network_may_cause_is_told_after_three_failures_and_once() {
        let mut judge = judge();
        let refused = why(Reason::Refused);
        let mut check = |failure: Option<&Explanation>| judge.checked("crm", None, &[], failure, NOW);
        assert_eq!(check(Some(&refused)), (Standing::Suspect(1), vec![]));
        assert_eq!(check(Some(&refused)), (Standing::Suspect(2), vec![]));
        let (standing, told) = check(Some(&refused));
        assert_eq!((standing, keys(&told)), (Standing::Down, vec![("firing", "down:crm")]));
        assert_eq!(check(Some(&refused)), (Standing::Down, vec![]));
        let (standing, told) = check(None);
        assert_eq!((standing, keys(&told)), (Standing::Well, vec![("resolved", "down:crm")]));
    }

    #[test]
    fn a_certificate_problem_is_told_at_once_and_is_over_with_the_first_success() {
        let mut judge = judge();
        for reason in [Reason::TlsUnknownCa, Reason::TlsPinMismatch, Reason::LocalKeyMismatch] {
            let (standing, told) = judge.checked("crm", None, &[], Some(&why(reason)), NOW);
            assert_eq!((standing, keys(&told)), (Standing::Suspect(1), vec![("firing", format!("problem:crm:{reason}").as_str())]));
            assert_eq!(judge.checked("crm", None, &[], Some(&why(reason)), NOW).1, []);
            let (_, told) = judge.checked("crm", None, &[], None, NOW);
            assert_eq!(told.iter().map(|alert| alert.stage).collect::<Vec<_>>(), [Stage::Resolved]);
        }
        for reason in [Reason::TlsReset, Reason::TlsTimeout, Reason::Dns, Reason::HttpStatus] {
            assert_eq!(judge.checked("wiki", None, &[], Some(&why(reason)), NOW).1, [], "{reason} may be bad luck");
            judge.checked("wiki", None, &[], None, NOW);
        }
    }

    #[test]
    fn a_rejected_reload_is_told_until_one_is_accepted() {
        let mut judge = judge();
        assert_eq!(keys(&judge.reloaded(Some("crm"), "", Some("key and certificate differ"), NOW)), [("firing", "rejected:crm")]);
        assert_eq!(judge.reloaded(Some("crm"), "", Some("key and certificate differ"), NOW), []);
        assert_eq!(judge.reloaded(None, "", None, NOW), []);
        assert!(judge.reloaded(None, "", Some("a typo"), NOW)[0].remedy.contains("reload it again"));
        assert!(judge.reloaded(None, "[server.tls]", Some("no key"), NOW)[0].remedy.contains("tried again by themselves"));
        assert_eq!(keys(&judge.reloaded(Some("crm"), "", None, NOW)), [("resolved", "rejected:crm")]);
    }

    #[test]
    fn what_was_rejected_before_a_restart_is_over_with_it_and_nothing_else_is() {
        let mut before = judge();
        before.reloaded(Some("crm"), "", Some("key and certificate differ"), NOW);
        before.reloaded(None, "", Some("nexus.toml has problems"), NOW);
        before.checked("crm", None, &[], Some(&why(Reason::TlsUnknownCa)), NOW);
        let mut judge = Judge::new(Thresholds::default(), NonZeroU32::new(3).unwrap(), before.memory().clone());
        assert_eq!(keys(&judge.started(NOW)), [("resolved", "rejected:"), ("resolved", "rejected:crm")]);
        assert!(judge.take_dirty());
        assert_eq!(judge.started(NOW), []);
        assert_eq!(judge.open().len(), 1, "the server's certificate is as bad as before");
    }

    #[test]
    fn an_upstream_that_is_gone_is_forgotten() {
        let mut judge = judge();
        judge.checked("crm", None, &[], Some(&why(Reason::TlsUnknownCa)), NOW);
        let told = judge.keep(|name| name != "crm", |scope| !scope.ends_with(":crm"), NOW);
        assert_eq!(keys(&told), [("resolved", "problem:crm:tls_unknown_ca")]);
        assert_eq!(judge.failures("crm"), 0);
    }

    #[test]
    fn tools_seen_for_the_first_time_are_no_news() {
        let mut judge = judge();
        assert_eq!(judge.offered("crm", &Definitions::default(), NOW), None);
        assert_eq!(judge.offered("crm", &Definitions::default(), NOW), None);
    }
}
