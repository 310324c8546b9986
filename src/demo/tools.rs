//! What a demo upstream says it can do, and how its answers look on the wire.

use serde_json::{Map, Value, json};

/// One tool of a list.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// Name, JSON schema and whether it must be given.
    pub(super) arguments: Vec<(&'static str, Value, Need)>,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    ReadsOnly,
    Changes,
}

impl Tool {
    /// As `tools/list` shows it (MCP server/tools, "Tool").
    pub(super) fn to_json(&self) -> Value {
        let properties: Map<String, Value> = self.arguments.iter().map(|(name, schema, _)| ((*name).to_owned(), schema.clone())).collect();
        let required: Vec<&str> = self.arguments.iter().filter(|(.., need)| *need == Need::Required).map(|(name, ..)| *name).collect();
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {"type": "object", "properties": properties, "required": required, "additionalProperties": false},
            "annotations": {"readOnlyHint": self.effect == Effect::ReadsOnly, "destructiveHint": false, "openWorldHint": false},
        })
    }
}

/// What a tool made of a call: a value, or a sentence that helps the model to call it better.
pub(super) type Outcome = Result<Value, String>;

/// The result of `tools/call`: the value as structured content, and as text for clients that know no other.
pub(super) fn call_result(outcome: &Outcome) -> Value {
    match outcome {
        Ok(value) => json!({"content": [{"type": "text", "text": value.to_string()}], "structuredContent": value, "isError": false}),
        Err(sentence) => json!({"content": [{"type": "text", "text": sentence}], "isError": true}),
    }
}

/// The arguments of one call, read with words for what is wrong.
pub(super) struct Arguments<'a>(pub(super) &'a Map<String, Value>);

impl Arguments<'_> {
    /// # Errors
    /// The argument is missing or not a string.
    pub(super) fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` must be a string"))
    }

    /// # Errors
    /// The argument is there and not a whole number from `least` to `most`.
    pub(super) fn number(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>, String> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        number.map(Some).ok_or_else(|| format!("`{name}` must be a whole number from {least} to {most}"))
    }

    /// # Errors
    /// An argument that the tool does not know, most likely a misspelt one.
    pub(super) fn only(&self, tool: &Tool) -> Result<(), String> {
        let known = |name: &str| tool.arguments.iter().any(|(argument, ..)| *argument == name);
        match self.0.keys().find(|name| !known(name)) {
            Some(name) => Err(format!("`{}` has no argument `{name}`", tool.name)),
            None => Ok(()),
        }
    }
}
