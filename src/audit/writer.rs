//! The thread that writes lines.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{Sink, trail::Losses};

/// A pause after writing, so that a busy gateway wakes this thread a few hundred times a second and not with every call.
const PAUSE: Duration = Duration::from_millis(2);
/// Orders that are taken at once.
const AT_ONCE: usize = 1024;

#[derive(Debug)]
pub(super) enum Order {
    Line(Vec<u8>),
    /// From here on lines go there.
    Turn(Sink),
    /// To be told when everything before it was written.
    Tell(oneshot::Sender<()>),
}

/// Writes until the last sender is gone, and everything was written.
pub(super) fn write(mut sink: Sink, mut orders: mpsc::Receiver<Order>, losses: &Arc<Losses>) {
    let mut taken = Vec::with_capacity(AT_ONCE);
    let mut lines = Vec::new();
    let mut count = 0;
    while orders.blocking_recv_many(&mut taken, AT_ONCE) > 0 {
        let mut is_awaited = false;
        for order in taken.drain(..) {
            match order {
                Order::Line(line) => {
                    losses.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    lines.extend_from_slice(&line);
                    count += 1;
                }
                Order::Turn(next) => {
                    put(&mut sink, &mut lines, &mut count, losses);
                    sink = next;
                }
                Order::Tell(done) => {
                    put(&mut sink, &mut lines, &mut count, losses);
                    is_awaited = true;
                    let _ = done.send(());
                }
            }
        }
        put(&mut sink, &mut lines, &mut count, losses);
        if !is_awaited {
            std::thread::park_timeout(PAUSE);
        }
    }
}

fn put(sink: &mut Sink, lines: &mut Vec<u8>, count: &mut u64, losses: &Losses) {
    if lines.is_empty() {
        return;
    }
    let (written, outcome) = sink.write(lines);
    if let Err(error) = outcome {
        losses.add(count.saturating_sub(written), &error);
    }
    lines.clear();
    *count = 0;
}
