//! Hostile text in certificates, through everything that shows it: terminal, log, metrics, JSON, page.

use std::path::Path;

use nexus::tls::changes_the_line;
use rcgen::SanType;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    fake::legacy,
    nexus::gateway,
    operator::Operator,
    pki::{Authority, Leaf},
    program::Program,
    soon,
    tls_peer::server_config,
};

/// Ends a JSON string and a label, begins a line of metrics and a page, clears the screen, sets its title, turns the
/// direction of writing around, and rings.
const EVIL: &str = "\"}\n# HELP x\r\nERROR forged <script>alert(1)</script>\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2066}\u{2028}\0";

/// Most of one line, however much a certificate says.
const LONGEST_LINE: usize = 4_000;

/// Names of some 60 kB; a certificate of more than 64 KiB cannot be sent at all.
fn talkative() -> Leaf {
    let name = |n: usize| format!("{n}\"}}\n# HELP x<script>\u{1b}[2J\u{7}{}.test", "x".repeat(60));
    Leaf::server(&["localhost"])
        .common_name(&format!("{EVIL}{}", "y".repeat(2_000)))
        .set(|params| params.subject_alt_names.extend((0..560).map(|n| SanType::DnsName(name(n).try_into().unwrap()))))
}

/// One that is trusted and works, one of an unknown CA with a name like that, and one for other names.
fn servers(ca: &Authority) -> [(&'static str, ServerConfig); 3] {
    let mut other = talkative();
    other = other.set(|params| {
        params.subject_alt_names.remove(0);
    });
    [
        ("works", server_config(&ca.sign(talkative()))),
        ("unknown", server_config(&Authority::root(&format!("{EVIL} {}", "z".repeat(2_000))).sign(talkative()))),
        ("misnamed", server_config(&ca.sign(other))),
    ]
}

/// Most of one document of three upstreams.
const LONGEST_DOCUMENT: usize = 100_000;

fn is_tame(what: &str, said: &str) {
    assert!(!said.chars().any(|c| c != '\n' && changes_the_line(c)), "{what} draws on the terminal: {said:?}");
    // A document may be one line.
    let longest = if said.starts_with('{') { LONGEST_DOCUMENT } else { LONGEST_LINE };
    for line in said.lines() {
        assert!(line.chars().count() < longest, "{what}: a line of {}", line.chars().count());
        assert!(!line.starts_with("# HELP x") && !line.starts_with("ERROR forged"), "{what}: a forged line: {said}");
    }
}

/// Nor is it in any of the document's texts, once they are read.
fn texts_are_tame(what: &str, document: &Value) {
    let mut rest = vec![document];
    while let Some(value) = rest.pop() {
        match value {
            Value::String(text) => {
                assert!(!text.chars().any(changes_the_line), "{what}: {text:?}");
                assert!(text.chars().count() < LONGEST_LINE, "{what}: a text of {}", text.chars().count());
            }
            Value::Array(items) => rest.extend(items),
            Value::Object(members) => rest.extend(members.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[tokio::test]
async fn hostile_text_of_certificates_stays_text_in_log_metrics_api_and_page() {
    let ca = Authority::root("Company CA");
    for style in ["text", "json"] {
        let mut spec = gateway().admin("");
        for (name, config) in servers(&ca) {
            spec = spec.upstream(name, legacy().tool("x").https(config).toml("[.tls]\nroot_ca_cert_path = \"ca.pem\""));
        }
        let written = spec.write().await;
        std::fs::write(written.folder.path().join("ca.pem"), ca.pem()).unwrap();
        let program = Program::start(&written, "serve", "debug", &[("NEXUS_LOG_STYLE", style)]);
        program.says("admin on http://").await;
        let admin =
            || Some(program.said().split("admin on http://").nth(1)?.split(|c: char| !"0123456789.:".contains(c)).next()?.to_owned());
        let operator = Operator::new(admin().unwrap().parse().unwrap()).with("x-nexus-csrf-protection", "1");
        for name in ["works", "unknown", "misnamed"] {
            let report = operator.post(&format!("/api/v1/upstreams/{name}/probe")).await.text().await;
            is_tame(name, &report);
            let report: Value = serde_json::from_str(&report).unwrap();
            texts_are_tame(name, &report);
            assert_eq!(report["verdict"] == "ok", name == "works", "{report}");
            assert!(report["chain"][0]["subject"].as_str().unwrap().contains("<script>"), "it is shown, as text: {report}");
        }
        for path in ["/api/v1/upstreams", "/api/v1/certificates", "/api/v1/events"] {
            let response = operator.get(path).await;
            assert_eq!(response.headers["content-type"], "application/json", "no browser takes it for a page");
            let text = response.text().await;
            is_tame(path, &text);
            texts_are_tame(path, &serde_json::from_str(&text).unwrap());
        }
        // The watch has looked at it by then.
        let looked = async {
            loop {
                let metrics = operator.get("/metrics").await.text().await;
                if metrics.contains("<script>") {
                    break metrics;
                }
                tokio::task::yield_now().await;
            }
        };
        let metrics = soon("metrics of the certificates", looked).await;
        is_tame("metrics", &metrics);
        assert!(metrics.lines().all(|line| line.starts_with("# ") || line.starts_with("nexus_")), "{metrics}");
        assert!(metrics.contains("cn=\"\\\"}"), "labels are escaped: {metrics}");
        let page = operator.get("/").await.text().await;
        assert!(!page.contains("<script") && page.contains("&lt;script"), "{page}");
        assert!(!page.chars().any(|c| c != '\n' && changes_the_line(c)), "{page:?}");
        for part in ["WARN", "misnamed", "ERROR forged <script>"] {
            program.says(part).await;
        }
        let said = program.said();
        is_tame(style, &said);
        let logged: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(logged.iter().any(|line| line["level"] == "WARN"), style == "json", "{said}");
        logged.iter().for_each(|line| texts_are_tame("log", line));
    }
}

#[tokio::test]
async fn hostile_text_of_certificates_stays_text_on_the_terminal() {
    let ca = Authority::root("Company CA");
    let mut spec = gateway();
    for (name, config) in servers(&ca) {
        spec = spec.upstream(name, legacy().tool("x").https(config).toml("[.tls]\nroot_ca_cert_path = \"ca.pem\""));
    }
    let written = spec.write().await;
    let folder = written.folder.path();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("nexus.toml"), &written.toml).unwrap();
    std::fs::write(folder.join("evil.pem"), ca.sign(talkative()).pem()).unwrap();
    for words in [&["tls", "probe"][..], &["check", "--connect"], &["tls", "inspect", "evil.pem"]] {
        let text = run(folder, words).await;
        is_tame("text", &text);
        assert!(text.contains("<script>"), "it is shown, as text: {text}");
        let json = run(folder, &[words, &["--format", "json"]].concat()).await;
        is_tame("json", &json);
        texts_are_tame("json", &serde_json::from_str(&json).unwrap());
    }
    assert!(run(folder, &["tls", "probe", "works"]).await.contains("more"), "of 560 names only some are shown");
}

async fn run(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command.current_dir(folder).args(["--log", "off"]).args(words).env_remove("NEXUS_CONFIG_PATH").kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.code().is_some_and(|code| code < 2), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
