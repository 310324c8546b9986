//! The name of one request, under which log, audit trail and client speak of it.

use std::{
    fmt,
    num::NonZeroU64,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// Unique within this process and unlikely to be met in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(NonZeroU64);

impl RequestId {
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(NonZeroU64::MIN.saturating_add(LAST.fetch_add(1, Ordering::Relaxed)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        let process = PROCESS.get_or_init(|| {
            let mut bytes = [0; 4];
            // Without randomness the ids of two processes may be alike; nothing depends on it.
            let _ = SystemRandom::new().fill(&mut bytes);
            u32::from_le_bytes(bytes)
        });
        write!(f, "{process:08x}{:04x}", self.0)
    }
}
