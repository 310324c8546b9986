//! Makes an index of many tools and searches it, one search after the other.
//!
//! `search [TOOLS] [SEARCHES]`, by default 100,000 and 20,000. The tools are made up: 500 a server, names of two or three words
//! from a vocabulary in which few words are frequent and most are rare, descriptions of 8 to 30 words, 2 to 7 parameters.
//! A search has one to four keywords from the same vocabulary; one in ten has a letter wrong.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use globset::{Glob, GlobSet, GlobSetBuilder};
use nexus::{
    catalog::{Naming, Rules, Source, ToolsMode, merge, search::SearchIndex},
    mcp::{
        Era,
        handshake::ServerFacts,
        list::{ListBounds, ListKind, ListPage},
        offer::{Greeting, Offer},
    },
    names::UpstreamName,
};
use rustix::time::{ClockId, clock_gettime};

const TOOLS_OF_ONE: usize = 500;
const FREQUENT: &[&str] = &[
    "get", "list", "create", "update", "delete", "search", "find", "send", "read", "write", "user", "file", "issue", "message", "page",
    "project", "document", "order", "customer", "invoice", "account", "event", "record", "query", "table", "report", "task", "comment",
    "team", "channel", "status", "name", "id", "date", "type", "limit", "the", "a", "of", "to", "by", "with", "all", "from", "and",
];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<usize>().expect("a number"));
    let (tools, searches) = (arguments.next().unwrap_or(100_000), arguments.next().unwrap_or(20_000));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let words = vocabulary(&mut dice);
    let everything = GlobSetBuilder::new().add(Glob::new("*").expect("a glob")).build().expect("a set");
    let nothing = GlobSet::empty();
    let servers: Vec<_> = (0..tools.div_ceil(TOOLS_OF_ONE))
        .map(|server| {
            let count = TOOLS_OF_ONE.min(tools - server * TOOLS_OF_ONE);
            (UpstreamName::parse(&format!("{}{server}", dice.word(&words))).expect("a name"), offer(&mut dice, &words, count))
        })
        .collect();
    let sources: Vec<_> = servers
        .iter()
        .map(|(name, offer)| Source {
            name,
            prefix: name.as_str(),
            expose: &everything,
            hide: &nothing,
            offer: Some(Arc::clone(offer)),
            listed: true,
        })
        .collect();
    let rules = Rules { mode: ToolsMode::Search, naming: Naming { max: 52, keeps_own: true }, structured: true };
    let began = Instant::now();
    let catalog = Arc::new(merge(&sources, &rules, |_, _| true));
    println!("catalog of {} tools: {:?}", catalog.listed_tools().len(), began.elapsed());
    let (began, before, worked) = (Instant::now(), resident(), processor());
    let index = SearchIndex::build(Arc::clone(&catalog)).expect("an index");
    let (took, worked) = (began.elapsed(), processor() - worked);
    println!("index: {took:?}, {worked:?} of the processor, {} MiB", resident().saturating_sub(before) >> 20);

    let (mut took, mut worked) = (Vec::with_capacity(searches), Vec::with_capacity(searches));
    let mut found = 0;
    for _ in 0..searches {
        let keywords: Vec<_> = (0..=dice.below(4)).map(|_| dice.keyword(&words)).collect();
        let (began, before) = (Instant::now(), processor());
        let hits = index.search(&keywords, 10, |name, _| catalog.listed_tool(name).is_some()).expect("a search");
        worked.push(processor() - before);
        took.push(began.elapsed());
        found += hits.len();
    }
    println!("{searches} searches, {:.1} found each", found as f64 / searches as f64);
    for (what, times) in [("by the clock", &mut took), ("of the processor", &mut worked)] {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{what}: p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), at(1.0));
    }
}

/// What this thread has taken of a processor; other work on the machine does not count.
fn processor() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn vocabulary(dice: &mut Dice) -> Vec<String> {
    let syllables = ["ba", "con", "der", "fi", "gra", "ho", "ing", "jo", "ka", "lor", "men", "na", "or", "pre", "qui", "ro", "ser", "ti", "vo", "zu"];
    let made = (0..20_000).map(|_| (0..2 + dice.below(3)).map(|_| syllables[dice.below(syllables.len())]).collect());
    FREQUENT.iter().map(|word| (*word).to_owned()).chain(made).collect()
}

fn offer(dice: &mut Dice, words: &[String], count: usize) -> Arc<Offer> {
    let tools: Vec<_> = (0..count)
        .map(|number| {
            let name: Vec<_> = (0..2 + dice.below(2)).map(|_| dice.word(words)).collect();
            let description: Vec<_> = (0..8 + dice.below(22)).map(|_| dice.word(words)).collect();
            let parameters: Vec<_> = (0..2 + dice.below(5))
                .map(|n| format!(r#""{}_{n}":{{"type":"string","description":"{} {}"}}"#, dice.word(words), dice.word(words), dice.word(words)))
                .collect();
            format!(
                r#"{{"name":"{}_{number}","description":"{}.","inputSchema":{{"type":"object","properties":{{{}}}}}}}"#,
                name.join("_"),
                description.join(" "),
                parameters.join(",")
            )
        })
        .collect();
    let bounds = ListBounds { items: usize::MAX, bytes: usize::MAX };
    let page = ListPage::parse(&format!("{{\"tools\":[{}]}}", tools.join(",")).into(), ListKind::Tools, bounds).expect("a list");
    let facts = ServerFacts::from_initialize(&r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}"#.into()).expect("a greeting");
    Arc::new(Offer {
        era: Era::Legacy,
        greeting: Greeting::new(facts),
        tools: page.items,
        prompts: Vec::new(),
        resources: Vec::new(),
        templates: Vec::new(),
        quarantined: page.quarantined,
    })
}

/// Resident memory in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

/// The same numbers at every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    /// A frequent word half of the time.
    fn word<'a>(&mut self, words: &'a [String]) -> &'a str {
        let end = if self.below(2) == 0 { FREQUENT.len() } else { words.len() };
        &words[self.below(end)]
    }

    fn keyword(&mut self, words: &[String]) -> String {
        let mut word = self.word(words).to_owned();
        if self.below(10) == 0 && word.len() > 4 {
            let at = 1 + self.below(word.len() - 2);
            word.replace_range(at..=at, "x");
        }
        word
    }
}
