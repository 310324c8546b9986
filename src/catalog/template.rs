//! Which resource template a URI was made from (RFC 6570, as far as finding the owner needs it).

/// A template as alternating literal text and variables.
#[derive(Clone, Debug)]
pub(super) struct Template {
    literals: Vec<Box<str>>,
    /// Whether the variable after each literal may span `/` (`{+var}`, `{#var}`, `{/var}`, `{?var}`, `{&var}`, `{var*}`).
    wide: Vec<bool>,
}

impl Template {
    /// `None` for text that is no template: an unclosed or nested brace.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut literals = Vec::new();
        let mut wide = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (expression, tail) = after.split_once('}')?;
            if expression.is_empty() || expression.contains('{') || literal.contains('}') {
                return None;
            }
            rest = tail;
            if let (true, Some(last)) = (literal.is_empty(), wide.last_mut()) {
                // Nothing tells where one of two adjacent variables ends: they are matched as one.
                *last = true;
                continue;
            }
            literals.push(literal.into());
            wide.push(expression.starts_with(['+', '#', '/', '?', '&', '.', ';']) || expression.contains(['*', ',']));
        }
        literals.push(rest.into());
        Some(Self { literals, wide })
    }

    /// Leftmost-shortest matching: each variable ends where the next literal first occurs, so it takes linear time for
    /// each literal. Exact enough to find an owner; the owner itself judges the URI.
    pub(super) fn matches(&self, uri: &str) -> bool {
        let Some((first, others)) = self.literals.split_first() else { return false };
        let Some(mut rest) = uri.strip_prefix(&**first) else { return false };
        for (index, (literal, wide)) in others.iter().zip(&self.wide).enumerate() {
            let is_last = index + 1 == others.len();
            let end = match (is_last, literal.is_empty()) {
                (true, true) => Some(rest.len()),
                (true, false) => rest.len().checked_sub(literal.len()).filter(|_| rest.ends_with(&**literal)),
                (false, _) => rest.find(&**literal),
            };
            let Some(end) = end else { return false };
            let value = rest.get(..end).unwrap_or_default();
            if !wide && (value.is_empty() || value.contains('/')) {
                return false;
            }
            rest = rest.get(end + literal.len()..).unwrap_or_default();
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_matched_to_its_template() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template/7/8/data", false),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}", "test://template/7", true),
            ("test://template/{id}", "other://template/7", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("search://{q}{?page}", "search://x?page=2", true),
            ("{+any}", "anything://at/all", true),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://xy", false),
        ] {
            assert_eq!(Template::parse(template).unwrap().matches(uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn broken_templates_are_no_templates() {
        for text in ["a{", "a{}", "a{b{c}}", "a}b{c}"] {
            assert!(Template::parse(text).is_none(), "{text}");
        }
    }
}
