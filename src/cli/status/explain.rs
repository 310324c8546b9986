//! `--explain TOOL`: why clients see a tool, or do not.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    ask::{Answers, Tool, Upstream},
    show::printable,
};
use crate::{names::SEPARATOR, table::nearest};

/// What there is to say about one name.
#[derive(Debug)]
pub(super) struct Explained<'a> {
    typed: &'a str,
    /// Every tool that the name may mean.
    found: Vec<Finding<'a>>,
    /// Of an unknown name: the one that was most likely meant.
    nearest: Option<&'a str>,
    /// Upstreams whose tools are not known, one of which may have it.
    silent: Vec<&'a Upstream>,
}

#[derive(Debug)]
struct Finding<'a> {
    tool: &'a Tool,
    upstream: Option<&'a Upstream>,
    for_somebody: bool,
}

/// `for_somebody`: the answers are those for callers of certain groups.
pub(super) fn explain<'a>(answers: &'a Answers, typed: &'a str, for_somebody: bool) -> Explained<'a> {
    let upstream_of = |tool: &Tool| answers.upstreams.iter().find(|upstream| upstream.name == tool.upstream);
    let found: Vec<_> = answers
        .tools
        .iter()
        .filter(|tool| is_meant(tool, typed))
        .map(|tool| Finding { tool, upstream: upstream_of(tool), for_somebody })
        .collect();
    let known =
        answers.tools.iter().filter(|tool| ["listed", "found"].contains(&&*tool.visibility)).filter_map(|tool| tool.name.as_deref());
    let nearest = if found.is_empty() { nearest(typed, known) } else { None };
    let prefix = typed.split_once(SEPARATOR).map(|(prefix, _)| prefix);
    // Without such an upstream, any that is not known may list its tools under that prefix.
    let owner = prefix.filter(|prefix| answers.upstreams.iter().any(|upstream| upstream.name == *prefix));
    let silent = |upstream: &&Upstream| {
        let is_unknown = !answers.tools.iter().any(|tool| tool.upstream == upstream.name);
        let may_have_it = owner.map_or_else(|| prefix.is_none() || nearest.is_none(), |owner| owner == upstream.name);
        is_unknown && matches!(upstream.state.as_str(), "down" | "starting") && may_have_it
    };
    let silent = if found.is_empty() { answers.upstreams.iter().filter(silent).collect() } else { Vec::new() };
    Explained { typed, found, nearest, silent }
}

/// As listed, as `server__tool`, or as the upstream calls it.
fn is_meant(tool: &Tool, typed: &str) -> bool {
    let always = |own: &String| typed.strip_prefix(&*tool.upstream).and_then(|rest| rest.strip_prefix(SEPARATOR)) == Some(own);
    tool.name.as_deref() == Some(typed) || tool.own_name.as_ref().is_some_and(|own| own == typed || always(own))
}

impl Finding<'_> {
    fn is_callable(&self) -> bool {
        ["listed", "found"].contains(&&*self.tool.visibility) && self.upstream.is_none_or(|upstream| upstream.state != "down")
    }

    fn restriction(&self) -> &'static str {
        if self.tool.restricted && !self.for_somebody {
            "\n  but not to everybody: allow and deny have a word in it; ask with --as GROUP"
        } else {
            ""
        }
    }

    fn words(&self) -> String {
        let tool = self.tool;
        let (upstream, name) = (&tool.upstream, printable(tool.name.as_deref().unwrap_or("(nameless)")));
        let own = printable(tool.own_name.as_deref().unwrap_or("(nameless)"));
        let renamed = if name == own { String::new() } else { format!(", where it is called {own}") };
        match tool.visibility.as_str() {
            "listed" if self.is_callable() => format!("{name} is visible: upstream {upstream}{renamed}{}", self.restriction()),
            "listed" => format!(
                "{name} is listed, and its calls fail: upstream {upstream}{renamed} is down{}",
                self.upstream.map(trouble).unwrap_or_default()
            ),
            "found" if self.is_callable() => format!(
                "{name} is not in the list of tools, because mcp.tools is \"search\"; agents find it with search and run it with \
                 execute: upstream {upstream}{renamed}{}",
                self.restriction()
            ),
            "found" => format!(
                "{name} is found with search, and its calls fail: upstream {upstream}{renamed} is down{}",
                self.upstream.map(trouble).unwrap_or_default()
            ),
            "down" => format!(
                "{name} is not visible: upstream {upstream} is down, and mcp.when_down is \"hide\"{}",
                self.upstream.map(trouble).unwrap_or_default()
            ),
            "hidden" => format!(
                "{name} is not visible: upstream {upstream} offers it as {own}, and `expose` or `hide` leave it out\n  fix: change \
                 them in [mcp.servers.{upstream}]"
            ),
            "denied" => {
                let list = printable(tool.list.as_deref().unwrap_or("a list of groups"));
                let says = printable(tool.why.as_deref().unwrap_or("keeps them away"));
                format!("{name} does not exist for these callers: upstream {upstream}{renamed}, and {list} {says}\n  fix: change that list")
            }
            "collision" => format!(
                "{name} of upstream {upstream} is not visible: an upstream before it in the file has the name\n  fix: give one of \
                 the two another `prefix`, or hide the tool in one of them"
            ),
            "quarantined" => format!(
                "{own} of upstream {upstream} is quarantined, because it would break the whole list of many clients: {}\n  fix: mend \
                 the tool on the server",
                printable(tool.why.as_deref().unwrap_or("no reason is known"))
            ),
            other => format!("{name} of upstream {upstream}: {}", printable(other)),
        }
    }
}

/// Reason, detail and remedy, as far as they are known.
fn trouble(upstream: &Upstream) -> String {
    let mut words = String::new();
    for part in [&upstream.reason, &upstream.detail].into_iter().flatten() {
        let _ = write!(words, " · {}", printable(part));
    }
    if let Some(remedy) = &upstream.remedy {
        let _ = write!(words, "\n  fix: {}", printable(remedy));
    }
    words
}

impl Explained<'_> {
    /// Whether a call of this name would reach its upstream.
    pub(super) fn is_callable(&self) -> bool {
        self.found.iter().any(Finding::is_callable)
    }

    pub(super) fn words(&self) -> String {
        let mut lines: Vec<String> = self.found.iter().map(Finding::words).collect();
        if lines.is_empty() {
            let hint = self.nearest.map(|name| format!("\n  fix: did you mean {}?", printable(name))).unwrap_or_default();
            lines.push(format!("{} is unknown: no upstream offers it{hint}", printable(self.typed)));
        }
        let silent = self.silent.iter().map(|upstream| {
            format!("upstream {} was not up yet, so its tools are not known: {}{}", upstream.name, upstream.state, trouble(upstream))
        });
        lines.extend(silent);
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let found: Vec<_> = self
            .found
            .iter()
            .map(|found| {
                json!({
                    "name": found.tool.name, "upstream": found.tool.upstream, "own_name": found.tool.own_name,
                    "visibility": found.tool.visibility, "list": found.tool.list, "restricted": found.tool.restricted, "callable": found.is_callable(), "words": found.words(),
                    "reason": found.upstream.filter(|upstream| upstream.state == "down").and_then(|upstream| upstream.reason.clone()),
                })
            })
            .collect();
        let silent: Vec<_> = self.silent.iter().map(|upstream| &upstream.name).collect();
        json!({"tool": self.typed, "callable": self.is_callable(), "found": found, "nearest": self.nearest, "unknown_upstreams": silent})
    }
}
