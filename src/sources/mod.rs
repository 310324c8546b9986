//! The outside world that a configuration is read from: environment and files, behind a trait.

mod appender;
mod files;
mod noted;
mod watch;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use files::Files;
pub use noted::{Fingerprint, Noted};
use parking_lot::Mutex;
pub use watch::{Following, Watcher};

/// Largest certificate, key or secret file that is read.
pub const MAX_FILE: u64 = 1024 * 1024;

/// What an opened file says about who may use it (`fstat` of the opened descriptor, never of the path).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Permission bits, such as `0o600`.
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// The path leads through a Kubernetes `..data` link.
    pub projected_volume: bool,
    /// Our effective user, and whether the file's group is one of ours.
    pub effective_user: u32,
    pub group_is_ours: bool,
}

/// Environment variables and files.
pub trait Sources: Send + Sync + fmt::Debug {
    fn env(&self, name: &str) -> Option<String>;

    /// Reads a regular file of at most [`MAX_FILE`] bytes, and what its descriptor says about it.
    ///
    /// # Errors
    /// As the system says; a directory, a FIFO, a device or a larger file is `InvalidInput`. Never blocks on a FIFO.
    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, FileFacts)>;

    /// Where lines go that are appended to a file, opened with the first of them; nothing is created before.
    ///
    /// A source that cannot write drops them.
    fn line_sink(&self, _path: &Path) -> Arc<dyn LineSink> {
        Arc::new(Nowhere)
    }

    /// Whether the path itself is a mount point (a Kubernetes `subPath`, which is never updated).
    fn is_mount_point(&self, _path: &Path) -> bool {
        false
    }
}

/// Takes lines for a file. Never blocks: what it cannot take at once, it drops.
pub trait LineSink: Send + Sync + fmt::Debug {
    /// Takes a line without its end.
    fn write(&self, line: String);
}

#[derive(Debug)]
struct Nowhere;

impl LineSink for Nowhere {
    fn write(&self, _: String) {}
}

/// The process's own environment and the real file system.
#[derive(Debug, Clone, Copy)]
pub struct SystemSources;

impl Sources for SystemSources {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, FileFacts)> {
        use std::{
            io::Read as _,
            os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
        };
        // O_NONBLOCK: opening a FIFO without a writer would wait for ever.
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if meta.len() > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 1 MiB"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 1 MiB"));
        }
        let groups = rustix::process::getgroups().unwrap_or_default();
        let facts = FileFacts {
            mode: meta.mode() & 0o7777,
            owner: meta.uid(),
            group: meta.gid(),
            projected_volume: leads_through_data_link(path),
            effective_user: rustix::process::geteuid().as_raw(),
            group_is_ours: rustix::process::getegid().as_raw() == meta.gid() || groups.iter().any(|g| g.as_raw() == meta.gid()),
        };
        Ok((bytes, facts))
    }

    fn line_sink(&self, path: &Path) -> Arc<dyn LineSink> {
        Arc::new(appender::Appender::new(path))
    }

    fn is_mount_point(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(file), Some(parent)) = (std::fs::symlink_metadata(path), path.parent()) else { return false };
        std::fs::metadata(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).is_ok_and(|p| p.dev() != file.dev())
    }
}

/// Follows links by hand: kubelet publishes a volume as `file -> ..data/file`, `..data -> ..2026_01_01…`.
fn leads_through_data_link(path: &Path) -> bool {
    let mut path = path.to_path_buf();
    for _ in 0..8 {
        if path.components().any(|c| c.as_os_str() == "..data") {
            return true;
        }
        let Ok(target) = std::fs::read_link(&path) else { return false };
        path = path.parent().map(|p| p.join(&target)).unwrap_or(target);
    }
    false
}

/// Environment and files held in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemorySources {
    pub env: BTreeMap<String, String>,
    pub files: BTreeMap<PathBuf, (Vec<u8>, FileFacts)>,
    /// What was written through [`Sources::line_sink`], shared among clones.
    pub lines: Arc<Mutex<Vec<(PathBuf, String)>>>,
}

impl MemorySources {
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a file that only its owner, root, may read.
    #[must_use]
    pub fn with_file(self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        let facts = FileFacts { mode: 0o600, owner: 0, group: 0, projected_volume: false, effective_user: 0, group_is_ours: true };
        self.with_file_and_facts(path, bytes, facts)
    }

    #[must_use]
    pub fn with_file_and_facts(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>, facts: FileFacts) -> Self {
        self.files.insert(path.into(), (bytes.into(), facts));
        self
    }
}

impl Sources for MemorySources {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, FileFacts)> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn line_sink(&self, path: &Path) -> Arc<dyn LineSink> {
        Arc::new(Remembered { path: path.to_path_buf(), lines: Arc::clone(&self.lines) })
    }
}

#[derive(Debug)]
struct Remembered {
    path: PathBuf,
    lines: Arc<Mutex<Vec<(PathBuf, String)>>>,
}

impl LineSink for Remembered {
    fn write(&self, line: String) {
        self.lines.lock().push((self.path.clone(), line));
    }
}
