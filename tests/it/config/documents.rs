//! What ships beside the binary says everything that works, and nothing that does not.

use nexus::table::Stage;

use super::*;

const EXAMPLE: &str = include_str!("../../../nexus.toml.example");
const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The example with every setting switched on: `#key` is a setting, `# text` explains.
fn everything() -> String {
    let setting = |line: &str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')).map(str::to_owned)
    };
    EXAMPLE.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

/// A path with the operator's own names and positions left out: `mcp.servers.NAME.headers.name`.
fn general(path: &str) -> String {
    let plain = path.split('.').map(|part| part.split('[').next().unwrap_or_default());
    let mut parts: Vec<&str> = plain.collect();
    if parts.len() > 2 && parts.starts_with(&["mcp", "servers"]) {
        parts[2] = "NAME";
        if parts.len() > 4 && parts[3] == "tools" {
            parts[4] = "TOOL";
        }
        if parts.len() > 5 && parts[3..5] == ["rate_limits", "tools"] {
            parts[5] = "TOOL";
        }
    }
    parts.join(".")
}

/// What is needed to load it.
fn secrets() -> MemorySources {
    ["GITHUB_TOKEN", "CRM_KEY", "WIKI_CLIENT_SECRET", "CLIENT_KEY_PASSWORD", "ERP_P12_PASSWORD", "NEXUS_ADMIN_TOKEN", "SERVER_KEY_PASSWORD"]
        .iter()
        .fold(MemorySources::default(), |sources, name| sources.with_env(name, "secret"))
        .with_env("CI_KEY", &"k".repeat(32))
        .with_env("NEXUS_STATE_SECRET", &"s".repeat(32))
}

#[test]
fn the_example_loads_as_it_is_and_with_everything_switched_on() {
    assert!(load(EXAMPLE).config.is_some(), "{}", shown(&load(EXAMPLE).problems));
    let loaded = load_from(&everything(), &secrets());
    // What is warned about whatever its value.
    let warned: Vec<_> = loaded.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(warned, ["mcp.servers.erp.tls.accept_expired_until", "mcp.servers.erp.tls.key_log_path"], "{}", shown(&loaded.problems));
    assert_eq!(loaded.config.expect("no problem").mcp.upstreams.len(), 7);
}

#[test]
fn the_examples_defaults_are_the_defaults() {
    let head = everything().split("# ---- Upstreams").next().expect("a first part").to_owned();
    // HTTPS is off by default, so its table has no defaults to compare with.
    let (before, after) = head.split_once("[server.tls]").expect("it is there");
    let (_, after) = after.split_once("[server.health]").expect("it comes next");
    let head = format!("{before}[server.health]{after}");
    let head = head.split("[admin]").next().expect("what comes before").to_owned()
        + head.split("# ---- The MCP").nth(1).map(|rest| rest.split_once('\n').expect("a line").1).expect("what comes after");
    let typed = load(&head.replace("public_url =", "#").replace("sse_path =", "#").replace("listen = \"127.0.0.1:8002\"", ""))
        .config
        .expect("good");
    let silent = load("").config.expect("good");
    assert_eq!(format!("{typed:?}"), format!("{silent:?}"));
}

#[test]
fn every_key_that_works_is_in_the_example() {
    // `##key` stands for an alternative, which cannot be used together with the rest.
    let text = everything().replace("\n##", "\n");
    let shown: std::collections::BTreeSet<String> = load_from(&text, &secrets()).lines.keys().map(|path| general(path)).collect();
    for table in config::TABLES {
        for key in table.built() {
            let path = nexus::table::join(table.table, key.name);
            assert!(shown.contains(&path), "{path} is missing in nexus.toml.example");
        }
    }
}

#[test]
fn every_key_that_works_is_documented_and_no_other() {
    for table in config::TABLES.iter().filter(|table| !table.table.is_empty()) {
        let heading = format!("\n## [{}]\n", table.table);
        let section = PAGE.split_once(heading.as_str()).unwrap_or_else(|| panic!("no section {heading}")).1;
        let section = section.split("\n## ").next().unwrap_or_default();
        for key in table.keys {
            let row = section.contains(&format!("\n| `{}` |", key.name));
            assert_eq!(row, key.stage == Stage::Built, "{}.{}", table.table, key.name);
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_file_never_ends_the_program(cut in 0usize..12_000, length in 0usize..400, inserted in "\\PC{0,12}|[\\[\\]{}\"'=.#\n]{0,12}") {
        let mut text: Vec<char> = everything().chars().collect();
        let start = cut.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, inserted.chars());
        let text: String = text.into_iter().collect();
        let loaded = load(&text);
        proptest::prop_assert!(loaded.config.is_some() || !loaded.problems.is_empty());
        proptest::prop_assert!(shown(&loaded.problems).len() < 1_000_000);
    }
}
