//! What happened lately: a bounded memory of state changes, reloads and alerts, and a way to follow it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{clock::Clock, finding::Severity, reason::Reason};

/// How many events are remembered.
pub const REMEMBERED: usize = 1000;

/// What kind of thing happened. The words are stable: scripts select by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    StateChanged,
    ListChanged,
    Reloaded,
    ReloadRejected,
    AlertSent,
    AlertResolved,
    CertificateChanged,
    ToolsChanged,
    AdminAction,
}

impl EventKind {
    pub const fn word(self) -> &'static str {
        match self {
            Self::StateChanged => "state_changed",
            Self::ListChanged => "list_changed",
            Self::Reloaded => "reloaded",
            Self::ReloadRejected => "reload_rejected",
            Self::AlertSent => "alert",
            Self::AlertResolved => "resolved",
            Self::CertificateChanged => "certificate_changed",
            Self::ToolsChanged => "tools_changed",
            Self::AdminAction => "admin_action",
        }
    }
}

/// What is said of an event by whoever notes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub kind: EventKind,
    pub severity: Severity,
    /// Absent when it concerns the whole gateway.
    pub upstream: Option<String>,
    /// The table of the one of our listeners that it concerns, such as `server.tls`.
    pub listener: Option<&'static str>,
    pub reason: Option<Reason>,
    /// One sentence, safe to print.
    pub detail: String,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts from 1 since the start of the process.
    pub id: u64,
    /// Wall clock, since 1970.
    pub at: Duration,
    pub news: News,
}

/// The memory. Cheap to share; full, it forgets the oldest.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    memory: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Events {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, memory: Mutex::default(), last: watch::Sender::new(0) }))
    }

    pub fn note(&self, news: News) {
        let mut memory = self.0.memory.lock();
        let id = *self.0.last.borrow() + 1;
        if memory.len() == REMEMBERED {
            memory.pop_front();
        }
        memory.push_back(Event { id, at: self.0.clock.now(), news });
        // Under the lock, so that ids and memory agree.
        self.0.last.send_replace(id);
    }

    /// Those after `id`, oldest first; 0 gives all that are remembered, and so does an id that was not given out yet: it is
    /// from before a restart, since when they count from 1 again.
    pub fn since(&self, id: u64) -> Vec<Event> {
        let memory = self.0.memory.lock();
        let id = if id > *self.0.last.borrow() { 0 } else { id };
        memory.iter().filter(|event| event.id > id).cloned().collect()
    }

    /// Changes with every event, to the id of the last one.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.0.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn news(detail: String) -> News {
        News { kind: EventKind::Reloaded, severity: Severity::Info, upstream: None, listener: None, reason: None, detail }
    }

    #[test]
    fn the_oldest_events_are_forgotten_and_ids_go_on() {
        let events = Events::new(Arc::new(SystemClock));
        for n in 1..=REMEMBERED + 5 {
            events.note(news(n.to_string()));
        }
        let kept = events.since(0);
        assert_eq!(kept.len(), REMEMBERED);
        assert_eq!(kept.first().map(|event| (event.id, event.news.detail.as_str())), Some((6, "6")));
        assert_eq!(events.since(REMEMBERED as u64 + 4).len(), 1);
        assert_eq!(*events.follow().borrow(), REMEMBERED as u64 + 5);
    }

    #[test]
    fn an_id_from_before_a_restart_gives_everything_since_it() {
        let events = Events::new(Arc::new(SystemClock));
        assert_eq!(events.since(900), []);
        events.note(news("1".to_owned()));
        assert_eq!(events.since(900).len(), 1);
        assert_eq!(events.since(1), []);
    }
}
