//! Every tool that is known, listed or not, and why it is not: for people who miss one.

use super::{Gateway, WhenDown, view::Shown};
use crate::{catalog::Lookup, names::UpstreamName};

/// One tool that an upstream offers, or has offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTool {
    pub upstream: UpstreamName,
    /// As the upstream calls it; `None` for a quarantined one without a name.
    pub own_name: Option<String>,
    /// As clients see it, or would.
    pub name: Option<String>,
    pub visible: Visibility,
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
            Self::Collision => "collision",
            Self::Quarantined(_) => "quarantined",
        }
    }
}

impl Gateway {
    /// The tools of all upstreams in file order, as last known.
    pub fn known_tools(&self) -> Vec<KnownTool> {
        let view = self.view();
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
                let visible = if !expose.is_match(&own) || hide.is_match(&own) {
                    Visibility::Hidden
                } else if owner != Some(index) {
                    Visibility::Collision
                } else if listed {
                    if lineup.config.tools.lists_all() { Visibility::Listed } else { Visibility::Found }
                } else {
                    Visibility::Down
                };
                known.push(KnownTool { upstream: upstream.name().clone(), own_name: Some(own), name: Some(name), visible });
            }
            let left_out = offer.quarantined.iter().map(|item| KnownTool {
                upstream: upstream.name().clone(),
                own_name: item.name.clone(),
                name: item.name.as_deref().map(as_listed),
                visible: Visibility::Quarantined(item.why.to_string()),
            });
            known.extend(left_out);
        }
        known
    }
}
