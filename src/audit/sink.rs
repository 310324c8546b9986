//! Where lines are written to: a file that is appended to, or stdout.

use std::{
    fs::{File, Metadata},
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::Target;
use crate::problem::{Problem, Severity};

/// An open target.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// The last line was written in part.
    is_torn: bool,
}

impl Sink {
    /// Opens a file to be appended to, made for its owner alone where it does not exist; or stdout.
    ///
    /// # Errors
    /// The file cannot be written to, or is none.
    pub fn open(target: &Target) -> Result<Self, Box<Problem>> {
        let opened = match target {
            Target::File(path) => open(path),
            // Not through the standard library's buffer, whose lock others hold while they write.
            Target::Stdout => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).map(File::from).map_err(io::Error::from),
        };
        opened.map(|file| Self { file, is_torn: false }).map_err(|error| cannot_be_written(target, &error))
    }

    /// Whether [`Sink::open`] would do, without making a file.
    ///
    /// # Errors
    /// As there.
    pub fn look(target: &Target) -> Result<(), Box<Problem>> {
        let Target::File(path) = target else { return Ok(()) };
        let looked = match path.symlink_metadata() {
            Ok(_) => open(path).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
                rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(io::Error::from)
            }
            Err(error) => Err(error),
        };
        looked.map_err(|error| cannot_be_written(target, &error))
    }

    /// Writes whole lines; how many of them were, and why no more.
    pub(super) fn write(&mut self, lines: &[u8]) -> (u64, io::Result<()>) {
        let mut left = lines;
        let outcome = loop {
            if left.is_empty() {
                break Ok(());
            }
            // What was cut off stays a line of its own.
            if self.is_torn {
                match self.file.write(b"\n") {
                    Ok(1) => self.is_torn = false,
                    Ok(_) => break Err(io::ErrorKind::WriteZero.into()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
                continue;
            }
            match self.file.write(left) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => left = left.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let written = lines.get(..lines.len() - left.len()).unwrap_or_default();
        self.is_torn |= written.last().is_some_and(|last| *last != b'\n');
        let count = memchr::memchr_iter(b'\n', written).count();
        (u64::try_from(count).unwrap_or(u64::MAX), outcome)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A FIFO that nobody reads must not hold us up.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let is_good = |meta: &Metadata| meta.is_file() || meta.file_type().is_char_device();
    if is_good(&file.metadata()?) { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

fn cannot_be_written(target: &Target, error: &io::Error) -> Box<Problem> {
    Box::new(Problem {
        severity: Severity::Error,
        key: "telemetry.audit.path".to_owned(),
        at: None,
        typed: None,
        what: format!("the audit trail cannot be written to {target}: {error}"),
        why: "calls would leave no trace although the file demands one".to_owned(),
        remedy: "make its folder, and let the gateway's user write there; or name another file".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_new_file_is_its_owners_alone_and_an_old_one_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let target = Target::File(path.clone());
        Sink::look(&target).unwrap();
        assert!(!path.exists(), "looking makes nothing");
        for line in ["one\n", "two\nthree\n"] {
            let (count, outcome) = Sink::open(&target).unwrap().write(line.as_bytes());
            outcome.unwrap();
            assert_eq!(count as usize, line.lines().count());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        Sink::look(&target).unwrap();
    }

    #[test]
    fn what_is_no_file_to_write_to_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, absent) = (folder.path().join("fifo"), folder.path().join("no/such/file"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        for path in [folder.path().to_path_buf(), fifo, absent] {
            let target = Target::File(path);
            for problem in [Sink::open(&target).unwrap_err(), Sink::look(&target).unwrap_err()] {
                assert_eq!(problem.key, "telemetry.audit.path");
                assert!(problem.what.contains(&target.to_string()), "{problem}");
            }
        }
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many_were_written() {
        let (count, outcome) = Sink::open(&Target::File("/dev/full".into())).unwrap().write(b"one\ntwo\n");
        assert_eq!((count, outcome.unwrap_err().kind()), (0, io::ErrorKind::StorageFull));
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = Sink::open(&Target::File(path.clone())).unwrap();
        sink.write(b"{\"cut").1.unwrap();
        assert!(sink.is_torn);
        sink.write(b"{}\n").1.unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"cut\n{}\n");
    }
}
