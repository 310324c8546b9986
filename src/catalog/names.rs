//! The names under which an upstream's items are shown.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};

use crate::names::SEPARATOR;

/// Hexadecimal digits of the hash in a shortened name.
const HASH_DIGITS: usize = 8;

/// `crm__search`, or the plain name for an empty prefix; cut to `max` bytes with a hash that depends on the whole name
/// only, so that it is the same at every start.
pub fn shown<'a>(prefix: &str, name: &'a str, max: usize) -> Cow<'a, str> {
    let full: Cow<'a, str> = if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}{SEPARATOR}{name}")) };
    if prefix.is_empty() || full.len() <= max {
        return full;
    }
    let hash = digest(&SHA256, full.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).take(HASH_DIGITS / 2).collect();
    let mut end = max.saturating_sub(HASH_DIGITS + 1);
    while !full.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}_{hex}", full.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_shortened_stably_and_distinctly() {
        let one = shown("crm", "a_very_long_tool_name_that_goes_on_and_on_one", 40);
        let two = shown("crm", "a_very_long_tool_name_that_goes_on_and_on_two", 40);
        assert_eq!(one.len(), 40);
        assert_ne!(one, two);
        assert_eq!(one, shown("crm", "a_very_long_tool_name_that_goes_on_and_on_one", 40));
    }

    #[test]
    fn a_short_name_gets_its_prefix_and_a_transparent_upstream_none() {
        assert_eq!(shown("crm", "search", 52), "crm__search");
        assert_eq!(shown("", "search", 3), "search");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert!(shown("p", &"é".repeat(60), 40).len() <= 40);
    }
}
