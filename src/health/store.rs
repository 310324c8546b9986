//! What was told survives a restart: one small file in `[state] directory`.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{alert::Alert, judge::Memory};

const FILE: &str = "alerts.json";
const VERSION: u32 = 2;

/// Largest file that is read: a hash for each of some hundred thousand tools.
const MAX_FILE: u64 = 64 << 20;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    pub(super) memory: Memory,
    /// Alerts that were not sent yet, by channel.
    pub(super) waiting: BTreeMap<String, VecDeque<Alert>>,
}

impl Kept {
    pub(super) fn new(memory: Memory, waiting: BTreeMap<String, VecDeque<Alert>>) -> Self {
        Self { version: VERSION, memory, waiting }
    }
}

/// The file. Blocks; call it where blocking is allowed.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Reads what was kept; makes the folder where there is none. A file that cannot be understood is put aside, with a
    /// warning, and everything starts afresh: some alerts are then sent once more.
    pub(super) fn load(&self) -> Kept {
        if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "state.directory cannot be made; a restart forgets which alerts were sent");
            return Kept::default();
        }
        let path = self.directory.join(FILE);
        match read(&path) {
            Ok(Some(kept)) => kept,
            Ok(None) => Kept::default(),
            Err(error) => {
                let aside = self.directory.join(format!("{FILE}.unusable"));
                let kept_aside = fs::rename(&path, &aside).is_ok();
                tracing::warn!(
                    file = %path.display(), %error, kept_aside,
                    "what was told before cannot be read; starting afresh, and some alerts may be sent once more"
                );
                Kept::default()
            }
        }
    }

    /// Writes everything beside the file and then puts it in its place, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn save(&self, kept: &Kept) -> io::Result<()> {
        let text = serde_json::to_vec(kept)?;
        let beside = self.directory.join(format!("{FILE}.new"));
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&beside, self.directory.join(FILE))?;
        fs::File::open(&self.directory)?.sync_all()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

fn read(path: &Path) -> Result<Option<Kept>, String> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err("it is larger than 64 MiB".to_owned());
    }
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if kept.version == VERSION { Ok(Some(kept)) } else { Err(format!("it has version {}, not {VERSION}", kept.version)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_was_kept_is_read_back_and_only_we_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("new"));
        assert_eq!(store.load(), Kept::default());
        let kept = Kept::new(Memory::default(), BTreeMap::from([("slack 1".to_owned(), VecDeque::new())]));
        for _ in 0..2 {
            store.save(&kept).unwrap();
        }
        assert_eq!(store.load(), kept);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(store.directory()), mode(&store.directory().join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_file_that_is_not_understood_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_path_buf());
        for text in ["", "{", "[]", r#"{"version":99,"memory":{"ledger":{"open":{}},"histories":{},"tools":{}},"waiting":{}}"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert_eq!(store.load(), Kept::default());
            assert_eq!(fs::read_to_string(folder.path().join("alerts.json.unusable")).unwrap(), text);
            assert!(!folder.path().join(FILE).exists());
        }
    }

    #[test]
    fn a_half_written_file_of_a_crash_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_path_buf());
        fs::write(folder.path().join("alerts.json.new"), "{\"half").unwrap();
        let kept = Kept::new(Memory::default(), BTreeMap::new());
        store.save(&kept).unwrap();
        assert_eq!(store.load(), kept);
    }
}
