//! The running trail: off, or a queue to the thread that writes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use super::{
    AuditConfig, Kind, Outcome, Record, Sink,
    writer::{self, Order},
};
use crate::{clock::Clock, problem::Problem};

/// Most lines that wait for the disk.
const QUEUE: usize = 8192;
/// Most bytes that do.
const QUEUE_BYTES: usize = 16 << 20;
/// A loss is told of no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Takes records. While it is off, one atomic look is all that it costs.
#[derive(Debug)]
pub struct Trail {
    on: ArcSwapOption<On>,
    losses: Arc<Losses>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct On {
    config: AuditConfig,
    orders: mpsc::Sender<Order>,
}

/// Lines that were not written.
#[derive(Debug)]
pub(super) struct Losses {
    lost: AtomicU64,
    /// Bytes in the queue.
    pub(super) waiting: AtomicUsize,
    clock: Arc<dyn Clock>,
    /// When a loss was told of last: seconds since 1970.
    told: AtomicU64,
}

impl Losses {
    pub(super) fn add(&self, lines: u64, why: &dyn fmt::Display) {
        if lines == 0 {
            return;
        }
        let total = self.lost.fetch_add(lines, Ordering::Relaxed) + lines;
        let now = self.clock.now().as_secs();
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= TOLD_EVERY.as_secs();
        if is_due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::error!(total, error = %why, "lines of the audit trail are lost");
        }
    }
}

impl Trail {
    /// Off until [`Trail::begin`].
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let losses = Losses { lost: AtomicU64::new(0), waiting: AtomicUsize::new(0), clock: Arc::clone(&clock), told: AtomicU64::new(0) };
        Self { on: ArcSwapOption::empty(), losses: Arc::new(losses), clock }
    }

    pub fn is_on(&self) -> bool {
        self.on.load().is_some()
    }

    /// Whether lines hold the arguments of calls.
    pub fn wants_arguments(&self) -> bool {
        self.on.load().as_ref().is_some_and(|on| on.config.arguments)
    }

    /// Wall-clock time, since 1970.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Lines that were not written, since the start (`nexus_audit_lost_total`).
    pub fn lost(&self) -> u64 {
        self.losses.lost.load(Ordering::Relaxed)
    }

    /// Whether another configuration means another target or other lines.
    pub fn differs_from(&self, config: Option<&AuditConfig>) -> bool {
        self.on.load().as_ref().map(|on| &on.config) != config
    }

    /// Opens what the configuration names and writes there from now on; `None`: nowhere.
    ///
    /// # Errors
    /// The target cannot be written to; everything is as before then.
    pub fn begin(&self, config: Option<&AuditConfig>) -> Result<(), Box<Problem>> {
        let sink = config.map(|config| Sink::open(&config.target)).transpose()?;
        self.begin_with(config.zip(sink));
        Ok(())
    }

    /// The same with a target that was opened. What was recorded before goes where it went.
    pub fn begin_with(&self, config: Option<(&AuditConfig, Sink)>) {
        let Some((config, sink)) = config else { return self.on.store(None) };
        let (orders, inbox) = mpsc::channel(QUEUE);
        let losses = Arc::clone(&self.losses);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer::write(sink, inbox, &losses));
        if let Err(error) = writer {
            // Without it the queue is closed, so that every line counts as lost.
            tracing::error!(%error, "the audit trail cannot be written: no thread for it");
        }
        self.on.store(Some(Arc::new(On { config: config.clone(), orders })));
    }

    /// Opens the target's path again, because a file that was renamed is to be let go of.
    ///
    /// # Errors
    /// It cannot be opened; lines go where they went.
    pub fn reopen(&self) -> Result<(), Box<Problem>> {
        let on = self.on.load();
        let Some(on) = on.as_ref() else { return Ok(()) };
        let sink = Sink::open(&on.config.target)?;
        if on.orders.try_send(Order::Turn(sink)).is_err() {
            tracing::warn!("the audit trail's queue is full; its file is opened again at the next reload");
        }
        Ok(())
    }

    /// Takes a record. Never waits: what cannot be queued is lost, and counted. Of a flood of requests that are turned away or
    /// limited, only as many are taken as leave room for calls.
    pub fn record(&self, record: &Record<'_>) {
        let on = self.on.load();
        let Some(on) = on.as_ref() else { return };
        let line = record.line();
        let length = line.len();
        let waiting = self.losses.waiting.fetch_add(length, Ordering::Relaxed) + length;
        let costs_nothing = record.kind == Kind::Refusal || record.outcome == Outcome::Limited;
        let (queue, bytes) = if costs_nothing { (QUEUE / 2, QUEUE_BYTES / 2) } else { (QUEUE, QUEUE_BYTES) };
        let has_room = waiting <= bytes && QUEUE - on.orders.capacity() < queue;
        if !has_room || on.orders.try_send(Order::Line(line)).is_err() {
            self.losses.waiting.fetch_sub(length, Ordering::Relaxed);
            self.losses.add(1, &"its queue is full");
        }
    }

    /// Waits until everything recorded so far was written.
    pub async fn written(&self) {
        let Some(on) = self.on.load_full() else { return };
        let (done, told) = oneshot::channel();
        if on.orders.send(Order::Tell(done)).await.is_ok() {
            let _ = told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Outcome, RequestId, Target},
        clock::FixedClock,
    };

    fn trail() -> Trail {
        Trail::new(Arc::new(FixedClock(Duration::from_secs(1_700_000_000))))
    }

    fn refused(trail: &Trail, kind: Kind) {
        trail.record(&Record::new(trail.now(), kind, RequestId::next(), Outcome::Denied));
    }

    #[tokio::test]
    async fn what_is_recorded_is_written_in_order_across_a_change_of_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let trail = trail();
        refused(&trail, Kind::Admin);
        for (name, count) in [("one", 3), ("two", 2)] {
            let path = folder.path().join(name);
            trail.begin(Some(&AuditConfig { target: Target::File(path), arguments: false })).unwrap();
            for _ in 0..count {
                refused(&trail, Kind::Call);
            }
            trail.written().await;
        }
        let lines = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
        assert_eq!((lines("one"), lines("two"), trail.lost()), (3, 2, 0));
    }

    #[tokio::test]
    async fn a_flood_of_refusals_leaves_room_for_calls() {
        let trail = trail();
        // Nobody takes anything out.
        let (orders, inbox) = mpsc::channel(QUEUE);
        let config = AuditConfig { target: Target::Stdout, arguments: false };
        trail.on.store(Some(Arc::new(On { config, orders })));
        for _ in 0..QUEUE {
            refused(&trail, Kind::Refusal);
        }
        assert_eq!(trail.lost() as usize, QUEUE / 2);
        for _ in 0..QUEUE {
            refused(&trail, Kind::Call);
        }
        assert_eq!(trail.lost() as usize, QUEUE);
        assert_eq!(inbox.len(), QUEUE);
    }

    #[tokio::test]
    async fn a_disk_that_is_full_costs_lines_and_nothing_else() {
        let trail = trail();
        trail.begin(Some(&AuditConfig { target: Target::File("/dev/full".into()), arguments: false })).unwrap();
        for _ in 0..5 {
            refused(&trail, Kind::Call);
        }
        trail.written().await;
        assert_eq!(trail.lost(), 5);
    }
}
