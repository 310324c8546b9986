//! `nexus snippet CLIENT`: what to paste into an MCP client, ready to use.

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use url::Url;

/// The clients we have a block for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    #[value(name = "vscode")]
    VsCode,
    Cursor,
}

impl Client {
    pub const ALL: [Self; 4] = [Self::ClaudeDesktop, Self::ClaudeCode, Self::VsCode, Self::Cursor];

    /// The product's own name.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::VsCode => "VS Code",
            Self::Cursor => "Cursor",
        }
    }

    /// Where the block belongs.
    pub const fn place(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude_desktop_config.json (Settings > Developer > Edit Config), then restart Claude Desktop",
            Self::ClaudeCode => "a terminal, or .mcp.json in the project's folder",
            Self::VsCode => ".vscode/mcp.json in the project's folder, or \"MCP: Open User Configuration\"",
            Self::Cursor => "~/.cursor/mcp.json, or .cursor/mcp.json in the project's folder",
        }
    }
}

/// What a block says about this gateway.
#[derive(Clone, Debug)]
pub struct SnippetContext {
    /// Our own program, absolute: a desktop application has another PATH and another folder.
    pub exe: PathBuf,
    /// The configuration file, absolute.
    pub config: PathBuf,
    /// The MCP endpoint as a client on this machine reaches it.
    pub endpoint: Url,
    /// What the client calls this server, such as `nexus`.
    pub name: String,
}

/// The block for one client.
///
/// JSON for all but Claude Code, which gets its command and, below, the file that does the same.
/// Claude Desktop launches `nexus stdio`, because its file knows only programs; the others connect to the endpoint.
pub fn snippet(client: Client, context: &SnippetContext) -> String {
    match client {
        Client::ClaudeDesktop => {
            let args = vec!["-c".to_owned(), context.config.to_string_lossy().into_owned(), "stdio".to_owned()];
            mcp_servers(context, Entry { command: Some(context.exe.to_string_lossy().into_owned()), args: Some(args), ..Entry::default() })
        }
        Client::ClaudeCode => {
            let block = mcp_servers(context, Entry { kind: Some("http"), url: Some(context.endpoint.as_str()), ..Entry::default() });
            let url = shell_word(context.endpoint.as_str());
            format!("claude mcp add --transport http {} {url}\n\n# or in .mcp.json:\n{block}", shell_word(&context.name))
        }
        Client::VsCode => {
            let entry = Entry { kind: Some("http"), url: Some(context.endpoint.as_str()), ..Entry::default() };
            pretty(&Servers { servers: named(context, entry) })
        }
        Client::Cursor => mcp_servers(context, Entry { url: Some(context.endpoint.as_str()), ..Entry::default() }),
    }
}

/// The blocks for all clients, each under a line that says where it belongs.
pub fn all(context: &SnippetContext) -> String {
    let block = |client: Client| format!("--- {}: {}\n{}\n", client.title(), client.place(), snippet(client, context));
    Client::ALL.map(block).join("\n")
}

/// One server in a client's file; every client knows a subset of these keys.
#[derive(Default, Serialize)]
struct Entry<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct McpServers<'a> {
    mcp_servers: BTreeMap<&'a str, Entry<'a>>,
}

#[derive(Serialize)]
struct Servers<'a> {
    servers: BTreeMap<&'a str, Entry<'a>>,
}

fn mcp_servers<'a>(context: &'a SnippetContext, entry: Entry<'a>) -> String {
    pretty(&McpServers { mcp_servers: named(context, entry) })
}

fn named<'a>(context: &'a SnippetContext, entry: Entry<'a>) -> BTreeMap<&'a str, Entry<'a>> {
    BTreeMap::from([(context.name.as_str(), entry)])
}

fn pretty(file: &impl Serialize) -> String {
    serde_json::to_string_pretty(file).expect("strings and maps with string keys always serialise")
}

/// Quotes what a POSIX shell would not take as one plain word.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '%' | '+' | ',');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn context() -> SnippetContext {
        SnippetContext {
            exe: "/opt/my tools/nexus".into(),
            config: "/home/ann/\"quoted\"/nexus.toml".into(),
            endpoint: Url::parse("http://127.0.0.1:8000/mcp").expect("a URL"),
            name: "nexus".to_owned(),
        }
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn claude_desktop_launches_us_with_absolute_paths() {
        let expected = json!({"mcpServers": {"nexus": {
            "command": "/opt/my tools/nexus",
            "args": ["-c", "/home/ann/\"quoted\"/nexus.toml", "stdio"],
        }}});
        assert_eq!(parsed(&snippet(Client::ClaudeDesktop, &context())), expected);
    }

    #[test]
    fn claude_code_gets_its_command_and_the_file_that_does_the_same() {
        let text = snippet(Client::ClaudeCode, &context());
        let (command, file) = text.split_once("\n\n# or in .mcp.json:\n").expect("both");
        assert_eq!(command, "claude mcp add --transport http nexus http://127.0.0.1:8000/mcp");
        assert_eq!(parsed(file), json!({"mcpServers": {"nexus": {"type": "http", "url": "http://127.0.0.1:8000/mcp"}}}));
    }

    #[test]
    fn vs_code_has_servers_with_a_type() {
        let expected = json!({"servers": {"nexus": {"type": "http", "url": "http://127.0.0.1:8000/mcp"}}});
        assert_eq!(parsed(&snippet(Client::VsCode, &context())), expected);
    }

    #[test]
    fn cursor_needs_the_url_only() {
        let expected = json!({"mcpServers": {"nexus": {"url": "http://127.0.0.1:8000/mcp"}}});
        assert_eq!(parsed(&snippet(Client::Cursor, &context())), expected);
    }

    #[test]
    fn a_url_with_shell_characters_is_quoted_for_the_terminal() {
        let endpoint = Url::parse("https://mcp.example/mcp?a=1&b='x'").expect("a URL");
        let text = snippet(Client::ClaudeCode, &SnippetContext { endpoint, ..context() });
        assert!(text.starts_with("claude mcp add --transport http nexus 'https://mcp.example/mcp?a=1&b=%27x%27'\n"), "{text}");
    }

    #[test]
    fn clients_are_named_as_on_the_command_line() {
        let names: Vec<_> = Client::ALL.iter().filter_map(ValueEnum::to_possible_value).map(|v| v.get_name().to_owned()).collect();
        assert_eq!(names, ["claude-desktop", "claude-code", "vscode", "cursor"]);
    }
}
