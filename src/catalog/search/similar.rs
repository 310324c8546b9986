//! The words of the index that a word which is not there may have meant.

use tantivy::{Searcher, Term, schema::Field};

/// Most words for one, in one field: each is looked for.
const MOST_SIMILAR: usize = 6;

/// The least beginning that both have, in characters; it keeps the look at the index short.
const SAME_HEAD: usize = 2;

/// Most words of the index that are looked at in one field.
const MOST_READ: usize = 20_000;

/// The words in one field that begin with `word` or differ from it by one letter (one more, one less, another, or two
/// exchanged), the most alike first.
pub(super) fn terms(searcher: &Searcher, field: Field, word: &str) -> tantivy::Result<Vec<Term>> {
    let head: String = word.chars().take(SAME_HEAD).collect();
    // Greater than everything that begins with the head: no UTF-8 text has this byte.
    let end = [head.as_bytes(), &[0xff]].concat();
    let mut found: Vec<(usize, String)> = Vec::new();
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(field)?;
        let mut stream = index.terms().range().ge(head.as_bytes()).lt(&end).into_stream()?;
        let mut read = 0;
        while read < MOST_READ && stream.advance() {
            read += 1;
            let Ok(term) = std::str::from_utf8(stream.key()) else { continue };
            let longer = term.len().abs_diff(word.len());
            if term.starts_with(word) || (longer <= 1 && strsim::osa_distance(term, word) <= 1) {
                found.push((longer, term.to_owned()));
            }
        }
    }
    found.sort_unstable();
    found.truncate(MOST_SIMILAR);
    Ok(found.into_iter().map(|(_, term)| Term::from_field_text(field, &term)).collect())
}
