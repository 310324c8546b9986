//! One reading of the file, to compare the next one with.

use std::{collections::BTreeMap, fmt};

use crate::{
    secret::Secret,
    sources::{FileFacts, Fingerprint},
    table::Table,
};

/// What was read, without a value in it: the text is kept hidden, and of each value its digest.
#[derive(Clone)]
pub struct Reading {
    /// May hold secrets.
    pub(super) text: Secret,
    pub(super) facts: Option<FileFacts>,
    digests: BTreeMap<String, [u8; 32]>,
    template_files: Fingerprint,
}

/// Says nothing: what was read is in the rest of the configuration.
impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[reading]")
    }
}

impl Reading {
    pub(super) fn new(text: &str, facts: Option<FileFacts>, root: &Table, template_files: Fingerprint) -> Self {
        Self { text: Secret::new(text), facts, digests: root.digests(), template_files }
    }

    /// The files that its templates name.
    pub fn template_files(&self) -> &Fingerprint {
        &self.template_files
    }

    /// The dotted paths of the values that differ, are missing or are new.
    pub fn differences<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = &'a str> {
        let changed = |(key, digest): (&'a String, &[u8; 32])| (newer.digests.get(key) != Some(digest)).then_some(key.as_str());
        let added = newer.digests.keys().filter(|key| !self.digests.contains_key(*key)).map(String::as_str);
        self.digests.iter().filter_map(changed).chain(added)
    }
}
