//! The configuration file: what it accepts, what it refuses, and how it says so.

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
    assert_eq!(stdio.env.get("A").map(|value| value.expose()), Some("b"));
}
