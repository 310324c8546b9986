//! What is wrong with a configuration: what, where, why and the remedy, all of it in one run.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How far a [`Problem`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Refused: the file is not used.
    Error,
    /// Accepted, and said loudly at every start.
    Warning,
}

/// Where in a file a [`Problem`] is. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub file: PathBuf,
    pub line: u32,
}

/// One thing an operator has to know about the configuration.
///
/// No field ever holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The dotted path of the table or key, such as `mcp.servers.crm.tls`.
    pub key: String,
    pub at: Option<At>,
    /// The line as typed, where it holds no secret.
    pub typed: Option<String>,
    pub what: String,
    pub why: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        write!(f, "{severity}: {key}{}", self.what)?;
        if let Some(at) = &self.at {
            write!(f, "\n  --> {}:{}", at.file.display(), at.line)?;
            if let Some(typed) = &self.typed {
                write!(f, "  {typed}")?;
            }
        }
        if !self.why.is_empty() {
            write!(f, "\n  why: {}", self.why)?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  fix: {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Collects every [`Problem`] of one reading of one file.
#[derive(Debug)]
pub struct Problems {
    file: PathBuf,
    found: Vec<Problem>,
    /// Which of `found` warn of a setting that weakens security.
    insecure: Vec<usize>,
}

impl Problems {
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), found: Vec::new(), insecure: Vec::new() }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Records a refusal at `line` (0: the file as a whole).
    pub fn error(&mut self, key: &str, line: u32, what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) {
        self.push(Severity::Error, key, line, what.into(), why.into(), remedy.into());
    }

    /// Records a warning at `line` (0: the file as a whole).
    pub fn warn(&mut self, key: &str, line: u32, what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) {
        self.push(Severity::Warning, key, line, what.into(), why.into(), remedy.into());
    }

    /// Records a problem made elsewhere.
    pub fn add(&mut self, problem: Problem) {
        self.found.push(problem);
    }

    /// Records a warning of a setting that weakens security, which [`Problems::forbid_insecure`] turns into a refusal.
    pub fn insecure(&mut self, key: &str, line: u32, what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) {
        self.insecure.push(self.found.len());
        self.warn(key, line, what, why, remedy);
    }

    /// Turns what [`Problems::insecure`] recorded into refusals (`[server] insecure = "forbid"`); other warnings stay.
    pub fn forbid_insecure(&mut self) {
        for &index in &self.insecure {
            if let Some(problem) = self.found.get_mut(index) {
                problem.severity = Severity::Error;
            }
        }
    }

    /// Shows the typed text beside the last problem; only for lines without a secret.
    pub fn typed(&mut self, text: impl Into<String>) {
        if let Some(last) = self.found.last_mut() {
            last.typed = Some(text.into());
        }
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|p| p.severity == Severity::Error)
    }

    pub fn all(&self) -> &[Problem] {
        &self.found
    }

    /// All problems in file order, refusals and warnings together.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| p.at.as_ref().map_or(0, |at| at.line));
        self.found
    }

    fn push(&mut self, severity: Severity, key: &str, line: u32, what: String, why: String, remedy: String) {
        let at = (line > 0).then(|| At { file: self.file.clone(), line });
        self.found.push(Problem { severity, key: key.to_owned(), at, typed: None, what, why, remedy });
    }
}
