//! The names under which an upstream's items are shown.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};

use super::own_tools;
use crate::names::SEPARATOR;

/// Hexadecimal digits of the hash in a name that was shortened or rewritten.
const HASH_DIGITS: usize = 8;

/// Longest tool name in bytes, whatever is configured (MCP 2025-11-25 and 2026-07-28, server/tools, "Tool Names").
pub const LONGEST_TOOL_NAME: u8 = 128;

/// How tools are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Longest name in bytes of a tool with a prefix.
    pub max: usize,
    /// `search` and `execute` are the gateway's own.
    pub keeps_own: bool,
}

impl Naming {
    /// `crm__search`, or the plain name for an empty prefix.
    ///
    /// The specification wants 1 to 128 of `A-Z a-z 0-9 _ - .`, and hosts refuse a whole list for one name of another kind.
    /// What is longer is cut, and every run of other characters becomes a `_`; then a hash of the whole name follows, so that
    /// the result is the same at every start and differs wherever the names differ.
    pub fn tool<'a>(&self, server: &str, prefix: &str, name: &'a str) -> Cow<'a, str> {
        let is_taken = self.keeps_own && prefix.is_empty() && own_tools::is_own(name);
        let (full, max) = match (is_taken, prefix.is_empty()) {
            (true, _) => (prefixed(server, name), self.max),
            (false, true) => (Cow::Borrowed(name), usize::from(LONGEST_TOOL_NAME)),
            (false, false) => (prefixed(prefix, name), self.max),
        };
        if full.len() <= max && full.bytes().all(is_allowed) {
            return full;
        }
        let hash = digest(&SHA256, full.as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).take(HASH_DIGITS / 2).collect();
        let mut short = rewritten(&full);
        short.truncate(max.saturating_sub(HASH_DIGITS + 1));
        Cow::Owned(format!("{short}_{hex}"))
    }
}

/// The prefix and the name, which no model's tool list is shown and so may hold anything.
pub(super) fn prefixed<'a>(prefix: &str, name: &'a str) -> Cow<'a, str> {
    if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}{SEPARATOR}{name}")) }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// ASCII only.
fn rewritten(full: &str) -> String {
    let mut out = String::with_capacity(full.len());
    let mut within = false;
    for c in full.chars() {
        let allowed = u8::try_from(c).is_ok_and(is_allowed);
        match (allowed, within) {
            (true, _) => out.push(c),
            (false, false) => out.push('_'),
            (false, true) => {}
        }
        within = !allowed;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(max: usize) -> Naming {
        Naming { max, keeps_own: false }
    }

    #[test]
    fn a_long_name_is_shortened_stably_and_distinctly() {
        let shown = |name| naming(40).tool("crm", "crm", name).into_owned();
        let one = shown("a_very_long_tool_name_that_goes_on_and_on_one");
        let two = shown("a_very_long_tool_name_that_goes_on_and_on_two");
        assert_eq!(one.len(), 40);
        assert_ne!(one, two);
        assert_eq!(one, shown("a_very_long_tool_name_that_goes_on_and_on_one"));
    }

    #[test]
    fn a_short_name_gets_its_prefix_and_a_transparent_upstream_none() {
        assert_eq!(naming(52).tool("crm", "crm", "search"), "crm__search");
        assert_eq!(naming(3).tool("crm", "", "search"), "search");
    }

    #[test]
    fn every_name_is_one_that_the_specification_allows() {
        for (prefix, name) in [("crm", "büro/löschen"), ("", "delete everything"), ("crm", "搜索"), ("", &*"x".repeat(300)), ("crm", "a,b")]
        {
            let shown = naming(52).tool("crm", prefix, name);
            assert!((1..=128).contains(&shown.len()) && shown.bytes().all(is_allowed), "{name}: {shown}");
        }
        let shown = |name| naming(52).tool("crm", "crm", name).into_owned();
        assert!(shown("a b").starts_with("crm__a_b_"), "{}", shown("a b"));
        assert_ne!(shown("a b"), shown("a/b"), "two names stay two");
        assert_eq!(shown("get.item-2_x"), "crm__get.item-2_x", "what is allowed stays");
    }

    #[test]
    fn the_gateways_own_names_are_left_to_it_where_it_has_them() {
        let with_own = Naming { max: 52, keeps_own: true };
        assert_eq!(with_own.tool("web", "", "search"), "web__search");
        assert_eq!(with_own.tool("web", "w", "search"), "w__search");
        assert_eq!(with_own.tool("web", "", "research"), "research");
        assert_eq!(naming(52).tool("web", "", "search"), "search");
    }
}
