//! Values that only this table has: names, pins, dates and lists of paths.

use std::{path::PathBuf, time::Duration};

use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::{
    problem::Problems,
    table::Table,
    tls::settings::{ExpectedSan, SpkiPin},
};

/// Most entries of any of these lists.
const MOST: usize = 100;

pub(super) fn expected_sans(table: &mut Table, problems: &mut Problems) -> Vec<ExpectedSan> {
    let form = "write each as \"dns:crm.example.com\" or \"uri:spiffe://example.com/crm\"";
    each(table, "expected_sans", ("a name that a certificate can carry", form), problems, ExpectedSan::parse)
}

pub(super) fn pins(table: &mut Table, problems: &mut Problems) -> Vec<SpkiPin> {
    let form = "write each as \"sha256/…\" with the base64 of 32 bytes: openssl x509 -in FILE -pubkey -noout | openssl pkey -pubin -outform der | \
                openssl dgst -sha256 -binary | base64";
    let pins = each(table, "spki_pins", ("a pin", form), problems, SpkiPin::parse);
    let is_empty = |table: &mut Table, problems: &mut Problems| table.strings("spki_pins", problems).is_some_and(|pins| pins.is_empty());
    if table.has("spki_pins") && pins.is_empty() && is_empty(table, problems) {
        table.error(
            "spki_pins",
            problems,
            "an empty list of pins",
            "it would look as if the server's key were pinned, and any key would do",
            "add a pin, or remove spki_pins",
        );
    }
    pins
}

/// Paths; relative ones start at the file's folder.
pub(super) fn paths(table: &mut Table, key: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let read = |path: &str| (!path.is_empty() && !path.contains('\0')).then(|| path.to_owned());
    let paths = each(table, key, ("a path", "write each path in quotes"), problems, read);
    paths.into_iter().map(|path| PathBuf::from(table.in_folder(&path))).collect()
}

/// A date (its beginning, in UTC) or a time, as the span since 1970.
pub(super) fn date(table: &mut Table, key: &str, problems: &mut Problems) -> Option<Duration> {
    let text = table.string(key, problems)?;
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok().or_else(|| {
        let date = Date::parse(&text, format_description!("[year]-[month]-[day]")).ok()?;
        Some(date.midnight().assume_utc())
    });
    let since_1970 = time.and_then(|time| u64::try_from(time.unix_timestamp()).ok()).map(Duration::from_secs);
    if since_1970.is_none() {
        let why = format!("`{key}` takes a date, which begins at midnight UTC, or a time");
        table.error(key, problems, "this is no date", &why, "write it as \"2026-12-01\" or \"2026-12-01T18:00:00Z\"");
    }
    since_1970
}

/// Reads every entry; those that cannot be read are refused by their place.
fn each<T>(table: &mut Table, key: &str, form: (&str, &str), problems: &mut Problems, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let why = "an entry that is left out would be believed to count";
    let texts = table.strings(key, problems).unwrap_or_default();
    if texts.len() > MOST {
        table.error(key, problems, format!("more than {MOST} entries"), "nobody can look after so many", "keep those that are needed");
        return Vec::new();
    }
    let mut values = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match read(text) {
            Some(value) => values.push(value),
            None => {
                let (takes, write) = form;
                let typed = table.typed(key, Some(index));
                table.error(key, problems, format!("entry {}, {typed}, is not {takes}", index + 1), why, write);
            }
        }
    }
    values
}
