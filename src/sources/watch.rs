//! Tells when a file may have changed, whichever way it is replaced.
//!
//! A file is replaced by writing to it, by renaming another over it, by pointing a link on the way to it elsewhere (a
//! Kubernetes volume swaps `..data`), or by rewriting the target of such a link. A watch on the file itself misses most of
//! that, so the folder of every link on the way and of the file at its end is watched. Where the system offers no watching
//! (a network file system, no descriptors left) nothing is told: whoever follows looks from time to time all the same.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsString,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Links that are followed on the way to one file, as in path_resolution(7).
const MAX_LINKS: usize = 40;

/// Watches folders for all who follow files. Cheap to share: one system watch for all.
#[derive(Clone, Debug, Default)]
pub struct Watcher(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Taken before `state`. The thread that tells of events never takes it: adding a watch waits for that thread.
    system: Mutex<System>,
    state: Mutex<State>,
}

#[derive(Default)]
enum System {
    #[default]
    NotAsked,
    None,
    Watching(RecommendedWatcher),
}

#[derive(Default)]
struct State {
    next: u64,
    followers: HashMap<u64, Follower>,
    /// Folders with a watch of the system.
    folders: HashSet<PathBuf>,
}

struct Follower {
    /// Every link on the way and every file at an end.
    trail: HashSet<PathBuf>,
    touched: Arc<Notify>,
}

/// Follows a set of files until it is dropped.
#[derive(Debug)]
pub struct Following {
    shared: Arc<Shared>,
    number: u64,
    touched: Arc<Notify>,
}

impl Watcher {
    /// Follows no file yet.
    pub fn follow(&self) -> Following {
        let touched = Arc::new(Notify::new());
        let mut state = self.0.state.lock();
        state.next += 1;
        let number = state.next;
        state.followers.insert(number, Follower { trail: HashSet::new(), touched: Arc::clone(&touched) });
        drop(state);
        Following { shared: Arc::clone(&self.0), number, touched }
    }
}

impl Following {
    /// Follows these files, by the links as they lead now. To be said again after every change: they may lead elsewhere.
    pub fn set<'a>(&self, files: impl IntoIterator<Item = &'a Path>) {
        let trail: HashSet<PathBuf> = files.into_iter().flat_map(trail).collect();
        let mut system = self.shared.system.lock();
        let missing: Vec<PathBuf> = {
            let mut state = self.shared.state.lock();
            let folders: HashSet<&Path> = trail.iter().filter_map(|path| path.parent()).collect();
            let missing = folders.into_iter().filter(|folder| !state.folders.contains(*folder)).map(Path::to_owned).collect();
            if let Some(follower) = state.followers.get_mut(&self.number) {
                follower.trail = trail;
            }
            missing
        };
        for folder in missing {
            if system.watch(&folder, &self.shared) {
                self.shared.state.lock().folders.insert(folder);
            }
        }
        self.shared.let_go(&mut system);
    }

    /// Waits until one of the files may have changed since this was last asked. Cancel-safe.
    pub async fn touched(&self) {
        self.touched.notified().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut system = self.shared.system.lock();
        self.shared.state.lock().followers.remove(&self.number);
        self.shared.let_go(&mut system);
    }
}

impl System {
    /// Whether the folder is watched now.
    fn watch(&mut self, folder: &Path, shared: &Arc<Shared>) -> bool {
        if matches!(self, Self::NotAsked) {
            let shared = Arc::downgrade(shared);
            let tell = move |event: notify::Result<Event>| {
                if let (Some(shared), Ok(event)) = (shared.upgrade(), event) {
                    shared.state.lock().take(&event);
                }
            };
            *self = match notify::recommended_watcher(tell) {
                Ok(watcher) => Self::Watching(watcher),
                Err(error) => {
                    tracing::warn!(%error, "files cannot be watched; changes are seen within 30 s instead of at once");
                    Self::None
                }
            };
        }
        let Self::Watching(watcher) = self else { return false };
        let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
        if let Err(error) = &watched {
            tracing::debug!(folder = %folder.display(), %error, "a folder cannot be watched");
        }
        watched.is_ok()
    }
}

impl Shared {
    /// Ends the watches of folders that nobody follows any more.
    fn let_go(&self, system: &mut System) {
        let unwanted: Vec<PathBuf> = {
            let mut state = self.state.lock();
            let State { followers, folders, .. } = &mut *state;
            let wanted: HashSet<&Path> = followers.values().flat_map(|follower| &follower.trail).filter_map(|path| path.parent()).collect();
            folders.extract_if(|folder| !wanted.contains(folder.as_path())).collect()
        };
        if let System::Watching(watcher) = system {
            for folder in unwanted {
                // A folder that is gone has no watch any more.
                let _ = watcher.unwatch(&folder);
            }
        }
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        // Our own reading opens and closes files too.
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            return;
        }
        if matches!(event.kind, EventKind::Remove(_)) {
            for path in &event.paths {
                // With the folder its watch is gone; if there is one again, it needs another.
                self.folders.remove(path);
            }
        }
        let concerns = |follower: &Follower| event.need_rescan() || event.paths.iter().any(|path| follower.trail.contains(path));
        for follower in self.followers.values().filter(|follower| concerns(follower)) {
            follower.touched.notify_one();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("folders", &self.state.lock().folders).finish_non_exhaustive()
    }
}

