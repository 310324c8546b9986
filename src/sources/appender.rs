//! Lines for a file, written by a thread of their own.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::LineSink;

/// Most lines that wait for the disk; a handshake writes five.
const WAITING: usize = 1_000;

/// Appends lines to a file that only its owner may read. The thread ends with its last handle.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    lines: OnceLock<SyncSender<String>>,
}

impl Appender {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), lines: OnceLock::new() }
    }

    fn start(&self) -> SyncSender<String> {
        let (sender, receiver) = sync_channel(WAITING);
        let path = self.path.clone();
        let writer = std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
            if let Err(error) = append(&path, &receiver) {
                tracing::error!(file = %path.display(), %error, "lines for this file are lost");
            }
        });
        if let Err(error) = writer {
            tracing::error!(file = %self.path.display(), %error, "lines for this file are lost");
        }
        sender
    }
}

impl LineSink for Appender {
    fn write(&self, line: String) {
        // A full queue means that the disk does not keep up, a closed one that it failed, which was said.
        let _ = self.lines.get_or_init(|| self.start()).try_send(line);
    }
}

fn append(path: &Path, lines: &Receiver<String>) -> io::Result<()> {
    let mut file = open(path)?;
    for mut line in lines {
        line.push('\n');
        file.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    // Neither a link that somebody else laid, nor a FIFO that nobody reads.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open to others; chmod 600 it, or remove it"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_arrive_in_a_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (sender, receiver) = sync_channel(2);
        sender.send("one".to_owned()).unwrap();
        sender.send("two".to_owned()).unwrap();
        drop(sender);
        append(&path, &receiver).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_open_file_a_link_and_a_folder_are_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let open_to_all = folder.path().join("open");
        fs::write(&open_to_all, "").unwrap();
        fs::set_permissions(&open_to_all, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(open(&open_to_all).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(open(&link).is_err());
        assert!(open(folder.path()).is_err());
    }

    #[test]
    fn nothing_is_created_before_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        drop(Appender::new(&path));
        assert!(!path.exists());
    }
}
