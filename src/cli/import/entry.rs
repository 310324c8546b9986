//! One server of a client's file as a TOML block.

use std::path::Path;

use url::Url;

use super::{
    json::Server,
    left_over, text,
    variables::{Variables, looks_secret, variable_name},
};
use crate::{sources::Sources, table::sounds_secret, upstream::read::is_reserved_header};

/// A block in the making: tables come after the plain keys, whatever is found first.
struct Writer<'a, 'b> {
    name: &'a str,
    variables: &'a mut Variables<'b>,
    keys: String,
    tables: String,
}

/// Writes the block of `server`, called `name` here and `original` in the client's file.
pub(super) fn block(
    name: &str,
    original: &str,
    server: &Server,
    variables: &mut Variables<'_>,
    file: &Path,
    sources: &dyn Sources,
) -> String {
    let mut writer = Writer { name, variables, keys: String::new(), tables: String::new() };
    let sse = server.r#type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("sse"));
    if server.disabled || server.enabled == Some(false) {
        writer.keys.push_str("enabled = false\n");
    }
    // An entry with neither is refused by our own reader, in its words.
    if let Some(url) = &server.url {
        writer.url(url);
        if sse {
            writer.keys.push_str("protocol = \"sse\"\n");
        }
        writer.headers(server);
    } else if let Some(command) = &server.command {
        writer.process(command, server, file, sources);
    }
    let left_over = left_over(server);
    if !left_over.is_empty() {
        writer.note(&format!("not taken over: {}", left_over.join(", ")));
    }
    let mut block = String::new();
    for note in writer.variables.take_notes() {
        block.push_str(&text::comment(&note));
    }
    if name != original {
        block.push_str(&text::comment(&format!("called {original:?} there")));
    }
    block.push_str(&format!("[mcp.servers.{}]\n{}{}", text::key(name), writer.keys, writer.tables));
    block
}

impl Writer<'_, '_> {
    fn url(&mut self, typed: &str) {
        let url = self.variables.rewrite(typed);
        let url = match Url::parse(&url) {
            Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() => {
                self.note("user, password or fragment of the URL were left out: a credential belongs into [auth]");
                parsed.set_fragment(None);
                // Both fail only for a URL without a host, which has no user either.
                let _ = parsed.set_username("");
                let _ = parsed.set_password(None);
                parsed.into()
            }
            _ => url,
        };
        self.keys.push_str(&format!("url = {}\n", text::string(&url)));
    }

    fn headers(&mut self, server: &Server) {
        let headers: Vec<(&str, String)> =
            server.headers.0.iter().map(|(name, value)| (name.as_str(), self.variables.rewrite(value))).collect();
        let credential = headers
            .iter()
            .position(|(name, _)| name.eq_ignore_ascii_case("authorization"))
            .or_else(|| headers.iter().position(|(name, _)| sounds_secret(name) && !is_reserved_header(&name.to_ascii_lowercase())));
        if let Some((name, value)) = credential.and_then(|at| headers.get(at)) {
            self.auth(name, value);
        }
        for (at, (name, value)) in headers.iter().enumerate() {
            if Some(at) == credential {
                continue;
            }
            if is_reserved_header(&name.to_ascii_lowercase()) {
                self.note(&format!("the header {name} was left out: the gateway sets it itself"));
                continue;
            }
            self.tables.push_str(&format!("\n[[mcp.servers.{}.headers]]\nrule = \"insert\"\n", text::key(self.name)));
            self.tables.push_str(&format!("name = {}\n", text::string(name)));
            self.secret("value", name, value);
        }
    }

    fn auth(&mut self, header: &str, value: &str) {
        self.tables.push_str(&format!("\n[mcp.servers.{}.auth]\n", text::key(self.name)));
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
        if header.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("bearer") {
            self.secret("token", "token", rest.trim());
        } else {
            self.tables.push_str(&format!("type = \"header\"\nname = {}\n", text::string(header)));
            self.secret("value", header, value);
        }
    }

    fn process(&mut self, command: &str, server: &Server, file: &Path, sources: &dyn Sources) {
        let mut cmd = vec![self.variables.rewrite(command)];
        cmd.extend(server.args.iter().map(|arg| self.variables.rewrite(arg)));
        let mut before = "";
        for arg in &server.args {
            if looks_secret(if before.starts_with('-') { before } else { "" }, arg) && !arg.starts_with('-') {
                let name = format!("{}_{}", variable_name(self.name), variable_name(before.trim_matches('-')));
                self.keys.push_str(&text::comment(&format!(
                    "an argument looks like a secret; \"{{{{ env.{name} }}}}\" keeps it out of this file"
                )));
            }
            before = arg;
        }
        self.keys.push_str(&format!("cmd = {}\n", text::strings(&cmd)));
        if let Some(cwd) = &server.cwd {
            let cwd = self.variables.rewrite(cwd);
            self.keys.push_str(&format!("cwd = {}\n", text::string(&cwd)));
        }
        self.env(server, file, sources);
    }

    fn env(&mut self, server: &Server, file: &Path, sources: &dyn Sources) {
        let from_file = server.env_file.as_deref().map(|path| self.env_file(path, file, sources)).unwrap_or_default();
        if server.env.0.is_empty() && from_file.is_empty() {
            return;
        }
        self.tables.push_str(&format!("\n[mcp.servers.{}.env]\n", text::key(self.name)));
        for (name, value) in &server.env.0 {
            if let Some(value) = value {
                let value = self.variables.rewrite(&value.to_string());
                self.secret(name, name, &value);
            }
        }
        for name in from_file.iter().filter(|name| !server.env.0.iter().any(|(own, _)| own == *name)) {
            let template = self.variables.template(name);
            self.tables.push_str(&format!("{} = {}\n", text::key(name), text::string(&template)));
        }
    }

    /// The names in an `envFile`; its values stay where they are.
    fn env_file(&mut self, path: &str, file: &Path, sources: &dyn Sources) -> Vec<String> {
        // `.vscode/mcp.json` lies in a folder of the workspace.
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let workspace = if folder.ends_with(".vscode") { folder.parent().unwrap_or(folder) } else { folder };
        let found = workspace.join(path.trim_start_matches("${workspaceFolder}").trim_start_matches('/'));
        let found = if path.starts_with('/') { Path::new(path).to_path_buf() } else { found };
        let text = sources.read(&found).ok().and_then(|(bytes, _)| String::from_utf8(bytes).ok());
        let Some(text) = text else {
            self.note(&format!("the envFile {path:?} could not be read: add its variables to env"));
            return Vec::new();
        };
        let mut names: Vec<String> = text.lines().filter_map(variable_of_line).collect();
        names.sort();
        names.dedup();
        self.note(&format!("the variables of {path:?} must be set for nexus: set -a; . {path}; set +a"));
        names
    }

    /// A key of the last table, with a remark when the value stands there literally and looks like a secret.
    fn secret(&mut self, key: &str, named: &str, value: &str) {
        if looks_secret(named, value) {
            let variable = format!("{}_{}", variable_name(self.name), variable_name(named));
            let better = format!("a literal secret; better: {} = \"{{{{ env.{variable} }}}}\"", text::key(key));
            self.tables.push_str(&text::comment(&better));
        }
        self.tables.push_str(&format!("{} = {}\n", text::key(key), text::string(value)));
    }

    fn note(&mut self, text: &str) {
        self.variables.note(text);
    }
}

fn variable_of_line(line: &str) -> Option<String> {
    let line = line.trim();
    let (name, _) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let name = name.trim();
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    valid.then(|| name.to_owned())
}
