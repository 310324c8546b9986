//! What of a tool is searched, and how much each part counts.

use tantivy::{
    Score, TantivyDocument,
    schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions},
    tokenizer::PreTokenizedString,
};

use super::{ListedTool, words::Words};
use crate::{
    mcp::json::{for_each_member, unescape},
    names::SEPARATOR,
};

/// Longest text of one part of a tool that is read, in bytes: a server chose it, and what follows says little more.
const LONGEST_TEXT: usize = 8 * 1024;

/// Most schemas within a tool's input schema whose parameters are read.
const MOST_SCHEMAS: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    name: Field,
    server: Field,
    title: Field,
    description: Field,
    parameters: Field,
}

impl Fields {
    pub(super) fn schema() -> (Schema, Self) {
        let mut schema = Schema::builder();
        // The words come ready-made.
        let indexing = TextFieldIndexing::default().set_index_option(IndexRecordOption::WithFreqs);
        let options = TextOptions::default().set_indexing_options(indexing);
        let mut field = |name| schema.add_text_field(name, options.clone());
        let fields = Self {
            name: field("name"),
            server: field("server"),
            title: field("title"),
            description: field("description"),
            parameters: field("parameters"),
        };
        (schema.build(), fields)
    }

    /// Each field, and how much a word in it counts.
    pub(super) fn weighted(&self) -> [(Field, Score); 5] {
        [(self.name, 3.0), (self.title, 2.0), (self.description, 1.0), (self.server, 1.0), (self.parameters, 0.5)]
    }

    pub(super) fn document(&self, tool: &ListedTool, words: &Words) -> TantivyDocument {
        let mut document = TantivyDocument::new();
        let mut add = |field, text: &str| {
            document.add_pre_tokenized_text(field, PreTokenizedString { text: String::new(), tokens: words.tokens(cut(text)) });
        };
        let own = &tool.found.name;
        add(self.name, own);
        // What stands before the separator is whose tool it is; a shortened name has lost a part of the own one.
        if let Some((server, _)) = tool.name.split_once(SEPARATOR).filter(|_| tool.name.len() > own.len()) {
            add(self.server, server);
        }
        if let Some(title) = tool.item.title() {
            add(self.title, &title);
        }
        if let Some(description) = tool.item.description() {
            add(self.description, &description);
        }
        let parameters = tool.item.input_schema().map(parameters).unwrap_or_default();
        if !parameters.is_empty() {
            add(self.parameters, &parameters);
        }
        document
    }
}

/// The names and descriptions of all parameters, those within parameters included, one after the other.
fn parameters(schema: &[u8]) -> String {
    let mut text = String::new();
    let mut schemas = vec![schema];
    let mut read = 0;
    while let Some(schema) = schemas.pop() {
        read += 1;
        if read > MOST_SCHEMAS || text.len() > LONGEST_TEXT {
            break;
        }
        // What is malformed was refused when the list was read; what is odd says nothing here.
        let _ = for_each_member(schema, |key, value| {
            let value = value.of(schema);
            match key {
                "description" if read > 1 => push(&mut text, unescape(value).as_deref()),
                "items" => schemas.push(value),
                "properties" => {
                    let _ = for_each_member(value, |name, inner| {
                        push(&mut text, Some(name));
                        schemas.push(inner.of(value));
                    });
                }
                _ => {}
            }
        });
    }
    text
}

fn push(text: &mut String, more: Option<&str>) {
    if let Some(more) = more {
        text.push_str(cut(more));
        text.push('\n');
    }
}

/// The beginning of a text, cut between two characters.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_at_every_depth_and_the_schemas_own_words_are_not() {
        let schema = br#"{"type":"object","description":"all","properties":{"userName":{"type":"string","description":"whose"},
            "rows":{"type":"array","items":{"type":"object","properties":{"cell":{"description":"one value"}}}}}}"#;
        let text = parameters(schema);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["cell", "one value", "rows", "userName", "whose"]);
    }

    #[test]
    fn a_schema_without_end_is_read_to_a_bound() {
        let inner: String = (0..1000).map(|n| format!("\"p{n}\":{{\"description\":\"{}\"}},", "d".repeat(1000))).collect();
        let schema = format!("{{\"properties\":{{{}}}}}", inner.trim_end_matches(','));
        assert!(parameters(schema.as_bytes()).len() < 3 * LONGEST_TEXT, "{}", parameters(schema.as_bytes()).len());
        assert_eq!(parameters(b"{\"properties\":[1,2],\"items\":7"), "");
    }
}
