//! `nexus status --explain TOOL --as GROUP` names the list that decides, and the runbook leads to it.

use clap::Parser as _;
use nexus::{
    cli::{
        Arguments,
        status::{Asked, Format, StatusArgs, print},
    },
    clock::{Clock as _, SystemClock},
};

use super::*;

const RUNBOOK: &str = include_str!("../../../docs/runbook.md");
const RULES: &str = "allow = [\"pro\", \"max\"]\ntools.open = { allow = [\"free\"], deny = [\"max\"] }\nhide = [\"gone\"]";

async fn start() -> Nexus {
    let spec = guarded().admin("").upstream("crm", legacy().tool("secret").tool("open").tool("gone").toml(RULES));
    spec.upstream("all", modern().tool("secret")).start().await
}

async fn status(nexus: &Nexus, tool: &str, groups: &[&str], format: Format) -> (u8, String) {
    let args = StatusArgs {
        explain: Some(tool.to_owned()),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        format,
        ..StatusArgs::default()
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let admin = nexus.admin_config();
    let asked = Asked { admin: &admin, sources: &*nexus.sources, now: SystemClock.now() };
    let code = print(asked, &args, &mut out, &mut err).await.unwrap();
    assert!(err.is_empty(), "{}", String::from_utf8_lossy(&err));
    (code, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn the_list_that_decides_is_named() {
    let nexus = start().await;
    for (tool, groups, code, said) in [
        ("crm__secret", &["pro"][..], 0, "crm__secret is visible"),
        ("crm__secret", &["free"], 1, "and mcp.servers.crm.allow names none of the groups\n  fix: "),
        ("crm__secret", &[""], 1, "and mcp.servers.crm.allow names none of the groups\n  fix: "),
        ("crm__secret", &["free", "pro"], 0, "crm__secret is visible"),
        ("crm__open", &["free"], 0, "crm__open is visible"),
        ("crm__open", &["pro"], 1, "and mcp.servers.crm.tools.open.allow names none of the groups\n"),
        ("crm__open", &["free", "max"], 1, "and mcp.servers.crm.tools.open.deny names one of the groups\n"),
        ("crm__gone", &["free"], 1, "`expose` or `hide` leave it out"),
        ("all__secret", &["free"], 0, "all__secret is visible: upstream all, where it is called secret\n"),
        ("crm__secret", &[], 0, "but not to everybody: allow and deny have a word in it; ask with --as GROUP"),
    ] {
        let (exit, words) = status(&nexus, tool, groups, Format::Text).await;
        assert!(words.contains(said), "{tool} {groups:?}: {words}");
        assert_eq!(exit, code, "{tool} {groups:?}: {words}");
    }
    let (_, json) = status(&nexus, "crm__open", &["a b&as=free"], Format::Json).await;
    let found = &serde_json::from_str::<Value>(&json).unwrap()["found"][0];
    assert_eq!((&found["visibility"], &found["list"]), (&json!("denied"), &json!("mcp.servers.crm.tools.open.allow")));
}

#[tokio::test]
async fn the_runbook_leads_from_a_missing_tool_to_the_list_that_denies_it() {
    let line = RUNBOOK.split('`').find(|text| text.starts_with("nexus status --explain") && text.contains("--as ")).unwrap();
    let parsed = Arguments::try_parse_from(line.split_whitespace());
    assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
    let nexus = start().await;
    assert!(!new(&nexus, "free").list("tools").await.contains(&"crm__secret".to_owned()), "the agent misses it");
    let (_, said) = status(&nexus, "crm__secret", &["free"], Format::Text).await;
    let row = RUNBOOK.lines().find(|line| line.starts_with("| `allow names none of the groups`")).unwrap();
    for words in row.split('`').filter(|words| words.starts_with("allow ")) {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}
