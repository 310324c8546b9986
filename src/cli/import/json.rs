//! The clients' own files: JSON, which may hold comments and trailing commas.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// Fields that say nothing about how a server is reached.
pub(super) const HARMLESS: [&str; 6] = ["autoApprove", "alwaysAllow", "gallery", "version", "dev", "description"];

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) servers: Vec<(String, Server)>,
    pub(super) inputs: Vec<Input>,
}

/// One server, in any of the clients' shapes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Server {
    #[serde(alias = "transport")]
    pub(super) r#type: Option<String>,
    pub(super) command: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) env: Ordered<Option<Scalar>>,
    pub(super) env_file: Option<String>,
    pub(super) cwd: Option<String>,
    #[serde(alias = "serverUrl", alias = "httpUrl")]
    pub(super) url: Option<String>,
    pub(super) headers: Ordered<String>,
    pub(super) disabled: bool,
    pub(super) enabled: Option<bool>,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

/// A value that VS Code asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input {
    pub(super) id: String,
    pub(super) description: String,
}

/// A variable's value, which some people write as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Boolean(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(value) => value.fmt(f),
        }
    }
}

/// An object in the order of the file.
#[derive(Debug)]
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "mcpServers")]
    mcp_servers: Ordered<Server>,
    servers: Ordered<Server>,
    inputs: Vec<Input>,
    /// VS Code's `settings.json` holds the same one level deeper.
    mcp: Nested,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nested {
    servers: Ordered<Server>,
    inputs: Vec<Input>,
}

/// Reads a client's file.
///
/// # Errors
/// What is wrong, with line and column; never a value.
pub(super) fn parse(text: &str) -> Result<Client, String> {
    let file: File = serde_json::from_str(&without_comments(text)).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a value is of another type than expected",
            serde_json::error::Category::Eof => "the JSON ends too early",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "this is not valid JSON",
        };
        format!("{what}, at line {} column {}", error.line(), error.column())
    })?;
    let mut client = Client::default();
    for mut servers in [file.mcp_servers, file.servers, file.mcp.servers] {
        client.servers.append(&mut servers.0);
    }
    client.inputs = file.inputs.into_iter().chain(file.mcp.inputs).collect();
    Ok(client)
}

/// Blanks out comments and trailing commas, so that lines and columns stay.
fn without_comments(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut comma = None;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => {
                comma = None;
                clean.push(c);
                copy_string(&mut chars, &mut clean);
            }
            ('/', Some('/')) => {
                clean.push(' ');
                while let Some(c) = chars.next_if(|c| *c != '\n') {
                    blank(c, &mut clean);
                }
            }
            ('/', Some('*')) => {
                clean.push(' ');
                blank_block(&mut chars, &mut clean);
            }
            (',', _) => {
                comma = Some(clean.len());
                clean.push(c);
            }
            ('}' | ']', _) => {
                if let Some(at) = comma.take() {
                    clean.replace_range(at..=at, " ");
                }
                clean.push(c);
            }
            (c, _) => {
                if !c.is_whitespace() {
                    comma = None;
                }
                clean.push(c);
            }
        }
    }
    clean
}

fn copy_string(chars: &mut impl Iterator<Item = char>, clean: &mut String) {
    while let Some(c) = chars.next() {
        clean.push(c);
        match c {
            '"' => return,
            '\\' => clean.extend(chars.next()),
            _ => {}
        }
    }
}

fn blank_block(chars: &mut impl Iterator<Item = char>, clean: &mut String) {
    // The star that opens the comment does not close it.
    clean.extend(chars.next().map(|_| ' '));
    let mut star = false;
    for c in chars {
        blank(c, clean);
        if star && c == '/' {
            return;
        }
        star = c == '*';
    }
}

fn blank(c: char, clean: &mut String) {
    clean.push(if c == '\n' { '\n' } else { ' ' });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_blanked_and_strings_are_not() {
        let text = "{ // one, {\n \"a//b\": \"/* x */ \\\" ,]\", /* two\n */ \"c\": [1, 2, ], /**/ }";
        let value: Value = serde_json::from_str(&without_comments(text)).expect("valid JSON");
        assert_eq!(value, serde_json::json!({ "a//b": "/* x */ \" ,]", "c": [1, 2] }));
    }

    #[test]
    fn servers_keep_the_order_of_the_file() {
        let client = parse(r#"{"mcpServers": {"z": {"command": "z"}, "a": {"url": "http://a"}}, "other": 1}"#).expect("valid");
        let names: Vec<_> = client.servers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["z", "a"]);
    }

    #[test]
    fn an_error_names_the_place_and_no_value() {
        let error = parse("{\n \"mcpServers\": { \"a\": { \"args\": \"hunter2\" } } }").expect_err("args is a list");
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert!(parse("{").is_err());
    }
}
