//! The keys of each table: one list that feeds the reader, the suggestions for typos and the documentation.

/// The keys of one table of the configuration file.
#[derive(Debug)]
pub struct Keys {
    /// The table's path, with `NAME` for what the operator chooses; empty for the top level.
    pub table: &'static str,
    /// One line for the documentation.
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// One line for the documentation.
    pub doc: &'static str,
    pub stage: Stage,
}

/// Whether a key does something yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Built,
    /// Known, and refused so that nobody believes that it works.
    Planned,
}

/// A key that works.
pub const fn built(name: &'static str, doc: &'static str) -> Key {
    Key { name, doc, stage: Stage::Built }
}

/// A key that does not work yet.
pub const fn planned(name: &'static str, doc: &'static str) -> Key {
    Key { name, doc, stage: Stage::Planned }
}

impl Keys {
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The keys that work, in the order of the documentation.
    pub fn built(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().filter(|key| key.stage == Stage::Built)
    }
}

/// The known word that a mistyped one was most likely meant to be.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A hyphen for an underscore is not a typing error but another convention, so it costs nothing.
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&typed, &word.replace('-', "_")), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, word)| *distance <= (word.len() / 3).clamp(1, 4))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        let known = ["verify_certs", "root_ca_cert_path", "url"];
        assert_eq!(nearest("verfiy_certs", known), Some("verify_certs"));
        assert_eq!(nearest("root-ca-cert-path", known), Some("root_ca_cert_path"));
        assert_eq!(nearest("uri", known), Some("url"));
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(nearest("timeout", ["verify_certs", "url"]), None);
    }
}
