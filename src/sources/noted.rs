//! What was read, so that it is known later whether anything of it has changed.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::Mutex;

use super::{FileFacts, Sources};

/// Files and what was found in each: content, permissions and owner, or why there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<PathBuf, Found>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// SHA-256 over content and facts.
    File([u8; 32]),
    Nothing(io::ErrorKind),
}

impl Fingerprint {
    /// Reads the files as they are now.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>, sources: &dyn Sources) -> Self {
        Self(paths.into_iter().map(|path| (path.to_owned(), Found::of(&sources.read(path)))).collect())
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// What `newer` says of a file counts.
    pub fn extend(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Found {
    fn of(read: &io::Result<(Vec<u8>, FileFacts)>) -> Self {
        match read {
            Ok((bytes, facts)) => {
                let mut context = Context::new(&SHA256);
                for number in [facts.mode, facts.owner, facts.group] {
                    context.update(&number.to_be_bytes());
                }
                context.update(bytes);
                let mut hash = [0; 32];
                hash.copy_from_slice(context.finish().as_ref());
                Self::File(hash)
            }
            Err(error) => Self::Nothing(error.kind()),
        }
    }
}

/// Passes everything on, and notes which files were read and what was in them.
#[derive(Debug)]
pub struct Noted<'a> {
    sources: &'a dyn Sources,
    files: Mutex<BTreeMap<PathBuf, Found>>,
}

impl<'a> Noted<'a> {
    pub fn new(sources: &'a dyn Sources) -> Self {
        Self { sources, files: Mutex::default() }
    }

    /// What was read so far.
    pub fn fingerprint(self) -> Fingerprint {
        Fingerprint(self.files.into_inner())
    }
}

impl Sources for Noted<'_> {
    fn env(&self, name: &str) -> Option<String> {
        self.sources.env(name)
    }

    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, FileFacts)> {
        let read = self.sources.read(path);
        self.files.lock().insert(path.to_owned(), Found::of(&read));
        read
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        self.sources.is_mount_point(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::MemorySources;

    #[test]
    fn a_fingerprint_differs_with_content_permissions_and_presence() {
        let of = |sources: &MemorySources| Fingerprint::of([Path::new("/a")], sources);
        let plain = MemorySources::default().with_file("/a", "1");
        let facts = FileFacts { mode: 0o644, owner: 0, group: 0, projected_volume: false, effective_user: 0, group_is_ours: true };
        let others = [
            MemorySources::default(),
            MemorySources::default().with_file("/a", "2"),
            MemorySources::default().with_file_and_facts("/a", "1", facts),
        ];
        assert_eq!(of(&plain), of(&plain.clone().with_file("/b", "x")), "another file says nothing");
        for other in &others {
            assert_ne!(of(&plain), of(other), "{other:?}");
        }
    }

    #[test]
    fn what_is_read_through_it_is_noted_also_when_it_is_missing() {
        let sources = MemorySources::default().with_file("/a", "1");
        let noted = Noted::new(&sources);
        assert!(noted.read(Path::new("/a")).is_ok() && noted.read(Path::new("/b")).is_err());
        assert_eq!(noted.fingerprint(), Fingerprint::of([Path::new("/a"), Path::new("/b")], &sources));
    }
}
