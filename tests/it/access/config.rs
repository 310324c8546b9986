//! `allow`, `deny` and `tools` as the file has them.

use std::path::Path;

use nexus::{
    auth::Rule,
    config::{self, Loaded},
    problem::Severity,
    sources::MemorySources,
};

const KEY: &str = "[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"\ngroup = \"pro\"";

fn load(lines: &str) -> Loaded {
    config::load_text(lines, Path::new("/etc/nexus.toml"), None, &MemorySources::default())
}

fn of(severity: Severity, lines: &str) -> Vec<String> {
    load(lines).problems.iter().filter(|problem| problem.severity == severity).map(ToString::to_string).collect()
}

fn with(lines: &str) -> String {
    format!("{KEY}\n[mcp.servers.crm]\nurl = \"http://127.0.0.1:1/\"\n{lines}")
}

#[test]
fn both_ways_of_writing_the_rules_of_a_tool_are_read() {
    for lines in [
        "allow = [\"pro\"]\ndeny = [\"bad\"]\ntools.x = { allow = [\"max\"], deny = [] }",
        "allow = [\"pro\"]\ndeny = [\"bad\"]\n[mcp.servers.crm.tools.x]\nallow = [\"max\"]\ndeny = []",
    ] {
        let loaded = load(&with(lines));
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems));
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let rules = &config.mcp.upstreams.first().unwrap().access;
        assert_eq!(rules.server, Rule { allow: Some(vec!["pro".into()]), deny: vec!["bad".into()] });
        assert_eq!(rules.tools.get("x"), Some(&Rule { allow: Some(vec!["max".into()]), deny: vec![] }));
    }
}

#[test]
fn a_group_that_is_not_among_those_that_there_are_is_refused_where_it_stands() {
    let known = "[server.client_identification]\nenabled = true\nvalidation.group_values = [\"pro\", \"free\"]\n";
    for (lines, path, fix) in [
        ("allow = [\"pro\", \"fre\"]", "mcp.servers.crm.allow", "did you mean \"free\"?"),
        ("deny = [\"suspended\"]", "mcp.servers.crm.deny", "add it to group_values"),
        ("tools.x = { allow = [\"Pro\"] }", "mcp.servers.crm.tools.x.allow", "did you mean \"pro\"?"),
    ] {
        let errors = of(Severity::Error, &format!("{known}{}", with(lines)));
        let [error] = &errors[..] else { panic!("{errors:?}") };
        assert!(error.contains(path) && error.contains("unknown group") && error.contains(fix), "{error}");
        assert!(!error.contains("nexus.toml:0"), "it has a line: {error}");
        assert_eq!(of(Severity::Error, &with(lines)), [""; 0], "without a list of groups any name may be one");
    }
}

#[test]
fn what_cannot_be_meant_is_said() {
    for (lines, what) in [
        ("allow = \"pro\"", "expected a list of strings"),
        ("deny = [\"\"]", "a group without a name"),
        ("tools.x = { alow = [\"pro\"] }", "did you mean `allow`?"),
        ("tools = [\"x\"]", "expected a table"),
    ] {
        let errors = of(Severity::Error, &with(lines));
        assert!(errors.iter().any(|error| error.contains(what)), "{lines}: {errors:?}");
    }
    for (lines, what) in [
        ("allow = []", "nobody may use this"),
        ("allow = [\"pro\"]\ndeny = [\"pro\"]", "in allow and in deny"),
        ("tools.x = {}", "rules for a tool that say nothing"),
    ] {
        let warnings = of(Severity::Warning, &with(lines));
        assert!(warnings.iter().any(|warning| warning.contains(what)), "{lines}: {warnings:?}");
    }
    let warnings = of(Severity::Warning, &with("allow = [\"pro\"]").replace("group = \"pro\"", ""));
    assert!(warnings.iter().any(|warning| warning.contains("nobody is in a group")), "{warnings:?}");
}

#[test]
fn more_groups_than_a_call_is_held_against_are_refused() {
    let groups = |count: usize| (0..count).map(|n| format!("\"g{n}\"")).collect::<Vec<_>>().join(",");
    assert_eq!(of(Severity::Error, &with(&format!("deny = [{}]", groups(256)))), [""; 0]);
    let errors = of(Severity::Error, &with(&format!("deny = [{}]", groups(257))));
    assert!(errors.first().is_some_and(|error| error.contains("257 different groups")), "{errors:?}");
}
