//! `docs/runbook.md`, "Tools disappeared", walked for the causes that it promises to find.

use clap::Parser as _;
use nexus::cli::{
    Arguments,
    status::{StatusArgs, print},
};

use super::status::asked;
use crate::support::{
    fake::legacy,
    nexus::{GatewaySpec, Nexus, gateway},
    pki::{Authority, Leaf},
    tls_peer::{mtls_config, server_config},
};

const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

/// The section with the five commands.
fn section() -> &'static str {
    let rest = RUNBOOK.split("\n## Tools disappeared\n").nth(1).expect("the section is there");
    rest.split("\n## ").next().unwrap_or(rest)
}

fn commands() -> Vec<&'static str> {
    let block = section().split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    block.lines().collect()
}

/// Runs the three commands that ask the gateway, for the tool that disappeared.
async fn walk(nexus: &Nexus, tool: &str, server: &str) -> String {
    let mut said = Vec::new();
    for args in [
        StatusArgs::default(),
        StatusArgs { explain: Some(tool.to_owned()), ..StatusArgs::default() },
        StatusArgs { server: Some(server.to_owned()), ..StatusArgs::default() },
    ] {
        let mut err = Vec::new();
        print(asked(nexus, &nexus.admin_config()), &args, &mut said, &mut err).await.unwrap();
        assert!(err.is_empty(), "{}", String::from_utf8_lossy(&err));
    }
    String::from_utf8(said).unwrap()
}

/// Whether the row of the table that has `marker` tells what to do.
fn has_row(marker: &str) -> bool {
    section().lines().any(|line| line.starts_with('|') && line.contains(marker) && line.trim_end_matches('|').len() > marker.len() + 40)
}

async fn finds(spec: GatewaySpec, tool: &str, reason: &str) {
    let nexus = spec.admin("").start().await;
    let said = walk(&nexus, tool, "crm").await;
    assert!(said.matches(reason).count() >= 3, "each of the three commands names {reason}:\n{said}");
    assert!(said.contains("\n  fix: "), "{said}");
    assert!(has_row(&format!("`{reason}`")), "the runbook has no row for {reason}");
}

#[test]
fn there_are_five_commands_and_the_program_takes_each() {
    assert_eq!(commands().len(), 5, "{:?}", commands());
    for command in commands() {
        let parsed = Arguments::try_parse_from(command.split_whitespace());
        assert!(parsed.is_ok(), "{command}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
    }
}

#[tokio::test]
async fn an_expired_upstream_is_found() {
    let ca = Authority::root("Company CA");
    let expired = server_config(&ca.sign(Leaf::server(&["localhost"]).expired()));
    let upstream = legacy().tool("search").https(expired).toml("[.tls]\nroot_ca_cert_path = \"/etc/ca.pem\"");
    finds(gateway().file("/etc/ca.pem", ca.pem()).upstream("crm", upstream), "crm__search", "tls_expired").await;
}

#[tokio::test]
async fn a_rejected_client_certificate_is_found() {
    let (ca, theirs) = (Authority::root("Company CA"), Authority::root("Other CA"));
    let server = mtls_config(&ca.sign(Leaf::server(&["localhost"])), &theirs, rustls::ALL_VERSIONS);
    let ours = ca.sign(Leaf::client("nexus"));
    let lines =
        "[.tls]\nroot_ca_cert_path = \"/etc/ca.pem\"\nclient_cert_path = \"/etc/nexus.pem\"\nclient_key_path = \"/etc/nexus-key.pem\"";
    let spec = gateway()
        .file("/etc/ca.pem", ca.pem())
        .file("/etc/nexus.pem", ours.pem())
        .file("/etc/nexus-key.pem", ours.key_pem())
        .upstream("crm", legacy().tool("search").https(server).toml(lines));
    finds(spec, "crm__search", "tls_client_cert_rejected").await;
}

#[tokio::test]
async fn a_dead_child_is_found() {
    let spec = gateway().upstream("crm", "cmd = [\"sh\", \"-c\", \"echo no licence >&2; exit 3\"]");
    finds(spec, "crm__search", "exited").await;
}

#[tokio::test]
async fn a_quarantined_tool_is_found() {
    let spec = gateway().admin("").upstream("crm", legacy().tool("list").raw_tool("{\"name\":\"search\"}"));
    let nexus = spec.start().await;
    let said = walk(&nexus, "crm__search", "crm").await;
    assert!(said.contains("upstream crm: degraded"), "{said}");
    assert!(said.contains("search of upstream crm is quarantined"), "{said}");
    assert!(said.matches("inputSchema").count() >= 2, "what is wrong with it is told:\n{said}");
    assert!(has_row("`is quarantined`"));
}

#[tokio::test]
async fn a_tool_that_an_agent_merely_forgot_is_told_to_be_there() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("search")).start().await;
    let said = walk(&nexus, "crm__search", "crm").await;
    assert!(said.contains("crm__search is visible"), "{said}");
    assert!(has_row("it is visible"));
}
