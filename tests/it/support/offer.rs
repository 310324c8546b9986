//! What a fake server lists.

#![allow(clippy::unwrap_used, reason = "a fake that cannot list has failed its test")]

use serde_json::{Value, json};

/// The items of one server, raw, so that a test decides about every byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) tools: Vec<String>,
    pub(crate) prompts: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) templates: Vec<String>,
    /// Items a page; none: everything on one.
    pub(crate) page: Option<usize>,
}

impl Offer {
    /// The members of a list result: one page.
    pub(crate) fn page(&self, method: &str, cursor: Option<&str>) -> Option<String> {
        let (key, items) = match method {
            "tools/list" => ("tools", &self.tools),
            "prompts/list" => ("prompts", &self.prompts),
            "resources/list" => ("resources", &self.resources),
            "resources/templates/list" => ("resourceTemplates", &self.templates),
            _ => return None,
        };
        let size = self.page.unwrap_or(usize::MAX);
        let start = cursor.map_or(0, |cursor| cursor.strip_prefix("from-").unwrap().parse().unwrap());
        let left = &items[start..];
        let shown = &left[..left.len().min(size)];
        let next = if left.len() > size { format!(r#","nextCursor":"from-{}""#, start + size) } else { String::new() };
        Some(format!(r#""{key}":[{}]{next}"#, shown.join(",")))
    }
}

/// What every fake declares.
pub(crate) fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true}, "prompts": {"listChanged": true}, "resources": {"listChanged": true, "subscribe": true},
        "completions": {}, "logging": {}
    })
}

pub(crate) fn tool(name: &str) -> String {
    json!({"name": name, "inputSchema": {"type": "object"}}).to_string()
}
