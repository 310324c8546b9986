//! The configuration file: what it accepts, what it refuses, and how it says so.

mod callers;
mod credentials;
mod documents;
mod limits;
mod refusals;
mod security;
mod state;
mod watch;

use std::{path::Path, time::Duration};

use nexus::{
    config::{self, Config, Loaded},
    problem::{Problem, Severity},
    sources::{FileFacts, MemorySources},
    upstream::{CredentialConfig, EndpointConfig, HttpConfig, Isolation, StderrConfig, StdioConfig, UpstreamConfig},
};

const PATH: &str = "/etc/nexus/nexus.toml";

fn load_from(text: &str, sources: &MemorySources) -> Loaded {
    config::load_text(text, Path::new(PATH), None, sources)
}

fn load(text: &str) -> Loaded {
    load_from(text, &MemorySources::default())
}

/// The configuration of a text that has no problem at all.
#[track_caller]
fn good(text: &str) -> Config {
    let loaded = load(text);
    assert_eq!(shown(&loaded.problems), "", "{text}");
    loaded.config.expect("no problem")
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn only_upstream(config: &Config) -> &UpstreamConfig {
    match config.mcp.upstreams.as_slice() {
        [upstream] => upstream,
        others => panic!("{} upstreams", others.len()),
    }
}

#[track_caller]
fn http(config: &Config) -> &HttpConfig {
    match &only_upstream(config).endpoint {
        EndpointConfig::Http(http) => http,
        EndpointConfig::Stdio(_) => panic!("a process"),
    }
}

#[track_caller]
fn stdio(config: &Config) -> &StdioConfig {
    match &only_upstream(config).endpoint {
        EndpointConfig::Stdio(stdio) => stdio,
        EndpointConfig::Http(_) => panic!("a url"),
    }
}

#[test]
fn an_upstream_with_mutual_tls_is_read() {
    let config = good(
        r#"
        [server]
        listen_address = "127.0.0.1:8006"
        [mcp.servers.u0]
        protocol = "streamable-http"
        url = "https://127.0.0.1:9000/mcp"
        [mcp.servers.u0.tls]
        root_ca_cert_path = "/certs/ca.pem"
        client_cert_path = "client.pem"
        client_key_path = "client.key"
        "#,
    );
    assert_eq!(config.server.listen_address.to_string(), "127.0.0.1:8006");
    let tls = http(&config).tls.as_ref().expect("https has a policy");
    assert_eq!(tls.root_ca_cert_path.as_deref(), Some(Path::new("/certs/ca.pem")));
    let identity = tls.client_identity.as_ref().expect("both files are named");
    assert_eq!(identity.cert_path, Path::new("/etc/nexus/client.pem"), "relative to the file's folder");
}

#[test]
fn a_process_is_read_with_its_defaults() {
    let config = good("[mcp.servers.files]\ncmd = [\"./server\", \"--flag\"]\nenv = { A = \"b\" }");
    let stdio = stdio(&config);
    assert_eq!(stdio.cmd, ["/etc/nexus/server", "--flag"], "a relative program starts at the file's folder");
    assert_eq!(stdio.isolation, Isolation::Principal);
    assert_eq!(stdio.stderr, StderrConfig::Log);
    assert_eq!(stdio.startup_timeout, Duration::from_secs(60));
    assert_eq!(stdio.env.get("A").map(nexus::secret::Secret::expose), Some("b"));
}

/// One refusal: a text, and parts of the one message that it must give.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let loaded = load(text);
    let errors: Vec<_> = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect();
    let shown = shown(&errors);
    assert_eq!(errors.len(), 1, "one error for\n{text}\nbut found:\n{shown}");
    for part in expected {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    assert!(loaded.config.is_none());
    assert!(errors.iter().all(|e| !e.why.is_empty() && !e.remedy.is_empty()), "why and fix are always said:\n{shown}");
}

/// One warning, with which the file is used, unless `insecure = "forbid"` and the warning is about security.
#[track_caller]
fn warned(text: &str, expected: &[&str], security: bool) {
    let loaded = load(text);
    let said = shown(&loaded.problems);
    assert!(loaded.config.is_some(), "{said}");
    assert!(said.starts_with("warning: "), "{said}");
    for part in expected {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    let forbidden = if text.contains("[server]") {
        text.replacen("[server]", "[server]\ninsecure = \"forbid\"", 1)
    } else {
        format!("[server]\ninsecure = \"forbid\"\n{text}")
    };
    assert_eq!(load(&forbidden).config.is_none(), security, "under insecure = \"forbid\": {said}");
}

fn server(keys: &str) -> String {
    format!("[server]\n{keys}\n[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\"\n")
}

fn mcp(keys: &str) -> String {
    format!("[mcp]\n{keys}\n[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\"\n")
}

fn https(keys: &str) -> String {
    format!("[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\"\n{keys}\n")
}

fn plain(keys: &str) -> String {
    format!("[mcp.servers.crm]\nurl = \"http://127.0.0.1:9000/mcp\"\n{keys}\n")
}

fn process(keys: &str) -> String {
    format!("[mcp.servers.crm]\ncmd = [\"server\"]\n{keys}\n")
}

#[test]
fn a_message_says_what_where_why_and_the_remedy() {
    let loaded = load(&https("[mcp.servers.crm.tls]\nclient_cert_path = \"certs/nexus.pem\""));
    assert_eq!(
        shown(&loaded.problems),
        "error: mcp.servers.crm.tls.client_cert_path: client certificate without a key\n  \
         --> /etc/nexus/nexus.toml:4  client_cert_path = \"certs/nexus.pem\"\n  \
         why: mutual TLS needs both; a certificate alone would be ignored\n  \
         fix: add client_key_path, or remove client_cert_path"
    );
}

#[test]
fn all_problems_are_found_in_one_run_in_file_order() {
    let loaded = load(
        "[server]\nlisten_address = 8000\nmax_body_size = \"4MB\"\n\
         [mcp.servers.a]\nurl = \"ftp://a\"\n[mcp.servers.a.tls]\nclient_key_path = \"k\"\n\
         [mcp.servers.b]\n[mcp.servers.\"c d\"]\ncmd = []\nenabled = \"yes\"\n",
    );
    let lines: Vec<u32> = loaded.problems.iter().filter_map(|p| p.at.as_ref().map(|at| at.line)).collect();
    assert_eq!(lines, [2, 3, 5, 7, 8, 9, 10, 11], "{}", shown(&loaded.problems));
}

#[test]
fn syntax_errors_are_found_together_with_the_others() {
    let loaded = load("[server]\nlisten_address = \n[mcp.servers.a]\ncmd = [\"a\"]\nreqired = true\nenabled = tru\n");
    let said = shown(&loaded.problems);
    for part in ["nexus.toml:2", "nexus.toml:6", "not valid TOML", "did you mean `required`?"] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    assert!(loaded.config.is_none());
    refused("[mcp.servers.a]\ncmd = [\"a\"]\ncmd = [\"b\"]\n", &["nexus.toml:3", "duplicate key"]);
}

#[test]
fn templates_take_values_from_the_environment_and_from_files() {
    let text = https("auth = { token = \"{{ env.TOKEN }}\" }\nhide = [\"{{ file(\\\"secret\\\") }}\"]");
    let sources = MemorySources::default().with_env("TOKEN", "t0ken").with_file("/etc/nexus/secret", "glob\n");
    let config = load_from(&text, &sources).config.expect("good");
    assert_eq!(only_upstream(&config).hide, ["glob"]);
    match &http(&config).credential {
        CredentialConfig::Token(token) => assert_eq!(token.expose(), "t0ken"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_variable_names_the_key_and_the_line() {
    refused(&https("auth = { token = \"{{ env.TOKEN }}\" }"), &["mcp.servers.crm.auth.token", "nexus.toml:3", "`TOKEN` is not set"]);
    refused("[mcp.servers.a]\ncmd = [\"x\", \"{{ env.ARG }}\"]", &["mcp.servers.a.cmd[1]", "`ARG` is not set"]);
}

#[test]
fn a_disabled_upstream_needs_no_variables_but_its_keys_are_checked() {
    assert!(good(&https("enabled = false\nauth = { token = \"{{ env.TOKEN }}\" }")).mcp.upstreams.is_empty());
    refused(&https("enabled = false\nreqired = true"), &["did you mean `required`?"]);
}

#[test]
fn a_foreign_llm_table_is_skipped_before_templating() {
    warned(&format!("[llm.providers.openai]\napi_key = \"{{{{ env.NONE }}}}\"\n{}", https("")), &["llm: this table is skipped"], false);
}

#[test]
fn durations_and_sizes_may_be_plain_numbers() {
    let config = good(&server("request_timeout = 90\nmax_body_size = 65536"));
    assert_eq!((config.server.request_timeout, config.server.max_body_size), (Duration::from_secs(90), 65_536));
}

#[test]
fn stderr_is_a_word_or_a_file() {
    for (typed, expected) in [
        ("\"log\"", StderrConfig::Log),
        ("\"pipe\"", StderrConfig::Log),
        ("\"null\"", StderrConfig::Discard),
        ("\"inherit\"", StderrConfig::Inherit),
        ("{ file = \"crm.log\" }", StderrConfig::File("/etc/nexus/crm.log".into())),
    ] {
        assert_eq!(stdio(&good(&process(&format!("stderr = {typed}")))).stderr, expected);
    }
    refused(&process("stderr = {}"), &["stderr without a file"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_of_its_own() {
    let loaded = config::load(Path::new(PATH), &MemorySources::default());
    assert!(shown(&loaded.problems).contains("the configuration file cannot be read: \"/etc/nexus/nexus.toml\""));
    let loaded = config::load(Path::new(PATH), &MemorySources::default().with_file(PATH, [0xff, 0xfe]));
    assert!(shown(&loaded.problems).contains("not UTF-8"));
    let loaded = config::load(Path::new(PATH), &MemorySources::default().with_file(PATH, format!("\u{feff}{}", https(""))));
    assert!(loaded.config.is_some(), "a byte order mark is skipped");
}

#[test]
fn the_structure_is_checked_without_variables_and_files() {
    let text = "[mcp.servers.a]\nurl = \"{{ env.URL }}\"\nauth = { token = \"{{ file(\\\"none\\\") }}\" }\n[mcp.servers.a.tls]\nverify_certs = true\n";
    let problems = |text: &str| config::check_structure(Path::new(PATH), &MemorySources::default().with_file(PATH, text));
    assert_eq!(shown(&problems(text)), "");
    assert!(shown(&problems(&format!("{text}verfy = 1"))).contains("unknown key"));
    assert!(shown(&problems("[mcp.servers.a]\nurl = \"{{ nonsense }}\"")).contains("no template"));
}

#[test]
fn defaults_hold_where_the_file_is_silent() {
    let config = good(&https(""));
    let server = &config.server;
    assert_eq!(server.listen_address.to_string(), "127.0.0.1:8000");
    assert_eq!((server.max_body_size, server.max_connections), (4 << 20, 10_000));
    assert_eq!((server.request_timeout, server.shutdown_grace), (Duration::from_secs(600), Duration::from_secs(30)));
    assert!(server.health.enabled && server.health.path == "/health");
    let mcp = &config.mcp;
    assert_eq!((mcp.path.as_str(), mcp.max_tool_name, mcp.max_sessions), ("/mcp", 52, 100_000));
    assert_eq!((mcp.call_timeout_max, mcp.session_idle_timeout, mcp.list_wait), (HOUR, HOUR, Duration::from_secs(3)));
    let crm = only_upstream(&config);
    assert_eq!((crm.prefix.as_str(), crm.expose.as_slice(), crm.hide.len()), ("crm", ["*".to_owned()].as_slice(), 0));
    let timeouts = [crm.connect_timeout, crm.list_timeout, crm.call_timeout].map(|timeout| timeout.as_secs());
    assert_eq!(timeouts, [5, 15, 300]);
    assert_eq!(http(&config).tls.as_ref(), Some(&nexus::tls::TlsSettings::default()));
}

const HOUR: Duration = Duration::from_secs(3600);
