//! Which groups may use what of an upstream: `allow` and `deny` of a server and of single tools.
//!
//! The first rule that decides has the word: a tool's `deny`, its `allow`, the server's `deny`, its `allow`. Where no rule says
//! anything, everybody may. An `allow` that is there decides in any case, so that who is in none of its groups, or in no group at
//! all, may not; a `deny` decides only about those in its groups. Grafbase's Nexus decides in the same way
//! (`crates/mcp/src/access.rs` of 0.6), but for one thing: there, a tool with a rule of its own knows nothing of the server's,
//! so that a `deny` for a single tool opens it to everybody else.

mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

pub use read::{ACCESS_KEYS, MOST_GROUPS, check_groups, read};

/// Numbers that hold a bit for each group that rules name.
const WORDS: usize = MOST_GROUPS / 64;

/// The rules of one upstream, as the file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// For everything that it offers.
    pub server: Rule,
    /// For single tools, by the upstream's own names.
    pub tools: BTreeMap<String, Rule>,
}

/// Whom one pair of lists lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `None`: nothing is said. Empty: nobody may.
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

impl AccessRules {
    /// Every rule.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        std::iter::once(&self.server).chain(self.tools.values())
    }

    fn is_open(&self) -> bool {
        self.all().all(|rule| rule.allow.is_none() && rule.deny.is_empty())
    }
}

impl Rule {
    /// The groups that it names.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().flatten().chain(&self.deny).map(String::as_str)
    }
}

/// What of an upstream somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// By the upstream's own name.
    Tool(&'a str),
    /// A prompt, a resource, a template: the server's rules hold for it.
    Other,
}

/// Which rule decides, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule says anything.
    Open,
    ByTool(Decision),
    ByServer(Decision),
}

/// What a rule says of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// One of the groups is in `deny`.
    Denied,
    /// One of the groups is in `allow`.
    Allowed,
    /// None of the groups is in `allow`.
    NotAllowed,
}

impl Verdict {
    pub const fn may(self) -> bool {
        matches!(self, Self::Open | Self::ByTool(Decision::Allowed) | Self::ByServer(Decision::Allowed))
    }
}

/// The groups of a caller, as far as any rule names them. Two callers with the same have the same rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Audience([u64; WORDS]);

impl Audience {
    fn add(&mut self, bit: usize) {
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// The rules of all upstreams, ready to be asked on every call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Access {
    groups: HashMap<Box<str>, usize>,
    /// In file order.
    upstreams: Box<[Compiled]>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Compiled {
    server: Lists,
    tools: HashMap<Box<str>, Lists>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Lists {
    allow: Option<Audience>,
    deny: Audience,
    /// It names more groups than there are places for; the reader refuses that. Nobody may then.
    is_overfull: bool,
}

impl Access {
    /// `rules` are those of the upstreams in file order.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a AccessRules>) -> Self {
        let rules: Vec<&AccessRules> = rules.into_iter().collect();
        if rules.iter().all(|rules| rules.is_open()) {
            return Self::default();
        }
        let mut groups = HashMap::new();
        let upstreams = rules.into_iter().map(|rules| Compiled {
            server: Lists::new(&rules.server, &mut groups),
            tools: rules.tools.iter().map(|(tool, rule)| (tool.as_str().into(), Lists::new(rule, &mut groups))).collect(),
        });
        let upstreams = upstreams.collect();
        Self { groups, upstreams }
    }

    /// No rule says anything: everybody may everything, and nobody needs to ask.
    pub fn is_open(&self) -> bool {
        self.upstreams.is_empty()
    }

    pub fn audience<'a>(&self, groups: impl IntoIterator<Item = &'a str>) -> Audience {
        let mut audience = Audience::default();
        groups.into_iter().filter_map(|group| self.groups.get(group)).for_each(|bit| audience.add(*bit));
        audience
    }

    /// Whether something of the upstream at this place exists for these callers.
    pub fn sees(&self, audience: &Audience, upstream: usize, wanted: Wanted<'_>) -> bool {
        self.verdict(audience, upstream, wanted).may()
    }

    /// Whether anything of it does.
    pub fn reaches(&self, audience: &Audience, upstream: usize) -> bool {
        let Some(rules) = self.upstreams.get(upstream) else { return self.is_open() };
        let may_some = || rules.tools.keys().any(|tool| self.sees(audience, upstream, Wanted::Tool(tool)));
        self.sees(audience, upstream, Wanted::Other) || may_some()
    }

    /// Which rule decides.
    pub fn verdict(&self, audience: &Audience, upstream: usize, wanted: Wanted<'_>) -> Verdict {
        let Some(rules) = self.upstreams.get(upstream) else {
            return if self.is_open() { Verdict::Open } else { Verdict::ByServer(Decision::NotAllowed) };
        };
        let own = match wanted {
            Wanted::Tool(name) => rules.tools.get(name).and_then(|lists| lists.decide(audience)),
            Wanted::Other => None,
        };
        own.map(Verdict::ByTool).or_else(|| rules.server.decide(audience).map(Verdict::ByServer)).unwrap_or(Verdict::Open)
    }

    /// Whether any rule has a word in who sees this.
    pub fn rules(&self, upstream: usize, wanted: Wanted<'_>) -> bool {
        let says = |lists: &Lists| lists.allow.is_some() || lists.deny != Audience::default();
        self.upstreams.get(upstream).is_some_and(|rules| match wanted {
            Wanted::Tool(name) => rules.tools.get(name).is_some_and(says) || says(&rules.server),
            Wanted::Other => says(&rules.server),
        })
    }

    /// The tools of an upstream that have rules of their own.
    pub fn ruled_tools(&self, upstream: usize) -> impl Iterator<Item = &str> {
        self.upstreams.get(upstream).into_iter().flat_map(|rules| rules.tools.keys().map(|name| &**name))
    }
}

impl Lists {
    fn new(rule: &Rule, groups: &mut HashMap<Box<str>, usize>) -> Self {
        let mut is_overfull = false;
        let mut all = |names: &[String]| {
            let mut audience = Audience::default();
            for name in names {
                let next = groups.len();
                let bit = *groups.entry(name.as_str().into()).or_insert(next);
                is_overfull |= bit >= MOST_GROUPS;
                audience.add(bit);
            }
            audience
        };
        let (allow, deny) = (rule.allow.as_deref().map(&mut all), all(&rule.deny));
        Self { allow, deny, is_overfull }
    }

    /// `None`: it says nothing of these callers.
    fn decide(&self, audience: &Audience) -> Option<Decision> {
        if self.is_overfull || self.deny.meets(audience) {
            return Some(Decision::Denied);
        }
        let allow = self.allow.as_ref()?;
        Some(if allow.meets(audience) { Decision::Allowed } else { Decision::NotAllowed })
    }
}
