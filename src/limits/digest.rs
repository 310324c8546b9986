//! What buckets are called within this process.

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};

/// Random, so that nobody can choose two buckets that meet.
#[derive(Debug)]
pub(super) struct Seeds([RandomState; 2]);

/// 128 bits: where to look, and what is looked for there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Digest(u64, u64);

impl Seeds {
    pub(super) fn new() -> Self {
        Self([RandomState::new(), RandomState::new()])
    }

    pub(super) fn digest(&self, of: &impl Hash) -> Digest {
        let Self([one, other]) = self;
        Digest(one.hash_one(of), other.hash_one(of))
    }
}

impl Digest {
    /// One of so many places; 0 where there are none.
    pub(super) fn place(self, count: usize) -> usize {
        let Some(place) = self.0.checked_rem(count as u64) else { return 0 };
        usize::try_from(place).unwrap_or_default()
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.1);
    }
}
