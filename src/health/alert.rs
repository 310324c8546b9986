//! What an operator is told.

use serde::{Deserialize, Serialize};

use crate::finding::Severity;

/// What an alert is about. The words are stable: receivers select by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// A certificate, or a revocation list, comes to its end or has passed it.
    Expiry,
    /// A check of a server found what breaks the connection.
    CertificateProblem,
    /// An upstream failed several checks in a row.
    UpstreamDown,
    /// A server shows another certificate than before.
    CertificateChanged,
    /// Definitions of tools are other than before.
    ToolsChanged,
    /// New files or a new configuration were rejected; the old go on.
    ReloadRejected,
}

impl Topic {
    pub const ALL: &'static [Self] =
        &[Self::Expiry, Self::CertificateProblem, Self::UpstreamDown, Self::CertificateChanged, Self::ToolsChanged, Self::ReloadRejected];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::CertificateProblem => "certificate_problem",
            Self::UpstreamDown => "upstream_down",
            Self::CertificateChanged => "certificate_changed",
            Self::ToolsChanged => "tools_changed",
            Self::ReloadRejected => "reload_rejected",
        }
    }
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It holds until it is resolved.
    Firing,
    /// What was told before is over.
    Resolved,
    /// It happened once; nothing will resolve it.
    Notice,
}

impl Stage {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Notice => "notice",
        }
    }
}

/// How bad it is, as kept in a file and sent to receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    Info,
    Warning,
    Error,
    Critical,
}

impl From<Severity> for Grade {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
            Severity::Critical => Self::Critical,
        }
    }
}

impl From<Grade> for Severity {
    fn from(grade: Grade) -> Self {
        match grade {
            Grade::Info => Self::Info,
            Grade::Warning => Self::Warning,
            Grade::Error => Self::Error,
            Grade::Critical => Self::Critical,
        }
    }
}

/// One message to the operator. All text is safe to print and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    pub topic: Topic,
    pub stage: Stage,
    pub severity: Grade,
    /// Equal for everything that is told about the same matter: what resolves an alert has its key.
    pub key: String,
    /// How far the matter had gone when it was told: [`super::Condition::rank`].
    #[serde(default)]
    pub rank: u64,
    /// The upstream; absent when it concerns the gateway itself.
    pub upstream: Option<String>,
    /// A stable machine code, such as `tls_expired`.
    pub code: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What to do about it; empty when nothing is to be done.
    pub remedy: String,
    /// The certificate that it is about.
    pub certificate: Option<CertificateNote>,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNote {
    pub subject: String,
    pub issuer: String,
    /// SHA-256 of the DER, in hexadecimal.
    pub sha256: String,
    /// That of the certificate before, when it changed.
    pub previous_sha256: Option<String>,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Alert {
    pub fn severity(&self) -> Severity {
        self.severity.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_json() {
        let json = |value: serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_default();
        for topic in Topic::ALL {
            assert_eq!(json(serde_json::to_value(topic).unwrap()), topic.word());
        }
        for stage in [Stage::Firing, Stage::Resolved, Stage::Notice] {
            assert_eq!(json(serde_json::to_value(stage).unwrap()), stage.word());
        }
        for severity in Severity::ALL {
            let grade = Grade::from(*severity);
            assert_eq!(json(serde_json::to_value(grade).unwrap()), severity.word());
            assert_eq!(Severity::from(grade), *severity);
        }
    }
}
