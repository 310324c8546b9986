//! Which tasks each principal was shown, as far as it is remembered: a server's own list may hold everybody's.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

use crate::{auth::PrincipalKey, gateway::by_principal::ByPrincipal, names::UpstreamName};

/// Tasks remembered for one principal, and the bytes of their ids; the oldest go first.
const MOST_TASKS: usize = 1000;
const MOST_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct OwnedTasks {
    shown: Mutex<ByPrincipal<Own>>,
}

/// One principal's, the oldest first.
#[derive(Debug, Default)]
struct Own {
    tasks: VecDeque<(UpstreamName, Box<str>)>,
    bytes: usize,
}

impl OwnedTasks {
    pub(super) fn note(&self, principal: &PrincipalKey, upstream: &UpstreamName, own: &str) {
        self.shown.lock().note(principal).add(upstream, own);
    }

    /// The upstream's ids of the tasks that it made for this principal.
    pub(super) fn of(&self, principal: &PrincipalKey, upstream: &UpstreamName) -> HashSet<Box<str>> {
        let shown = self.shown.lock();
        let tasks = shown.get(principal).into_iter().flat_map(|own| &own.tasks);
        tasks.filter(|(by, _)| by == upstream).map(|(_, own)| own.clone()).collect()
    }
}

impl Own {
    fn add(&mut self, upstream: &UpstreamName, own: &str) {
        if self.tasks.iter().rev().any(|(by, known)| **known == *own && by == upstream) {
            return;
        }
        self.bytes += own.len();
        self.tasks.push_back((upstream.clone(), own.into()));
        while self.tasks.len() > MOST_TASKS || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.tasks.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principal_has_its_own_tasks_of_each_upstream() {
        let owned = OwnedTasks::default();
        let [ann, bob] = ["ann", "bob"].map(|name| PrincipalKey::of("test", "", name));
        let [crm, erp] = ["crm", "erp"].map(|name| UpstreamName::parse(name).unwrap());
        owned.note(&ann, &crm, "1");
        owned.note(&ann, &crm, "1");
        owned.note(&ann, &erp, "2");
        owned.note(&bob, &crm, "3");
        assert_eq!(owned.of(&ann, &crm), HashSet::from(["1".into()]));
        assert_eq!(owned.of(&ann, &erp), HashSet::from(["2".into()]));
        assert_eq!(owned.of(&bob, &erp), HashSet::new());
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_size() {
        let owned = OwnedTasks::default();
        let crm = UpstreamName::parse("crm").unwrap();
        let ann = PrincipalKey::of("test", "", "ann");
        (0..=MOST_TASKS).for_each(|n| owned.note(&ann, &crm, &n.to_string()));
        let tasks = owned.of(&ann, &crm);
        assert!(tasks.len() == MOST_TASKS && !tasks.contains("0") && tasks.contains("1000"));
        (0..3).for_each(|n| owned.note(&ann, &crm, &n.to_string().repeat(MOST_BYTES / 2)));
        assert_eq!(owned.of(&ann, &crm).len(), 2);
    }
}
