//! Files of Grafbase's Nexus: they load, and what is different is said. `tests/data/grafbase` has one of each kind that its
//! documentation shows: its five TLS keys, the MCP sections of its README, access, the listener, telemetry.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read has failed its test")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use nexus::{
    cli::check::{CheckArgs, Format, run},
    clock::FixedClock,
    config,
    problem::Severity,
    sources::MemorySources,
    tls::dev,
};
use serde_json::Value;

/// 2026-01-01T00:00:00Z.
const NOW: Duration = Duration::from_secs(1_767_225_600);
const FILE: &str = "/etc/nexus/nexus.toml";
const PAGE: &str = include_str!("../../docs/migrating-from-grafbase-nexus.md");

fn fixtures() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grafbase");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

/// A machine with everything that the fixtures name: certificates, programs, variables.
fn machine(text: &str) -> MemorySources {
    let certificates = dev::mint(&["gateway.example.com".to_owned()], NOW).unwrap();
    let mut sources = MemorySources::default()
        .with_env("PATH", "/usr/bin")
        .with_file(FILE, text)
        .with_file("/etc/nexus/ca.pem", certificates.ca)
        .with_file("/etc/nexus/client.pem", certificates.client.certificate)
        .with_file("/etc/nexus/client-key.pem", certificates.client.key.expose());
    for program in ["/usr/bin/npx", "/usr/bin/python", "/usr/bin/node", "/opt/tool/bin/serve", "/opt/tool", "/workspace"] {
        sources = sources.with_file(program, "");
    }
    for name in ["ENTERPRISE_TOKEN", "CODE_TOKEN", "TOOL_KEY", "API_TOKEN", "API_KEY"] {
        sources = sources.with_env(name, "secret");
    }
    sources
}

fn checked(text: &str, args: &CheckArgs) -> (u8, String) {
    let mut out = Vec::new();
    let code = run(args, Some(FILE.into()), &machine(text), &FixedClock(NOW), &mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

fn from_grafbase(text: &str) -> Vec<Value> {
    let (_, said) = checked(text, &CheckArgs { from_grafbase: true, format: Format::Json, ..CheckArgs::default() });
    serde_json::from_str::<Value>(&said).unwrap()["differences"].as_array().unwrap().clone()
}

/// The topics of what is different, each with the lines that it is about.
fn topics(text: &str) -> Vec<(String, Vec<u64>)> {
    let lines = |found: &Value| found["places"].as_array().unwrap().iter().filter_map(|place| place["line"].as_u64()).collect();
    from_grafbase(text).iter().map(|found| (found["topic"].as_str().unwrap().to_owned(), lines(found))).collect()
}

#[test]
fn every_kind_of_file_that_its_documentation_shows_loads() {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 23, "the fixtures are there: {}", fixtures.len());
    let is_planned = |what: &str| what.ends_with("is not built yet");
    for (name, text) in &fixtures {
        let loaded = config::load(Path::new(FILE), &machine(text));
        let refused = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error);
        // What no version of this gateway has yet says so, whatever file it is in.
        let refused: Vec<String> = refused.filter(|problem| !is_planned(&problem.what)).map(ToString::to_string).collect();
        assert!(refused.is_empty(), "{name}:\n{}", refused.join("\n"));
        let waits = loaded.problems.iter().any(|problem| is_planned(&problem.what));
        assert_eq!(loaded.config.is_some(), !waits, "{name}");
    }
}

#[test]
fn the_files_of_every_tls_block_are_good_too() {
    let fixtures = fixtures();
    let tls: Vec<_> = fixtures.iter().filter(|(name, _)| name.starts_with("tls-")).collect();
    assert_eq!(tls.len(), 6);
    for (name, text) in tls {
        let (code, said) = checked(text, &CheckArgs::default());
        assert_eq!(code, 0, "{name}: {said}");
    }
}

