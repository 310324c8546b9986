//! Every tool that is known, listed or not, and why it is not: for people who miss one.

use super::{Gateway, WhenDown, view::Shown};
use crate::{
    auth::{Decision, Verdict, Wanted},
    catalog::Lookup,
    names::UpstreamName,
};

/// One tool that an upstream offers, or has offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTool {
    pub upstream: UpstreamName,
    /// As the upstream calls it; `None` for a quarantined one without a name.
    pub own_name: Option<String>,
    /// As clients see it, or would.
    pub name: Option<String>,
    pub visible: Visibility,
    /// Some list of groups has a word in who sees it.
    pub is_ruled: bool,
}

/// Whether clients see a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visibility {
    Listed,
    /// Only `search` and `execute` are listed (`tools = "search"`), which find and run it.
    Found,
    /// Its upstream is down, and `when_down = "hide"`.
    Down,
    /// `expose` or `hide` leave it out.
    Hidden,
    /// `allow` or `deny` keep those away who were asked about: the list by its path, and what it says.
    Denied {
        list: String,
        says: &'static str,
    },
    /// An upstream before it in the file has the name.
    Collision,
    /// It would break a client's whole list; the reason is its own.
    Quarantined(String),
}

impl Visibility {
    /// The stable word, as in JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Found => "found",
            Self::Down => "down",
            Self::Hidden => "hidden",
            Self::Denied { .. } => "denied",
            Self::Collision => "collision",
            Self::Quarantined(_) => "quarantined",
        }
    }
}

impl Gateway {
    /// The tools of all upstreams in file order, as last known: as somebody in these groups sees them, or as one who may use
    /// everything.
    pub fn known_tools(&self, groups: Option<&[String]>) -> Vec<KnownTool> {
        let view = match groups {
            Some(groups) => self.view().seen_by_groups(groups.iter().map(String::as_str)),
            None => self.view(),
        };
        let lineup = &view.lineup;
        let mut known = Vec::new();
        for (index, Shown { upstream, config, expose, hide }) in lineup.shown().enumerate() {
            let Some(offer) = upstream.offer() else { continue };
            let listed = lineup.config.when_down == WhenDown::Keep || upstream.status().borrow().state.serves();
            let naming = lineup.config.rules().naming;
            let as_listed = |own: &str| naming.tool(upstream.name().as_str(), &config.prefix, own).into_owned();
            for item in &offer.tools {
                let own = item.name().into_owned();
                let name = as_listed(&own);
                let owner = match view.catalog.tool(&name) {
                    Lookup::Found(found) => Some(found.upstream),
                    Lookup::Unknown | Lookup::Ambiguous(_) => None,
                };
                let verdict = |audience| lineup.access.verdict(audience, index, Wanted::Tool(&own));
                let denied = view.audience.as_ref().and_then(|audience| denied(upstream.name(), &own, verdict(audience)));
                let visible = if !expose.is_match(&own) || hide.is_match(&own) {
                    Visibility::Hidden
                } else if let Some(denied) = denied {
                    denied
                } else if owner != Some(index) {
                    Visibility::Collision
                } else if listed {
                    if lineup.config.tools.lists_all() { Visibility::Listed } else { Visibility::Found }
                } else {
                    Visibility::Down
                };
                let is_ruled = lineup.access.rules(index, Wanted::Tool(&own));
                known.push(KnownTool { upstream: upstream.name().clone(), own_name: Some(own), name: Some(name), visible, is_ruled });
            }
            let left_out = offer.quarantined.iter().map(|item| KnownTool {
                upstream: upstream.name().clone(),
                own_name: item.name.clone(),
                name: item.name.as_deref().map(as_listed),
                visible: Visibility::Quarantined(item.why.to_string()),
                is_ruled: false,
            });
            known.extend(left_out);
        }
        known
    }
}

/// Why a tool does not exist for those of whom this is the verdict.
fn denied(upstream: &UpstreamName, tool: &str, verdict: Verdict) -> Option<Visibility> {
    let (path, decision) = match verdict {
        Verdict::Open => return None,
        Verdict::ByTool(decision) => (format!("mcp.servers.{upstream}.tools.{tool}"), decision),
        Verdict::ByServer(decision) => (format!("mcp.servers.{upstream}"), decision),
    };
    match decision {
        Decision::Allowed => None,
        Decision::Denied => Some(Visibility::Denied { list: format!("{path}.deny"), says: "names one of the groups" }),
        Decision::NotAllowed => Some(Visibility::Denied { list: format!("{path}.allow"), says: "names none of the groups" }),
    }
}
