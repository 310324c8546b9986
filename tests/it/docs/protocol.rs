//! docs/protocol.md: every cell of its matrix leads to a test that exists, or says why there is none.

use std::fs;

use super::{links, root};

/// The script whose fragments are names of suites.
pub(super) const CONFORMANCE: &str = "tests/e2e/conformance";

/// Topic and cells of each row of the four pairs.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = lines.filter_map(|line| line.split_once(" | ")).map(|(topic, cells)| (topic, cells.split(" | ").collect::<Vec<_>>()));
    rows.filter(|(_, cells)| cells.len() == 4).collect()
}

/// Whether the target of a link is a test: a function of a test file, or a suite of the conformance script.
fn is_test(target: &str) -> bool {
    let Some((file, name)) = target.strip_prefix("../tests/").and_then(|rest| rest.split_once('#')) else { return false };
    let read = |file: &str| fs::read_to_string(root().join("tests").join(file)).unwrap_or_default();
    match file.rsplit_once('.') {
        Some((_, "rs")) => {
            let code = read(file);
            let above = code.find(&format!("fn {name}(")).and_then(|place| code.get(..place));
            // An attribute stands right above a test, and above no helper.
            let attribute = above.and_then(|above| above.trim_end_matches("async ").trim_end().lines().last());
            attribute.is_some_and(|line| line.starts_with("#[") && line.contains("test"))
        }
        Some((_, "py")) => name.starts_with("test_") && read(file).contains(&format!("\ndef {name}(")),
        None => file == "e2e/conformance" && read("e2e/support/conformance.py").contains(&format!("(\"{name}\", ")),
        Some(_) => false,
    }
}

#[test]
fn every_cell_of_the_matrix_leads_to_a_test_or_says_why_not() {
    let page = fs::read_to_string(root().join("docs/protocol.md")).expect("the page can be read");
    let rows = rows(&page);
    assert!(rows.len() >= 42, "the rows were found: {}", rows.len());
    let mut wrong = Vec::new();
    for (topic, cells) in rows {
        for cell in cells {
            let targets = links(cell);
            let said =
                ["not bridged: ", "not shown: ", "nothing: "].iter().any(|word| cell.strip_prefix(word).is_some_and(|why| !why.is_empty()));
            if said != targets.is_empty() || !targets.iter().all(|target| is_test(target)) {
                wrong.push(format!("{topic}: {cell}"));
            }
        }
    }
    assert!(wrong.is_empty(), "cells without a test and without a reason:\n{}", wrong.join("\n"));
}

#[test]
fn a_test_is_told_from_what_is_none() {
    assert!(is_test("../tests/it/cross_era.rs#a_legacy_client_uses_a_modern_server"));
    assert!(is_test("../tests/e2e/test_sessions.py#test_a_session_that_never_was_gets_404"));
    assert!(is_test("../tests/e2e/conformance#2026-07-28"));
    for none in ["cross_era.rs#both", "cross_era.rs#no_such_test", "cross_era.rs", "no_such_file.rs#x"] {
        assert!(!is_test(&format!("../tests/it/{none}")), "{none}");
    }
    assert!(!is_test("../tests/e2e/test_sessions.py#open_session") && !is_test("../tests/e2e/conformance#2020-01-01"));
}