#[test]
fn what_is_different_is_said_of_this_very_file() {
    let fixtures = fixtures();
    let of = |name: &str| topics(&fixtures[name]);
    let has = |found: &[(String, Vec<u64>)], topic: &str, lines: &[u64]| found.iter().any(|(of, at)| of == topic && at == lines);
    let found = of("tls-all-keys.toml");
    for (topic, lines) in
        [("search", &[][..]), ("ca-files", &[7]), ("key-files", &[9]), ("names-and-verification", &[6]), ("browsers", &[])]
    {
        assert!(has(&found, topic, lines), "{topic}: {found:?}");
    }
    let found = of("tls-system-cas.toml");
    assert!(!found.iter().any(|(topic, _)| ["ca-files", "key-files", "processes", "limits"].contains(&topic.as_str())), "{found:?}");
    let found = of("readme-first.toml");
    assert!(has(&found, "llm", &[2]) && has(&found, "processes", &[16, 19]) && has(&found, "proxies-and-redirects", &[12]), "{found:?}");
    assert!(has(&of("telemetry.toml"), "telemetry", &[1]));
    assert!(has(&of("readme-limits.toml"), "limits", &[1]));
    let found = of("access.toml");
    assert!(has(&found, "allow-and-deny", &[11]) && has(&found, "identification", &[1]), "{found:?}");
    let found = of("server.toml");
    assert!(has(&found, "browsers", &[18]) && !has(&found, "browsers", &[]), "{found:?}");
    let both = "[mcp]\ntools = \"search\"\n[server.cors]\nallow_origins = [\"https://a.example.com\"]";
    assert_eq!(topics(both), [], "nothing in it is different");
}

#[test]
fn the_page_has_a_heading_for_each_difference_and_no_other() {
    let said: std::collections::BTreeSet<String> = fixtures()
        .values()
        .map(String::as_str)
        .chain(["[server]\nlisten_address = \"0.0.0.0:80\""])
        .flat_map(|text| topics(text).into_iter().map(|(topic, _)| topic))
        .collect();
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(said, headings);
}

#[test]
fn people_read_where_what_and_why() {
    let (code, said) = checked(&fixtures()["tls-own-ca.toml"], &CheckArgs { from_grafbase: true, ..CheckArgs::default() });
    assert_eq!(code, 0, "what is different is no problem: {said}");
    for part in [
        "/etc/nexus/nexus.toml: good, with 1 warning\n",
        "\nmcp.servers.internal.tls.root_ca_cert_path (/etc/nexus/nexus.toml:5)\n  there: ",
        "\n  here:  they are the only ones that are trusted",
        "\n  why:   docs/migrating-from-grafbase-nexus.md#ca-files\n",
        "\nserver.cors (not in the file)\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let args = CheckArgs { from_grafbase: true, offline: true, ..CheckArgs::default() };
    let (code, said) =
        checked("[mcp.servers.a]\nurl = \"https://{{ env.NO_SUCH }}/\"\n[mcp.servers.a.tls]\nroot_ca_cert_path = \"no.pem\"", &args);
    assert!(code == 0 && said.contains("#ca-files"), "{said}");
}

#[test]
fn telemetry_is_warned_about_and_what_somebody_relies_on_is_refused() {
    let problems = |text: &str| config::load(Path::new(FILE), &machine(text)).problems;
    let all = problems("[telemetry]\nservice_name = \"x\"\n[telemetry.exporters.otlp]\nenabled = true");
    assert_eq!(all.iter().filter(|problem| problem.key == "telemetry").count(), 1);
    assert!(all.iter().all(|problem| problem.severity == Severity::Warning));
    let refused = problems("[telemetry.log]\nlevel = \"info\"");
    assert!(refused.iter().any(|problem| problem.key == "telemetry.log" && problem.severity == Severity::Error));
    // Our own, and nothing to warn of.
    assert!(!problems("[telemetry.audit]\npath = \"-\"").iter().any(|problem| problem.key.starts_with("telemetry")));
    assert!(problems("[telemetry]\nservice = \"x\"").iter().any(|problem| problem.severity == Severity::Error));
}
