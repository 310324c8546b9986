//! What `[telemetry] audit` says.

use std::path::PathBuf;

/// `[telemetry] audit`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    pub target: Target,
    /// Whether lines hold the arguments of calls.
    pub arguments: bool,
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Appended to.
    File(PathBuf),
    Stdout,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("stdout"),
        }
    }
}
