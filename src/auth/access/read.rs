//! `allow`, `deny` and `tools` of an upstream: from the file to [`AccessRules`].

use std::collections::{BTreeMap, BTreeSet};

use super::{AccessRules, Rule};
use crate::{
    auth::AuthConfig,
    problem::Problems,
    table::{Keys, Table, built, nearest},
};

/// Most different groups that the rules of all upstreams may name together.
pub const MOST_GROUPS: usize = 256;

pub const ACCESS_KEYS: Keys = Keys {
    table: "mcp.servers.NAME.tools.TOOL",
    doc: "Who may use a single tool.",
    keys: &[built("allow", "Groups that may use it, whatever the server's lists say."), built("deny", "Groups that may not.")],
};

/// Takes `allow`, `deny` and `tools` out of an upstream's table.
pub fn read(table: &mut Table, problems: &mut Problems) -> AccessRules {
    let server = rule(table, problems);
    let mut tools = BTreeMap::new();
    for (name, mut table) in table.table("tools", problems).map(|tools| tools.into_tables(problems)).unwrap_or_default() {
        let rule = rule(&mut table, problems);
        table.finish(&ACCESS_KEYS, problems);
        if rule == Rule::default() {
            let why = "a table without allow and deny changes nothing; the server's lists hold for the tool";
            table.warn("", problems, "rules for a tool that say nothing", why, "add allow or deny, or remove the table");
        }
        tools.insert(name, rule);
    }
    AccessRules { server, tools }
}

fn rule(table: &mut Table, problems: &mut Problems) -> Rule {
    let allow = groups(table, "allow", problems);
    let deny = groups(table, "deny", problems).unwrap_or_default();
    if allow.as_ref().is_some_and(Vec::is_empty) {
        let why = "an empty list lets nobody in, and no list lets everybody in";
        table.warn("allow", problems, "nobody may use this", why, "name groups, or remove the list");
    }
    if let Some(both) = allow.iter().flatten().find(|group| deny.contains(group)) {
        let what = format!("the group \"{both}\" is in allow and in deny");
        table.warn("deny", problems, what, "deny wins, so that its place in allow has no effect", "take it out of one of the lists");
    }
    Rule { allow, deny }
}

fn groups(table: &mut Table, key: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let groups = table.strings(key, problems)?;
    if groups.iter().any(String::is_empty) {
        table.error(key, problems, "a group without a name", "nobody is in it", "name the group, or remove it from the list");
    }
    Some(groups)
}

/// Holds the groups of all rules against those that there are and those that callers can be in.
///
/// `rules` are those of each upstream, by its name; `lines` say where each key stands.
pub fn check_groups<'a>(
    rules: impl IntoIterator<Item = (&'a str, &'a AccessRules)>,
    callers: &AuthConfig,
    lines: &BTreeMap<String, u32>,
    problems: &mut Problems,
) {
    let mut named = BTreeSet::new();
    let mut first = None;
    let known = callers.known_groups();
    for (upstream, rules) in rules {
        let server = std::iter::once((format!("mcp.servers.{upstream}"), &rules.server));
        let tools = rules.tools.iter().map(|(tool, rule)| (format!("mcp.servers.{upstream}.tools.{tool}"), rule));
        for (path, rule) in server.chain(tools) {
            named.extend(rule.groups());
            let lists = [("allow", rule.allow.as_deref().unwrap_or_default()), ("deny", &rule.deny)];
            for (key, group) in lists.into_iter().flat_map(|(key, groups)| groups.iter().map(move |group| (key, group))) {
                let path = format!("{path}.{key}");
                let line = lines.get(&path).copied().unwrap_or_default();
                first.get_or_insert_with(|| (path.clone(), line));
                let Some(known) = known.filter(|known| !known.contains(group)) else { continue };
                let why = "server.client_identification.validation.group_values names all groups that there are";
                let remedy = match nearest(group, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "correct it, or add it to group_values".to_owned(),
                };
                problems.error(&path, line, format!("unknown group \"{}\"", group.escape_debug()), why, remedy);
            }
        }
    }
    if let Some((path, line)) = first.filter(|_| !callers.gives_groups()) {
        let why = "neither an API key has a `group` nor [server.client_identification] a `group_id`, so that no list of groups ever fits";
        let remedy = "say where a caller's groups come from, or remove the lists";
        problems.warn(&path, line, "nobody is in a group", why, remedy);
    }
    if named.len() > MOST_GROUPS {
        let what = format!("{} different groups in allow and deny, more than {MOST_GROUPS}", named.len());
        let why = "every call is held against the rules, in a bounded time and in bounded memory";
        let line = lines.get("mcp.servers").copied().unwrap_or_default();
        problems.error("mcp.servers", line, what, why, "let the identity provider group its users for this gateway");
    }
}
