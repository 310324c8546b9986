//! What is kept for each principal, as long as there is room for its principals.

use std::collections::HashMap;

use crate::auth::PrincipalKey;

/// Principals for whom something is kept; the one of whom nothing was noted for longest goes first.
const MOST_PRINCIPALS: usize = 1000;

#[derive(Debug)]
pub(super) struct ByPrincipal<T> {
    /// With when each was noted last.
    of: HashMap<PrincipalKey, (u64, T)>,
    /// Counts the notes; the greatest is the latest.
    notes: u64,
}

impl<T> Default for ByPrincipal<T> {
    fn default() -> Self {
        Self { of: HashMap::new(), notes: 0 }
    }
}

impl<T: Default> ByPrincipal<T> {
    pub(super) fn get(&self, principal: &PrincipalKey) -> Option<&T> {
        self.of.get(principal).map(|(_, kept)| kept)
    }

    /// This principal's, to be added to.
    pub(super) fn note(&mut self, principal: &PrincipalKey) -> &mut T {
        if !self.of.contains_key(principal) && self.of.len() >= MOST_PRINCIPALS {
            let stalest = self.of.iter().min_by_key(|(_, (noted, _))| *noted).map(|(principal, _)| principal.clone());
            stalest.and_then(|stalest| self.of.remove(&stalest));
        }
        self.notes += 1;
        let (noted, kept) = self.of.entry(principal.clone()).or_default();
        *noted = self.notes;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_noted_longest_ago_makes_room() {
        let mut kept = ByPrincipal::<u64>::default();
        let principal = |n: usize| PrincipalKey::of("test", "", n.to_string());
        (0..MOST_PRINCIPALS).for_each(|n| *kept.note(&principal(n)) += 1);
        *kept.note(&principal(0)) += 1;
        *kept.note(&principal(MOST_PRINCIPALS)) += 1;
        assert_eq!((kept.get(&principal(0)), kept.get(&principal(1)), kept.of.len()), (Some(&2), None, MOST_PRINCIPALS));
    }
}
