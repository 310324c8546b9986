//! What a check of an upstream found: a stable code, how bad it is, and what to do about it.

use std::fmt;

use crate::reason::{Explanation, Reason};

/// How bad a finding or an alert is, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, and should be looked at.
    Warning,
    /// Does not work, or will not for long.
    Error,
    /// Calls fail, or will within hours.
    Critical,
}

impl Severity {
    pub const ALL: &'static [Self] = &[Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The stable word, as in JSON and in `min_severity`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One thing that a check found. For the operator only: the details name certificates, hosts and paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub reason: Reason,
    pub severity: Severity,
    /// One sentence of facts, safe to print.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// The TOML key that would change it, such as `root_ca_cert_path`.
    pub key: Option<&'static str>,
}

impl Finding {
    pub fn new(reason: Reason, severity: Severity, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason, severity, detail: detail.into(), remedy: remedy.into(), key: None }
    }

    #[must_use]
    pub fn with_key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    pub fn explanation(&self) -> Explanation {
        Explanation::new(self.reason, self.detail.clone(), self.remedy.clone())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity, self.detail, self.reason)
    }
}
