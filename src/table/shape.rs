//! What readers ask tables for, written down while they do: the schema of the file is made of it, and so says what they take.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use parking_lot::Mutex;

use super::Keys;

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    Bool,
    Integer(RangeInclusive<u32>),
    Duration(RangeInclusive<Duration>),
    Size(RangeInclusive<u64>),
    /// One of these words.
    Words(Vec<String>),
    Strings,
    /// `"any"` or `"*"`.
    Any,
    Table,
    Tables,
    /// It is read past.
    Whatever,
}

/// Everything that was asked for in one or several readings.
#[derive(Debug, Default)]
pub struct Asked(Mutex<Notes>);

/// By general paths: [`ANY`] stands for a name that the operator chooses, and items of lists have the list's.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Of each table its keys, each with all that it takes.
    pub keys: BTreeMap<String, Vec<(String, Vec<Shape>)>>,
    /// By which keys each table was judged.
    pub tables: BTreeMap<String, &'static Keys>,
    /// Tables whose keys the operator chooses.
    chosen: Vec<String>,
}

/// Stands for a name that the operator chooses.
pub const ANY: &str = "*";

impl Asked {
    pub fn into_notes(self) -> Notes {
        self.0.into_inner()
    }

    pub(super) fn key(&self, table: &str, key: &str, shape: Shape) {
        let mut notes = self.0.lock();
        let table = notes.general(table);
        let key = if notes.chosen.contains(&table) { ANY } else { key };
        let keys = notes.keys.entry(table).or_default();
        match keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, shapes)) if shapes.contains(&shape) => {}
            Some((_, shapes)) => shapes.push(shape),
            None => keys.push((key.to_owned(), vec![shape])),
        }
    }

    pub(super) fn judged(&self, table: &str, by: &'static Keys) {
        let mut notes = self.0.lock();
        let table = notes.general(table);
        notes.tables.insert(table, by);
    }

    pub(super) fn has_chosen_keys(&self, table: &str) {
        let mut notes = self.0.lock();
        let table = notes.general(table);
        if !notes.chosen.contains(&table) {
            notes.chosen.push(table);
        }
    }
}

impl Notes {
    /// Whether the operator chooses the keys of the table with this general path.
    pub fn is_chosen(&self, table: &str) -> bool {
        self.chosen.iter().any(|chosen| chosen == table)
    }

    /// Paths of what is asked hold plain names only: the texts are ours.
    fn general(&self, path: &str) -> String {
        let mut general = String::new();
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let step = step.split('[').next().unwrap_or_default();
            let step = if self.is_chosen(&general) { ANY } else { step };
            if !general.is_empty() {
                general.push('.');
            }
            general.push_str(step);
        }
        general
    }
}
