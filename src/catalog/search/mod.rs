//! Finds tools by words: a full-text index over the names, titles, descriptions and parameters of all tools.
//!
//! Made as a whole from a catalog, which takes a while for many tools, and never changed afterwards.

mod fields;
mod similar;
mod words;

use std::sync::Arc;

use tantivy::{
    DocId, Index, IndexSettings, Score, Searcher, Term,
    directory::RamDirectory,
    query::{BooleanQuery, BoostQuery, EnableScoring, Occur, Query, TermQuery},
    schema::IndexRecordOption,
};

use self::{fields::Fields, words::Words};
use super::{Catalog, Found, ListedTool};
use crate::mcp::list::Item;

/// Most different words of one search that are looked for; further ones are left out.
const MOST_WORDS: usize = 32;

/// Of a word that no tool has, the least length in bytes from which similar words are looked for instead.
const LEAST_SIMILAR: usize = 4;

/// A word that more than one tool in so many has in a field says little there, and takes long.
const FREQUENT: u64 = 20;
/// Fewer tools than this are no matter.
const SELDOM: u64 = 1000;

/// How much a similar word counts, beside the word itself.
const SIMILAR: Score = 0.5;

/// Memory for the making, in bytes: it sizes a table beforehand, so it follows the number of tools.
const MEMORY: std::ops::RangeInclusive<usize> = 3_000_000..=64_000_000;
const MEMORY_PER_TOOL: usize = 2_000;

/// The index of one catalog's tools.
pub struct SearchIndex {
    catalog: Arc<Catalog>,
    fields: Fields,
    words: Words,
    /// `None` without tools.
    searcher: Option<Searcher>,
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchIndex").field("tools", &self.catalog.listed_tools().len()).finish_non_exhaustive()
    }
}

/// A tool that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// As listed.
    pub name: &'a str,
    pub item: &'a Item,
    /// Comparable within one search only; higher is better.
    pub score: f32,
}

/// The index failed, which no input should bring it to.
#[derive(Debug, thiserror::Error)]
#[error("the search index: {0}")]
pub struct SearchError(#[from] tantivy::TantivyError);

impl SearchIndex {
    /// Reads every listed tool. Takes some 50 µs a tool, so it belongs on a thread that may block.
    ///
    /// # Errors
    /// [`SearchError`]
    pub fn build(catalog: Arc<Catalog>) -> Result<Self, SearchError> {
        let (schema, fields) = Fields::schema();
        let words = Words::default();
        let tools = catalog.listed_tools();
        let mut searcher = None;
        if !tools.is_empty() {
            let memory = (tools.len() * MEMORY_PER_TOOL).clamp(*MEMORY.start(), *MEMORY.end());
            let mut writer = Index::builder()
                .schema(schema)
                .settings(IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() })
                .single_segment_index_writer(RamDirectory::create(), memory)?;
            for tool in tools {
                writer.add_document(fields.document(tool, &words))?;
            }
            let index = writer.finalize()?;
            let reader = index.reader_builder().reload_policy(tantivy::ReloadPolicy::Manual).try_into()?;
            searcher = Some(reader.searcher());
        }
        Ok(Self { catalog, fields, words, searcher })
    }

    /// The tools that fit the keywords best, the best first, and among equals the first listed.
    ///
    /// `is_visible` is asked for those few that could be among them.
    ///
    /// # Errors
    /// [`SearchError`]
    pub fn search(
        &self,
        keywords: &[impl AsRef<str>],
        most: usize,
        is_visible: impl Fn(&str, &Found) -> bool,
    ) -> Result<Vec<Hit<'_>>, SearchError> {
        let Some(searcher) = &self.searcher else { return Ok(Vec::new()) };
        let Some(query) = self.query(searcher, keywords)? else { return Ok(Vec::new()) };
        let weight = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
        let tools = self.catalog.listed_tools();
        let mut best = Best { most, found: Vec::with_capacity(most + 1) };
        // There is one segment, in which the tools stand as listed.
        for segment in searcher.segment_readers() {
            weight.for_each_pruning(best.least(), segment, &mut |tool, score| {
                if let Some(ListedTool { name, found, .. }) = tools.get(tool as usize)
                    && is_visible(name, found)
                {
                    best.add(tool, score);
                }
                best.least()
            })?;
        }
        let hit = |(tool, score): &(DocId, Score)| {
            let tool = tools.get(*tool as usize)?;
            Some(Hit { name: &tool.name, item: &tool.item, score: *score })
        };
        Ok(best.found.iter().filter_map(hit).collect())
    }

    /// A sum over words and fields: the more words fit, and the rarer they are, the better. `None`: nothing to look for.
    fn query(&self, searcher: &Searcher, keywords: &[impl AsRef<str>]) -> Result<Option<BooleanQuery>, SearchError> {
        let mut wanted: Vec<(String, Option<String>)> = Vec::new();
        for keyword in keywords {
            if wanted.len() >= MOST_WORDS {
                break;
            }
            self.words.each(keyword.as_ref(), |word, stem| {
                if wanted.len() < MOST_WORDS && !wanted.iter().any(|(known, _)| known == word) {
                    wanted.push((word.to_owned(), (stem != word).then(|| stem.to_owned())));
                }
            });
        }
        let mut parts: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut look_for = |term, weight| {
            let exact = TermQuery::new(term, IndexRecordOption::WithFreqs);
            parts.push((Occur::Should, Box::new(BoostQuery::new(Box::new(exact), weight))));
        };
        for (word, stem) in &wanted {
            let known = self.known(searcher, stem.as_ref().unwrap_or(word))?;
            let is_unknown = known.is_empty();
            known.into_iter().for_each(|(term, weight)| look_for(term, weight));
            if !is_unknown || word.len() < LEAST_SIMILAR {
                continue;
            }
            for (field, weight) in self.fields.weighted() {
                similar::terms(searcher, field, word)?.into_iter().for_each(|term| look_for(term, weight * SIMILAR));
            }
        }
        Ok((!parts.is_empty()).then(|| BooleanQuery::new(parts)))
    }

    /// Where a word occurs, and how much it counts there: in the field in which it is rarest, and in every other in which it
    /// tells tools apart.
    fn known(&self, searcher: &Searcher, word: &str) -> Result<Vec<(Term, Score)>, SearchError> {
        let frequent = (searcher.num_docs() / FREQUENT).max(SELDOM);
        let mut known = Vec::new();
        for (field, weight) in self.fields.weighted() {
            let term = Term::from_field_text(field, word);
            let tools = searcher.doc_freq(&term)?;
            if tools > 0 {
                known.push((tools, term, weight));
            }
        }
        let rarest = known.iter().map(|(tools, ..)| *tools).min().unwrap_or_default();
        known.retain(|(tools, ..)| *tools <= frequent.max(rarest));
        Ok(known.into_iter().map(|(_, term, weight)| (term, weight)).collect())
    }
}

/// The best so far, the best first.
struct Best {
    most: usize,
    found: Vec<(DocId, Score)>,
}

impl Best {
    /// What a score must exceed.
    fn least(&self) -> Score {
        match self.found.last() {
            Some((_, least)) if self.found.len() >= self.most => *least,
            _ => Score::MIN,
        }
    }

    fn add(&mut self, tool: DocId, score: Score) {
        // Tools come as listed, so what is here already is the earlier one.
        let at = self.found.partition_point(|(_, better)| *better >= score);
        self.found.insert(at, (tool, score));
        self.found.truncate(self.most);
    }
}

#[cfg(test)]
mod tests;
