//! What is found, and in which order.

use globset::GlobSet;

use super::*;
use crate::{
    catalog::{Naming, Rules, Source, ToolsMode, merge},
    mcp::{
        Era,
        handshake::ServerFacts,
        list::{ListBounds, ListKind, ListPage},
        offer::{Declares, Greeting, Offer},
    },
    names::UpstreamName,
};

fn offer(tools: &str) -> Arc<Offer> {
    let bounds = ListBounds { items: 1000, bytes: 1 << 20 };
    let page = ListPage::parse(&format!("{{\"tools\":[{tools}]}}").into(), ListKind::Tools, bounds).unwrap();
    assert_eq!(page.quarantined, []);
    let facts = ServerFacts::from_initialize(&r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#.into()).unwrap();
    Arc::new(Offer {
        era: Era::Modern,
        greeting: Greeting { facts, declares: Declares::default() },
        tools: page.items,
        prompts: Vec::new(),
        resources: Vec::new(),
        templates: Vec::new(),
        quarantined: Vec::new(),
    })
}

fn index(servers: &[(&str, &[&str])]) -> SearchIndex {
    let (all, none) = (GlobSet::new([globset::Glob::new("*").unwrap()]).unwrap(), GlobSet::empty());
    let names: Vec<_> = servers.iter().map(|(name, _)| UpstreamName::parse(name).unwrap()).collect();
    let sources: Vec<_> = names
        .iter()
        .zip(servers)
        .map(|(name, (prefix, tools))| Source {
            name,
            prefix,
            expose: &all,
            hide: &none,
            offer: Some(offer(&tools.join(","))),
            listed: true,
        })
        .collect();
    let rules = Rules { mode: ToolsMode::Search, naming: Naming { max: 52, keeps_own: true }, structured: true };
    SearchIndex::build(Arc::new(merge(&sources, &rules, |_, _| true))).unwrap()
}

fn tool(name: &str, description: &str) -> String {
    serde_json::json!({"name": name, "description": description, "inputSchema": {"type": "object"}}).to_string()
}

fn sample() -> SearchIndex {
    let schema = r#"{"name":"transfer","title":"Move money","inputSchema":{"type":"object","properties":{"ibanNumber":{"type":"string","description":"destination account"}}}}"#;
    index(&[
        (
            "crm",
            &[&tool("create_issue", "Opens a ticket."), &tool("list_issues", "All tickets."), &tool("findCustomer", "By name or e-mail.")],
        ),
        ("bank", &[schema, &tool("get_weather", "Has nothing to do with customers.")]),
        ("github", &[&tool("create_pull_request", "Proposes a change.")]),
    ])
}

fn found(index: &SearchIndex, keywords: &[&str]) -> Vec<String> {
    index.search(keywords, 10, |_, _| true).unwrap().iter().map(|hit| hit.name.to_owned()).collect()
}

#[test]
fn a_tool_is_found_by_its_name_title_description_parameters_and_server() {
    let index = sample();
    for (keywords, first) in [
        (&["customer"][..], "crm__findCustomer"),
        (&["find customers"], "crm__findCustomer"),
        (&["money"], "bank__transfer"),
        (&["iban"], "bank__transfer"),
        (&["destination", "account"], "bank__transfer"),
        (&["ticket", "open"], "crm__create_issue"),
        (&["github"], "github__create_pull_request"),
        (&["GitHub", "pull"], "github__create_pull_request"),
        (&["crm__list_issues"], "crm__list_issues"),
        (&["weather"], "bank__get_weather"),
    ] {
        assert_eq!(found(&index, keywords).first().map(String::as_str), Some(first), "{keywords:?}");
    }
}

#[test]
fn a_name_counts_more_than_a_description() {
    assert_eq!(found(&sample(), &["customer"]), ["crm__findCustomer", "bank__get_weather"]);
}

#[test]
fn a_word_that_is_not_quite_right_still_finds() {
    let index = sample();
    for (typed, first) in [("custmer", "crm__findCustomer"), ("weath", "bank__get_weather"), ("pulll", "github__create_pull_request")] {
        assert_eq!(found(&index, &[typed]).first().map(String::as_str), Some(first), "{typed}");
    }
}

#[test]
fn what_says_nothing_finds_nothing() {
    let sample = sample();
    for keywords in [&[][..], &[""], &["  __ -- "], &["qqqqqqqq"], &["\u{0}\u{7f}"]] {
        assert_eq!(found(&sample, keywords), [""; 0], "{keywords:?}");
    }
    assert_eq!(found(&index(&[]), &["issue"]), [""; 0]);
}

#[test]
fn no_more_than_asked_are_found_and_of_equals_the_first_listed() {
    let tools: Vec<_> = (0..50).map(|n| tool(&format!("copy_{n}"), "copies")).collect();
    let tools: Vec<_> = tools.iter().map(String::as_str).collect();
    let index = index(&[("a", &tools)]);
    let expected: Vec<_> = (0..10).map(|n| format!("a__copy_{n}")).collect();
    assert_eq!(found(&index, &["copy"]), expected);
}

#[test]
fn what_is_not_to_be_seen_takes_nobodys_place() {
    let tools: Vec<_> = (0..50).map(|n| tool(&format!("copy_{n}"), "copies")).collect();
    let tools: Vec<_> = tools.iter().map(String::as_str).collect();
    let index = index(&[("a", &tools)]);
    let hits = index.search(&["copy"], 10, |name, found| name.ends_with('7') && found.upstream == 0).unwrap();
    let names: Vec<_> = hits.iter().map(|hit| hit.name).collect();
    assert_eq!(names, ["a__copy_7", "a__copy_17", "a__copy_27", "a__copy_37", "a__copy_47"]);
}

#[test]
fn a_flood_of_keywords_is_cut() {
    let flood: Vec<_> = (0..100_000).map(|n| format!("word{n} issue")).collect();
    assert_eq!(sample().search(&flood, 10, |_, _| true).unwrap().len(), 2);
}
