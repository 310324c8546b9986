use super::*;

fn rule(allow: Option<&[&str]>, deny: &[&str]) -> Rule {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Rule { allow: allow.map(names), deny: names(deny) }
}

fn access(server: Rule, tool: Option<Rule>) -> Access {
    Access::new(&[AccessRules { server, tools: tool.map(|rule| ("x".to_owned(), rule)).into_iter().collect() }])
}

fn verdict(access: &Access, groups: &[&str], wanted: Wanted<'_>) -> Verdict {
    access.verdict(&access.audience(groups.iter().copied()), 0, wanted)
}

#[test]
fn the_first_rule_that_decides_has_the_word() {
    use Decision::{Allowed, Denied, NotAllowed};
    use Verdict::{ByServer, ByTool, Open};
    let open = || rule(None, &[]);
    let (pro, no_trial) = (|| rule(Some(&["pro"]), &[]), || rule(None, &["trial"]));
    let table: [(Rule, Option<Rule>, &[&str], Verdict); 18] = [
        (open(), None, &[], Open),
        (open(), Some(open()), &["pro"], Open),
        // The server's rules, where the tool has none.
        (pro(), None, &["pro"], ByServer(Allowed)),
        (pro(), None, &["free"], ByServer(NotAllowed)),
        (pro(), None, &[], ByServer(NotAllowed)),
        (no_trial(), None, &["trial"], ByServer(Denied)),
        (no_trial(), None, &["trial", "pro"], ByServer(Denied)),
        (no_trial(), None, &["pro"], Open),
        (no_trial(), None, &[], Open),
        (rule(Some(&["pro"]), &["pro"]), None, &["pro"], ByServer(Denied)),
        (rule(Some(&[]), &[]), None, &["pro"], ByServer(NotAllowed)),
        // The tool's allow opens it and closes it, whatever the server says.
        (no_trial(), Some(rule(Some(&["trial"]), &[])), &["trial"], ByTool(Allowed)),
        (pro(), Some(rule(Some(&["max"]), &[])), &["pro"], ByTool(NotAllowed)),
        (open(), Some(rule(Some(&["max"]), &[])), &[], ByTool(NotAllowed)),
        (pro(), Some(rule(Some(&["max", "bad"]), &["bad"])), &["pro", "max", "bad"], ByTool(Denied)),
        // The tool's deny takes away and gives nothing.
        (pro(), Some(no_trial()), &["pro", "trial"], ByTool(Denied)),
        (pro(), Some(no_trial()), &["pro"], ByServer(Allowed)),
        (pro(), Some(no_trial()), &["free"], ByServer(NotAllowed)),
    ];
    for (server, tool, groups, expected) in table {
        let said = format!("{server:?} {tool:?} {groups:?}");
        assert_eq!(verdict(&access(server, tool), groups, Wanted::Tool("x")), expected, "{said}");
    }
}

#[test]
fn the_rules_of_a_tool_are_for_that_tool_only() {
    let access = access(rule(Some(&["pro"]), &[]), Some(rule(Some(&["max"]), &[])));
    for (wanted, groups, may) in [
        (Wanted::Tool("x"), "max", true),
        (Wanted::Tool("x"), "pro", false),
        (Wanted::Tool("y"), "max", false),
        (Wanted::Tool("y"), "pro", true),
        (Wanted::Other, "max", false),
        (Wanted::Other, "pro", true),
    ] {
        assert_eq!(verdict(&access, &[groups], wanted).may(), may, "{wanted:?} {groups}");
    }
    assert!(access.reaches(&access.audience(["max"]), 0), "one tool of it is there for them");
    assert!(!access.reaches(&access.audience(["free"]), 0));
    assert!(!access.reaches(&access.audience(["max"]), 1), "what has no rules while others have some was not asked for");
}

#[test]
fn groups_that_no_rule_names_make_no_other_audience() {
    let access = access(rule(Some(&["pro"]), &["bad"]), None);
    assert_eq!(access.audience(["pro", "a", "b"]), access.audience(["c", "pro"]));
    assert_ne!(access.audience(["pro"]), access.audience([]));
    assert_ne!(access.audience(["pro"]), access.audience(["pro", "bad"]));
}

#[test]
fn without_a_rule_nobody_needs_to_ask() {
    let access = access(rule(None, &[]), Some(rule(None, &[])));
    assert!(access.is_open());
    assert!(access.sees(&access.audience([]), 7, Wanted::Other));
}

#[test]
fn a_rule_with_more_groups_than_are_kept_apart_lets_nobody_in() {
    let many: Vec<String> = (0..=MOST_GROUPS).map(|n| format!("g{n}")).collect();
    let rules = AccessRules { server: Rule { allow: None, deny: many }, ..AccessRules::default() };
    let access = Access::new(&[rules]);
    assert!(!access.sees(&access.audience([]), 0, Wanted::Other));
}
