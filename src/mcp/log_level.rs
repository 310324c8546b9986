//! The severities of log messages: RFC 5424, as MCP writes them.

use super::json::unescape;

/// How severe a log message is, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl LogLevel {
    const WORDS: [(&'static str, Self); 8] = [
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("notice", Self::Notice),
        ("warning", Self::Warning),
        ("error", Self::Error),
        ("critical", Self::Critical),
        ("alert", Self::Alert),
        ("emergency", Self::Emergency),
    ];

    /// Reads a raw JSON string.
    pub fn from_json(raw: &[u8]) -> Option<Self> {
        let word = unescape(raw)?;
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, level)| *level)
    }

    /// The raw JSON string.
    pub const fn as_json(self) -> &'static [u8] {
        match self {
            Self::Debug => b"\"debug\"",
            Self::Info => b"\"info\"",
            Self::Notice => b"\"notice\"",
            Self::Warning => b"\"warning\"",
            Self::Error => b"\"error\"",
            Self::Critical => b"\"critical\"",
            Self::Alert => b"\"alert\"",
            Self::Emergency => b"\"emergency\"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_back_and_they_rise() {
        for (_, level) in LogLevel::WORDS {
            assert_eq!(LogLevel::from_json(level.as_json()), Some(level));
        }
        assert!(LogLevel::WORDS.is_sorted_by_key(|(_, level)| *level));
        for raw in [&b"\"loud\""[..], b"debug", b"1", b"\"Debug\"", b""] {
            assert_eq!(LogLevel::from_json(raw), None);
        }
    }
}
