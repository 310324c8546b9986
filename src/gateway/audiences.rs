//! What the catalog is to callers of different groups: one for all who have the same rights, made when the first of them comes.
//!
//! Each is a catalog like any other, made of what its callers may use. So nothing that looks something up, lists it or finds it
//! can tell what is denied from what does not exist.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};

use super::{rebuild::sources_of, view::View};
use crate::{
    auth::{Audience, Caller},
    catalog,
};

/// Most audiences whose catalogs are kept, and bytes of their lists; who was there longest ago goes first, and the latest stays.
/// Groups can be combined in many ways, and the bytes are what counts.
const MOST_AUDIENCES: usize = 8192;
/// Catalogs of different audiences are made beside each other.
const MAKERS: usize = 16;
/// The same of one principal, whose groups seldom change.
const MOST_OF_ONE: usize = 2;
const MOST_BYTES: usize = 256 << 20;

/// The catalogs of one view's audiences. They go with it, since another view has other items or other rules.
#[derive(Debug)]
pub(super) struct Audiences {
    most: usize,
    kept: RwLock<HashMap<Audience, Kept>>,
    /// One making of an audience at a time, so that those who come together wait for one; others seldom wait for it.
    making: [Mutex<()>; MAKERS],
    /// Counts the uses.
    uses: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    view: Arc<View>,
    /// Which use was the last one.
    used: AtomicU64,
}

impl View {
    /// What there is for this caller.
    pub(super) fn seen_by(self: &Arc<Self>, caller: &Caller) -> Arc<Self> {
        let access = &self.lineup.access;
        if access.is_open() {
            return Arc::clone(self);
        }
        self.seen_by_groups(caller.groups().iter().map(|group| &**group))
    }

    /// The same for somebody in these groups.
    pub(super) fn seen_by_groups<'a>(self: &Arc<Self>, groups: impl IntoIterator<Item = &'a str>) -> Arc<Self> {
        let audience = self.lineup.access.audience(groups);
        if let Some(view) = self.audiences.get(&audience) {
            return view;
        }
        let _making = self.audiences.maker(&audience).lock();
        if let Some(view) = self.audiences.get(&audience) {
            return view;
        }
        let view = Arc::new(self.made_for(audience));
        self.audiences.keep(audience, &view);
        view
    }

    fn made_for(&self, audience: Audience) -> Self {
        let access = &self.lineup.access;
        let sources = sources_of(&self.lineup, &self.parts);
        let fresh = catalog::merge(&sources, &self.lineup.config.rules(), |upstream, wanted| access.sees(&audience, upstream, wanted));
        drop(sources);
        // Who may use everything shares what is there already.
        let catalog = if fresh.is_complete() { Arc::clone(&self.catalog) } else { Arc::new(fresh) };
        Self { audience: Some(audience), ..Self::new(Arc::clone(&self.lineup), catalog, Arc::clone(&self.parts)) }
    }
}

impl Audiences {
    /// Of a view that many see.
    pub(super) fn of_many() -> Self {
        Self::at_most(MOST_AUDIENCES)
    }

    /// Of a view that is one principal's own.
    pub(super) fn of_one() -> Self {
        Self::at_most(MOST_OF_ONE)
    }

    fn at_most(most: usize) -> Self {
        Self { most, kept: RwLock::default(), making: std::array::from_fn(|_| Mutex::default()), uses: AtomicU64::new(0) }
    }

    fn maker(&self, audience: &Audience) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        audience.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % MAKERS as u64).unwrap_or_default();
        self.making.get(index).expect("the remainder is below the number of makers")
    }

    fn get(&self, audience: &Audience) -> Option<Arc<View>> {
        let kept = self.kept.read();
        let found = kept.get(audience)?;
        found.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&found.view))
    }

    fn keep(&self, audience: Audience, view: &Arc<View>) {
        let mut kept = self.kept.write();
        let size = |kept: &HashMap<Audience, Kept>| -> usize { kept.values().map(|kept| kept.view.catalog.size()).sum() };
        while kept.len() >= self.most || size(&kept) + view.catalog.size() > MOST_BYTES {
            let stalest = kept.iter().min_by_key(|(_, kept)| kept.used.load(Ordering::Relaxed)).map(|(audience, _)| *audience);
            let Some(stalest) = stalest else { break };
            kept.remove(&stalest);
        }
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        kept.insert(audience, Kept { view: Arc::clone(view), used });
    }
}
