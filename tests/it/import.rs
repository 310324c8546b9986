//! `nexus import`: what comes out of a client's file, and that our own reader takes it.

use std::path::Path;

use nexus::{
    cli::import::{ImportArgs, run},
    config::{self, Config},
    sources::{MemorySources, Sources},
    upstream::{CredentialConfig, EndpointConfig, HttpConfig, Protocol, StdioConfig},
};

const FILE: &str = "/home/ann/project/.vscode/mcp.json";

/// What a user has in the environment.
fn sources() -> MemorySources {
    let names = ["HOME", "WORKSPACE_FOLDER", "TOKEN", "API_KEY", "DB_URL", "EXTRA"];
    names.into_iter().fold(MemorySources::default(), |sources, name| sources.with_env(name, &format!("value-of-{name}")))
}

struct Imported {
    text: String,
    errors: String,
    code: u8,
}

fn import_from(files: &[&str], sources: &dyn Sources) -> Imported {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ImportArgs { files: files.iter().map(Into::into).collect() };
    let code = run(&args, sources, &mut out, &mut err).expect("memory is written to");
    let utf8 = |bytes| String::from_utf8(bytes).expect("text");
    Imported { text: utf8(out), errors: utf8(err), code }
}

/// Imports one file and reads the result with our own loader.
#[track_caller]
fn round_trip(json: &str) -> (String, Config) {
    let sources = sources().with_file(FILE, json);
    let imported = import_from(&[FILE], &sources);
    assert_eq!((imported.code, imported.errors.as_str()), (0, ""));
    let loaded = config::load_text(&imported.text, Path::new("/etc/nexus.toml"), None, &sources);
    let config = loaded.config.unwrap_or_else(|| panic!("{:#?}\n{}", loaded.problems, imported.text));
    (imported.text, config)
}

#[track_caller]
fn stdio<'a>(config: &'a Config, name: &str) -> &'a StdioConfig {
    match config.mcp.upstreams.iter().find(|upstream| upstream.name.as_str() == name).map(|upstream| &upstream.endpoint) {
        Some(EndpointConfig::Stdio(stdio)) => stdio,
        other => panic!("{name}: {other:?}"),
    }
}

#[track_caller]
fn http<'a>(config: &'a Config, name: &str) -> &'a HttpConfig {
    match config.mcp.upstreams.iter().find(|upstream| upstream.name.as_str() == name).map(|upstream| &upstream.endpoint) {
        Some(EndpointConfig::Http(http)) => http,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_claude_desktop_file_becomes_processes_in_its_order() {
    let (text, config) = round_trip(
        r#"{"mcpServers": {
            "filesystem": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/ann/My \"Files\""]},
            "github": {"command": "docker", "args": ["run", "-i"], "env": {"GITHUB_TOKEN": "ghp_0123456789abcdef", "PORT": 80, "MODE": "dev"}}
        }, "globalShortcut": "Ctrl+Space"}"#,
    );
    let names: Vec<_> = config.mcp.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["filesystem", "github"]);
    assert_eq!(stdio(&config, "filesystem").cmd.last().map(String::as_str), Some("/home/ann/My \"Files\""));
    let env = &stdio(&config, "github").env;
    assert_eq!(env.get("GITHUB_TOKEN").map(nexus::secret::Secret::expose), Some("ghp_0123456789abcdef"));
    assert_eq!(env.get("PORT").map(nexus::secret::Secret::expose), Some("80"));
    assert!(text.contains("# a literal secret; better: GITHUB_TOKEN = \"{{ env.GITHUB_GITHUB_TOKEN }}\"\nGITHUB_TOKEN ="), "{text}");
    assert!(!text.contains("better: MODE"), "{text}");
}

#[test]
fn a_vs_code_file_with_comments_inputs_and_variables_is_taken_over() {
    let (text, config) = round_trip(
        r#"{
            // asked for once
            "inputs": [{"type": "promptString", "id": "api-key", "description": "Key of the CRM", "password": true}],
            "servers": {
                "crm": {"type": "http", "url": "https://crm.example.com/mcp", "headers": {"Authorization": "Bearer ${input:api-key}", "X-Team": "blue"}},
                "local": {"type": "stdio", "command": "${workspaceFolder}/server", "args": ["--db", "${env:DB_URL}"], "cwd": "${userHome}/x"}, /* last */
            },
        }"#,
    );
    match &http(&config, "crm").credential {
        CredentialConfig::Token(token) => assert_eq!(token.expose(), "value-of-API_KEY"),
        other => panic!("{other:?}"),
    }
    assert_eq!(http(&config, "crm").headers.inserted("x-team").and_then(|value| value.to_str().ok()), Some("blue"));
    assert!(text.contains("# API_KEY is what the editor asked for: Key of the CRM"), "{text}");
    assert!(text.contains("# Set these environment variables for nexus: API_KEY, DB_URL, HOME, WORKSPACE_FOLDER\n"), "{text}");
    let local = stdio(&config, "local");
    assert!(local.cmd.iter().any(|arg| arg == "value-of-DB_URL"));
    assert!(local.cwd.as_ref().is_some_and(|cwd| cwd.ends_with("value-of-HOME/x")));
}