/// Every link on the way to `path`, and the file at the end, or the first part of the way that does not exist.
fn trail(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let mut trail = Vec::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = parts(&path).collect();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let meta = std::fs::symlink_metadata(&next);
        let is_link = meta.as_ref().is_ok_and(|meta| meta.file_type().is_symlink());
        if meta.is_err() || is_link || rest.is_empty() {
            trail.push(next.clone());
        }
        if meta.is_err() {
            break;
        }
        if !is_link {
            at = next;
            continue;
        }
        links += 1;
        let Ok(target) = std::fs::read_link(&next) else { break };
        if links > MAX_LINKS {
            break;
        }
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            rest.push_front(part);
        }
    }
    trail
}

/// The names in a path, `..` among them.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    async fn is_told(following: &Following) -> bool {
        tokio::time::timeout(Duration::from_secs(10), following.touched()).await.is_ok()
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    #[test]
    fn the_trail_holds_every_link_and_the_file() {
        let (_folder, at) = folder();
        std::fs::create_dir(at.join("..v1")).unwrap();
        std::fs::write(at.join("..v1/tls.crt"), "1").unwrap();
        symlink("..v1", at.join("..data")).unwrap();
        symlink("..data/tls.crt", at.join("tls.crt")).unwrap();
        assert_eq!(trail(&at.join("tls.crt")), [at.join("tls.crt"), at.join("..data"), at.join("..v1/tls.crt")]);
        assert_eq!(trail(&at.join("none/deeper.pem")), [at.join("none")]);
        symlink("loop", at.join("loop")).unwrap();
        assert!(trail(&at.join("loop")).len() <= MAX_LINKS + 1, "a link to itself has an end");
    }

    #[tokio::test]
    async fn every_way_to_replace_a_file_is_told() {
        let (_folder, at) = folder();
        let (_elsewhere, other) = folder();
        for version in ["..v1", "..v2"] {
            std::fs::create_dir(at.join(version)).unwrap();
            std::fs::write(at.join(version).join("tls.crt"), version).unwrap();
        }
        symlink("..v1", at.join("..data")).unwrap();
        symlink("..data/tls.crt", at.join("tls.crt")).unwrap();
        std::fs::write(at.join("plain"), "1").unwrap();
        std::fs::write(other.join("target"), "1").unwrap();
        symlink(other.join("target"), at.join("linked")).unwrap();
        let watcher = Watcher::default();

        let replace = |from: &str, to: &str| std::fs::rename(at.join(from), at.join(to)).unwrap();
        type Change<'a> = Box<dyn Fn() + 'a>;
        let changes: [(&str, &str, Change<'_>); 5] = [
            ("written", "plain", Box::new(|| std::fs::write(at.join("plain"), "2").unwrap())),
            (
                "renamed over",
                "plain",
                Box::new(|| {
                    std::fs::write(at.join("fresh"), "3").unwrap();
                    replace("fresh", "plain");
                }),
            ),
            (
                "the volume is swapped",
                "tls.crt",
                Box::new(|| {
                    symlink("..v2", at.join("..data_tmp")).unwrap();
                    replace("..data_tmp", "..data");
                }),
            ),
            ("a link's target is written", "linked", Box::new(|| std::fs::write(other.join("target"), "2").unwrap())),
            ("it appears", "later", Box::new(|| std::fs::write(at.join("later"), "1").unwrap())),
        ];
        for (what, file, change) in changes {
            let following = watcher.follow();
            following.set([at.join(file).as_path()]);
            change();
            assert!(is_told(&following).await, "{what}");
        }
        assert!(watcher.0.state.lock().folders.is_empty(), "nobody follows any more");
    }

    #[tokio::test]
    async fn reading_and_other_files_tell_nothing() {
        let (_folder, at) = folder();
        std::fs::write(at.join("mine"), "1").unwrap();
        std::fs::write(at.join("other"), "1").unwrap();
        let watcher = Watcher::default();
        let (mine, other) = (watcher.follow(), watcher.follow());
        mine.set([at.join("mine").as_path()]);
        other.set([at.join("other").as_path()]);
        std::fs::read(at.join("mine")).unwrap();
        std::fs::write(at.join("other"), "2").unwrap();
        assert!(is_told(&other).await);
        // Events come in order: what there was to tell of the first file was told before.
        assert!(tokio::time::timeout(Duration::ZERO, mine.touched()).await.is_err());
    }
}
