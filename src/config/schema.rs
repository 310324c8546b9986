//! The JSON Schema of the file, for editors: made of what the readers ask for while they read the example, which has every key.

use std::{path::Path, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Fill, Overrides, document::FOREIGN, read_noting};
use crate::{
    sources::MemorySources,
    table::{ANY, Asked, Keys, Notes, Shape, show_duration, show_size},
};

const EXAMPLE: &str = include_str!("../../nexus.toml.example");
/// Says every default, in a column of each table's keys.
const PAGE: &str = include_str!("../../docs/configuration.md");

/// What stands for something else in the example, and excludes it.
const ALTERNATIVES: &str = "
[server.rate_limits]
storage = \"memory\"
[mcp.servers.a]
cmd = [\"a\"]
stderr = { file = \"a\" }
[mcp.servers.b]
cmd = [\"a\"]
stderr = \"log\"
[mcp.servers.c]
url = \"https://a\"
[mcp.servers.c.auth]
type = \"client_credentials\"
token_url = \"https://a\"
client_id = \"a\"
private_key_jwt = \"a\"
";

/// Any string may hold `{{ env.NAME }}` or `{{ file(…) }}` in place of its text.
const TEMPLATE: &str = r"\{\{";

/// JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let notes = notes();
    let mut root = table(&notes, "");
    let members = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("nexus.toml")),
        ("description", json!("The configuration of Nexus, docs/configuration.md.")),
    ];
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(FOREIGN.to_owned(), json!({"description": "Belongs to other software, and is skipped."}));
    }
    let mut schema: Map<String, Value> = members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    schema.append(&mut root);
    Value::Object(schema)
}

/// What the readers ask for.
fn notes() -> Notes {
    let asked = Arc::new(Asked::default());
    let switched_on = |marks: &[&str]| {
        let setting = |line: &str| {
            let bare = marks.iter().find_map(|mark| line.strip_prefix(mark));
            bare.filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')).map(str::to_owned)
        };
        EXAMPLE.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
    };
    // `##key` stands for an alternative.
    for text in [switched_on(&["#"]), switched_on(&["##", "#"]), ALTERNATIVES.to_owned()] {
        let (path, sources, overrides) = (Path::new("/nexus.toml"), MemorySources::default(), Overrides::default());
        read_noting(&text, path, None, Fill::Nothing, &sources, &overrides, Some(Arc::clone(&asked)));
    }
    Arc::into_inner(asked).map(Asked::into_notes).unwrap_or_default()
}

/// The table with this general path.
fn table(notes: &Notes, path: &str) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    if notes.is_chosen(path) {
        schema.insert("additionalProperties".to_owned(), of_key(notes, path, ANY));
        return schema;
    }
    let known = notes.tables.get(path).copied();
    let asked = notes.keys.get(path).map(Vec::as_slice).unwrap_or_default();
    let mut properties = Map::new();
    for key in known.map(Keys::built).into_iter().flatten() {
        let mut property = of_key(notes, path, key.name);
        if let Some(property) = property.as_object_mut() {
            property.insert("description".to_owned(), json!(key.doc));
            property.extend(default_of(known.map_or("", |keys| keys.table), key.name).map(|value| ("default".to_owned(), value)));
        }
        properties.insert(key.name.to_owned(), property);
    }
    // Older names, and what is read past.
    for (key, _) in asked.iter().filter(|(key, _)| !properties.contains_key(key)).collect::<Vec<_>>() {
        properties.insert(key.clone(), of_key(notes, path, key));
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

/// What a key is without the file, where that is a value: of the rows of a section, the second column.
fn default_of(table: &str, key: &str) -> Option<Value> {
    let section = PAGE.split_once(&format!("\n## [{table}]\n"))?.1.split("\n## ").next()?;
    let row = section.split_once(&format!("\n| `{key}` | "))?.1;
    let literal = row.split(" |").next()?.strip_prefix('`')?.strip_suffix('`').filter(|literal| !literal.contains('`'))?;
    let parsed: toml::Table = toml::from_str(&format!("value = {literal}")).ok()?;
    serde_json::to_value(parsed.get("value")?).ok()
}

fn of_key(notes: &Notes, path: &str, key: &str) -> Value {
    let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let asked = notes.keys.get(path).and_then(|keys| keys.iter().find(|(known, _)| known == key));
    let mut forms: Vec<Value> =
        asked.map(|(_, shapes)| shapes.as_slice()).unwrap_or_default().iter().map(|shape| form(notes, &below, shape)).collect();
    if asked.is_none() && (notes.tables.contains_key(&below) || notes.is_chosen(&below)) {
        return Value::Object(table(notes, &below));
    }
    match forms.len() {
        0 => json!({}),
        1 => forms.remove(0),
        _ => json!({ "anyOf": forms }),
    }
}

fn form(notes: &Notes, path: &str, shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Integer(range) => json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}),
        Shape::Duration(range) => {
            let (least, most) = (range.start(), range.end());
            let words = format!("From {} to {}; a number is seconds.", show_duration(*least), show_duration(*most));
            let seconds = json!({"type": "integer", "minimum": least.as_millis().div_ceil(1000), "maximum": most.as_secs()});
            let text = format!(r"^\s*(\d+\s*(ms|s|m|min|h|d)\s*)+$|{TEMPLATE}");
            json!({"anyOf": [{"type": "string", "pattern": text}, seconds], "$comment": words})
        }
        Shape::Size(range) => {
            let words = format!("From {} to {}; a number is bytes.", show_size(*range.start()), show_size(*range.end()));
            let bytes = json!({"type": "integer", "minimum": range.start(), "maximum": range.end()});
            let text = format!(r"^\s*(\d+\s*(B|KiB|MiB|GiB)\s*)+$|{TEMPLATE}");
            json!({"anyOf": [{"type": "string", "pattern": text}, bytes], "$comment": words})
        }
        Shape::Words(words) => json!({"anyOf": [{"enum": words}, {"type": "string", "pattern": TEMPLATE}]}),
        Shape::Any => json!({"enum": ["any", "*"]}),
        Shape::Strings => json!({"type": "array", "items": {"type": "string"}}),
        Shape::Table => Value::Object(table(notes, path)),
        Shape::Tables => json!({"type": "array", "items": table(notes, path)}),
        Shape::Whatever => json!({}),
    }
}
