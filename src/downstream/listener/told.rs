//! A bound on log lines that clients can cause: the first ones of a while are told, and then how many there were.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines within [`WHILE`].
const MOST: u32 = 10;
const WHILE: Duration = Duration::from_secs(10);

/// What was told lately.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    told: u32,
    kept_back: u64,
}

impl Told {
    /// Whether the next line may be told: then how many were kept back before it.
    pub(crate) fn next(&self) -> Option<u64> {
        let mut window = self.0.lock();
        let now = Instant::now();
        match &mut *window {
            Some(open) if now.duration_since(open.began) < WHILE => {
                if open.told < MOST {
                    open.told += 1;
                    return Some(0);
                }
                open.kept_back = open.kept_back.saturating_add(1);
                None
            }
            before => {
                let kept_back = before.as_ref().map_or(0, |window| window.kept_back);
                *before = Some(Window { began: now, told: 1, kept_back: 0 });
                Some(kept_back)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_ten_times_and_then_counted() {
        let told = Told::default();
        assert_eq!((0..1_000).filter(|_| told.next() == Some(0)).count(), 10);
        tokio::time::advance(WHILE).await;
        assert_eq!(told.next(), Some(990));
        assert_eq!(told.next(), Some(0));
    }
}
