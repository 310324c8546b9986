//! The gateway's own two tools: `search` finds a tool among all that there are, `execute` runs it.
//!
//! Names, arguments and results are those of Grafbase's Nexus, so that prompts and clients written for it go on working.

use bytes::Bytes;

use super::search::Hit;
use crate::mcp::{Era, json::quote};

/// Most tools in one answer of `search`.
pub const MOST_FOUND: usize = 10;

/// How agents get at the tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolsMode {
    /// Every tool is listed.
    #[default]
    Direct,
    /// `search` and `execute` are listed, and nothing else.
    Search,
    /// These two, and every tool.
    Both,
}

impl ToolsMode {
    /// The word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Search => "search",
            Self::Both => "both",
        }
    }

    /// Whether `search` and `execute` stand in the list.
    pub const fn lists_own(self) -> bool {
        !matches!(self, Self::Direct)
    }

    /// Whether the upstreams' tools stand in the list.
    pub const fn lists_all(self) -> bool {
        !matches!(self, Self::Search)
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnTool {
    Search,
    Execute,
}

impl OwnTool {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "search" => Some(Self::Search),
            "execute" => Some(Self::Execute),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Execute => "execute",
        }
    }
}

pub(super) fn is_own(name: &str) -> bool {
    OwnTool::named(name).is_some()
}

const SEARCH: &str = r#"{"name":"search","description":"Finds tools by keywords. The answer holds the tools that fit best, the best first: the exact name of each, what it does, the JSON Schema of its arguments, and a score. Call `execute` with such a name and with arguments that fit the schema to run the tool. Names have the form server__tool.","inputSchema":{"type":"object","properties":{"keywords":{"type":"array","items":{"type":"string"},"description":"What the tool should do or deal with, a word or a few words each."}},"required":["keywords"]},"#;

const SEARCH_OUTPUT: &str = r#""outputSchema":{"type":"object","properties":{"results":{"type":"array","description":"The tools that fit, the best first.","items":{"type":"object","properties":{"name":{"type":"string","description":"The exact name, for `execute`."},"description":{"type":"string","description":"What the tool does."},"input_schema":{"description":"The JSON Schema of the tool's arguments."},"score":{"type":"number","description":"How well it fits; a higher score is better."}},"required":["name","description","input_schema","score"]}}},"required":["results"]},"#;

const SEARCH_ANNOTATIONS: &str = r#""annotations":{"readOnlyHint":true}}"#;

const EXECUTE: &str = r#"{"name":"execute","description":"Runs a tool that `search` has found. Call `search` first if you do not know the tool's exact name or which arguments it takes.","inputSchema":{"type":"object","properties":{"name":{"type":"string","description":"The tool's exact name as `search` gave it, such as 'crm__find_customer'."},"arguments":{"type":"object","description":"The tool's arguments, which fit the input_schema that `search` gave, such as {\"query\": \"Bonn\"}.","additionalProperties":true}},"required":["name","arguments"]},"annotations":{"destructiveHint":true,"openWorldHint":true}}"#;

/// The two as items of `tools/list`. Without structured results `search` promises none.
pub(super) fn items(structured: bool) -> [Bytes; 2] {
    let output = if structured { SEARCH_OUTPUT } else { "" };
    [[SEARCH, output, SEARCH_ANNOTATIONS].concat().into(), Bytes::from_static(EXECUTE.as_bytes())]
}

/// The result of `search`: each tool as a text of its own, and, unless turned off, all of them as structured content.
pub fn search_result(hits: &[Hit<'_>], structured: bool, era: Era) -> Vec<u8> {
    let found: Vec<String> = hits.iter().map(shown).collect();
    let mut out = String::from(match era {
        Era::Legacy => "{\"content\":[",
        Era::Modern => "{\"resultType\":\"complete\",\"content\":[",
    });
    for (index, tool) in found.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str("{\"type\":\"text\",\"text\":");
        out.push_str(&literal(tool));
        out.push('}');
    }
    out.push(']');
    if structured {
        out.push_str(",\"structuredContent\":{\"results\":[");
        out.push_str(&found.join(","));
        out.push_str("]}");
    }
    out.push('}');
    out.into_bytes()
}

/// One result. The schema is the upstream's own text.
fn shown(hit: &Hit<'_>) -> String {
    let schema = hit.item.input_schema().and_then(|raw| std::str::from_utf8(raw).ok()).unwrap_or("{}");
    let description = hit.item.description();
    let description = description.as_deref().unwrap_or("No description available");
    format!(
        "{{\"name\":{},\"description\":{},\"input_schema\":{schema},\"score\":{}}}",
        literal(hit.name),
        literal(description),
        // The shortest text that means this very number; a score is finite.
        hit.score
    )
}

fn literal(text: &str) -> String {
    String::from_utf8(quote(text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_are_tools_that_no_client_refuses() {
        use crate::mcp::list::{ListBounds, ListKind, ListPage};
        for structured in [true, false] {
            let list = format!("{{\"tools\":[{}]}}", items(structured).map(|item| String::from_utf8(item.to_vec()).unwrap()).join(","));
            let page = ListPage::parse(&list.into(), ListKind::Tools, ListBounds { items: 2, bytes: 1 << 20 }).unwrap();
            assert_eq!(page.quarantined, []);
            let names: Vec<_> = page.items.iter().map(|item| OwnTool::named(&item.name()).unwrap().name()).collect();
            assert_eq!(names, ["search", "execute"]);
            assert_eq!(page.items.first().unwrap().output_schema_span().is_some(), structured);
        }
    }
}
