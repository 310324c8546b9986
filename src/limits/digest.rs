//! What buckets are called within this process.

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};

/// Random, so that nobody can choose two buckets that meet.
#[derive(Debug)]
pub(super) struct Seeds(RandomState);

/// 64 bits: where to look, and what is looked for there. Among all buckets that are kept, the chance that any two meet is one in
/// a hundred million; and they would share their tokens, no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Digest(u64);

impl Seeds {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(super) fn digest(&self, of: &impl Hash) -> Digest {
        Digest(self.0.hash_one(of))
    }
}

impl Digest {
    /// One of so many places, by the upper bits; 0 where there are none.
    pub(super) fn place(self, count: usize) -> usize {
        let place = (u128::from(self.0) * count as u128) >> 64;
        usize::try_from(place).unwrap_or_default()
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Those in one place have their upper bits in common, of which a hash map makes use.
        state.write_u64(self.0.rotate_left(32));
    }
}
