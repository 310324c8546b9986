//! Newtypes for the names that must not be mixed up.

use std::{fmt, sync::Arc};

/// Separates the upstream's prefix from the item's own name: `crm__search`.
pub const SEPARATOR: &str = "__";

/// The name of an upstream, the `crm` of `[mcp.servers.crm]`: `[A-Za-z0-9_.-]+` without `__`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamName(Arc<str>);

impl UpstreamName {
    /// # Errors
    /// What is wrong with the name, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a server name is empty");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
            return Err("a server name may hold letters, digits, `_`, `.` and `-` only");
        }
        if text.contains(SEPARATOR) {
            return Err("a server name must not hold `__`, which separates it from the tool's name");
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_the_separator_is_refused() {
        assert!(UpstreamName::parse("crm__eu").is_err());
        assert!(UpstreamName::parse("crm eu").is_err());
        assert!(UpstreamName::parse("").is_err());
        assert_eq!(UpstreamName::parse("crm-eu_1.test").map(|n| n.to_string()), Ok("crm-eu_1.test".to_owned()));
    }
}
