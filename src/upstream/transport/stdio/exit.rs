//! How a process ended, in words.

use std::fmt;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this status, 0 to 255.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// It is gone, and the system did not tell us how.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("ended, in a way the system did not report"),
        }
    }
}

/// What it took to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persuasion {
    /// The end of its stdin was enough.
    StdinClosed,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// Absent when even a killed process did not vanish in time (it hangs in the kernel).
    pub exit: Option<Exit>,
    pub after: Persuasion,
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit {
            Some(exit) => write!(f, "{exit}")?,
            None => f.write_str("still hanging in the kernel")?,
        }
        f.write_str(match self.after {
            Persuasion::StdinClosed => " after its stdin was closed",
            Persuasion::Terminated => " after SIGTERM, because it ignored the end of its stdin",
            Persuasion::Killed => " after SIGKILL, because it ignored the end of its stdin and SIGTERM",
        })
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_in_words() {
        assert_eq!(Exit::Status(3).to_string(), "exit status 3");
        assert_eq!(Exit::Signal(9).to_string(), "killed by SIGKILL");
        assert_eq!(Exit::Signal(64).to_string(), "killed by signal 64");
    }
}