#[test]
fn an_env_file_gives_names_and_keeps_its_values() {
    let sources = sources()
        .with_file(FILE, r#"{"servers": {"a": {"command": "a", "envFile": "${workspaceFolder}/.env", "env": {"TOKEN": "${TOKEN}"}}}}"#)
        .with_file("/home/ann/project/.env", "# secrets\nTOKEN=hunter2\nexport EXTRA='hunter2'\n\nbroken\n");
    let imported = import_from(&[FILE], &sources);
    assert!(!imported.text.contains("hunter2"), "{}", imported.text);
    let config = config::load_text(&imported.text, Path::new("/etc/nexus.toml"), None, &sources).config.expect("it loads");
    assert_eq!(stdio(&config, "a").env.get("EXTRA").map(nexus::secret::Secret::expose), Some("value-of-EXTRA"));
    let (text, _) = round_trip(r#"{"servers": {"a": {"command": "a", "envFile": "none.env"}}}"#);
    assert!(text.contains("# the envFile \"none.env\" could not be read"), "{text}");
}

#[test]
fn disabled_servers_are_taken_over_switched_off_and_sse_servers_with_their_protocol() {
    let (text, config) = round_trip(
        r#"{"mcpServers": {
            "off": {"command": "off", "disabled": true, "env": {"X": "${NOT_SET_ANYWHERE}"}},
            "old": {"type": "sse", "url": "https://old.example.com/sse"},
            "on": {"command": "on", "disabled": false}
        }}"#,
    );
    let names: Vec<_> = config.mcp.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["old", "on"]);
    assert!(text.contains("[mcp.servers.off]\nenabled = false\n"), "{text}");
    assert_eq!(http(&config, "old").protocol, Protocol::Sse { messages: None });
}

#[test]
fn names_become_valid_and_unique() {
    let (text, config) = round_trip(
        r#"{"mcpServers": {"My Server!": {"command": "a"}, "my__server": {"command": "b"}, "": {"command": "c"}, "My-Server": {"command": "d"}}}"#,
    );
    let names: Vec<_> = config.mcp.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    assert_eq!(names, ["My-Server", "my_server", "server", "My-Server-2"]);
    assert!(text.contains("# called \"My Server!\" there"), "{text}");
}

#[test]
fn headers_become_a_credential_where_they_are_one() {
    let (text, config) = round_trip(
        r#"{"mcpServers": {
            "basic": {"url": "https://a.example.com", "headers": {"Authorization": "Basic YTpi"}},
            "key": {"url": "https://a.example.com", "headers": {"X-Api-Key": "0123456789", "Accept": "*/*", "X-Plain": "{{ env.literally }}"}}
        }}"#,
    );
    assert!(matches!(&http(&config, "basic").credential, CredentialConfig::Header { name, .. } if name == "authorization"));
    assert!(matches!(&http(&config, "key").credential, CredentialConfig::Header { name, .. } if name == "x-api-key"));
    assert_eq!(http(&config, "key").headers.inserted("x-plain").and_then(|value| value.to_str().ok()), Some("{{ env.literally }}"));
    assert!(text.contains("# the header Accept was left out"), "{text}");
    assert!(text.contains("# a literal secret; better: value = \"{{ env.KEY_X_API_KEY }}\""), "{text}");
}

#[test]
fn what_cannot_be_used_is_written_as_a_comment_with_its_cause() {
    let (text, config) = round_trip(
        r#"{"mcpServers": {
            "nothing": {"note": "x\ny"},
            "bad": {"url": "ws://a.example.com"},
            "user": {"url": "https://ann:hunter2@a.example.com/mcp#x", "timeout": 60}
        }}"#,
    );
    assert_eq!(config.mcp.upstreams.len(), 1);
    assert_eq!(http(&config, "user").url.as_str(), "https://a.example.com/mcp");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("# \"nothing\" could not be taken over as it is:\n#   mcp.servers.nothing: neither url nor cmd\n"), "{text}");
    assert!(text.contains("neither https:// nor http://\n") && text.contains("# [mcp.servers.bad]\n"), "{text}");
    assert!(text.contains("# not taken over: timeout\n"), "{text}");
}

#[test]
fn a_bad_file_is_reported_and_the_others_are_taken_over() {
    let sources = sources().with_file("a.json", r#"{"mcpServers": {"a": {"command": "a"}}}"#).with_file("b.json", "{ \"mcpServers\": ");
    let imported = import_from(&["none.json", "b.json", "a.json"], &sources);
    assert_eq!(imported.code, 64);
    assert!(imported.errors.contains("\"none.json\" cannot be imported") && imported.errors.contains("\"b.json\" cannot be imported"));
    assert!(imported.text.contains("[mcp.servers.a]\ncmd = [\"a\"]\n"));
}

#[test]
fn fifteen_servers_of_two_files_load_together() {
    let file = |from: u32, to: u32| {
        let entries: Vec<String> =
            (from..to).map(|n| format!("\"s{n}\": {{\"command\": \"npx\", \"args\": [\"-y\", \"p{n}\"]}}")).collect();
        format!("{{\"mcpServers\": {{{}}}}}", entries.join(","))
    };
    let sources = sources().with_file("a.json", file(0, 8)).with_file("b.json", file(7, 14));
    let imported = import_from(&["a.json", "b.json"], &sources);
    let config = config::load_text(&imported.text, Path::new("/etc/nexus.toml"), None, &sources).config.expect("it loads");
    assert_eq!(config.mcp.upstreams.len(), 15);
}
