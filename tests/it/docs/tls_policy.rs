//! docs/tls-policy.md: every key has its explanation, and the matrix is what the reader of the file does.

use std::{collections::BTreeSet, fs, path::Path};

use nexus::{
    config::{self, TABLES},
    problem::Severity,
    sources::MemorySources,
    table::Stage,
};

use super::root;

const PIN: &str =
    "spki_pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \"sha256/BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]";

fn page() -> String {
    fs::read_to_string(root().join("docs/tls-policy.md")).expect("the page can be read")
}

/// The keys that the headings of a part name: `### client_cert_path, client_key_path`.
fn headed(part: &str) -> BTreeSet<&str> {
    part.lines().filter_map(|line| line.strip_prefix("### ")).flat_map(|keys| keys.split(", ")).collect()
}

fn built(table: &str) -> BTreeSet<&'static str> {
    let table = TABLES.iter().find(|found| found.table == table).expect("the table is there");
    table.keys.iter().filter(|key| key.stage == Stage::Built).map(|key| key.name).collect()
}

#[test]
fn every_key_of_a_policy_is_explained_and_no_other() {
    let page = page();
    let (upstream, listener) = page.split_once("\n## The gateway's own certificate\n").expect("the listener has its part");
    assert_eq!(headed(upstream), built("mcp.servers.NAME.tls"));
    // What has the same meaning in both is explained once.
    let mut own = headed(listener);
    for key in ["min_version", "key_permissions"] {
        assert!(listener.contains(&format!("`{key}`")) && own.insert(key), "{key}");
    }
    assert_eq!(own, built("server.tls"));
}

/// The cells of the matrix, row by row.
fn matrix(page: &str) -> Vec<Vec<String>> {
    let (_, after) = page.split_once("\n## The matrix\n").expect("the matrix is there");
    let (section, _) = after.split_once("\n## ").expect("something follows it");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect()).collect()
}

/// The TOML that a cell stands for, once for each of its meanings.
fn lines_of(column: usize, cell: &str) -> Vec<String> {
    const ROOT: &str = "root_ca_cert_path = \"ca.pem\"";
    let keys = ["verify_certs", "accept_invalid_hostnames"];
    match (column, cell) {
        (0 | 1, "any") => ["true", "false"].iter().map(|value| format!("{} = {value}", keys[column])).collect(),
        (0 | 1, value) => vec![format!("{} = {value}", keys[column])],
        (_, "–") => vec![String::new()],
        (2, "set") => vec![ROOT.to_owned()],
        (2, "set, with `include_system_cas") => vec![format!("{ROOT}\ninclude_system_cas = true")],
        (2, "any") => vec![String::new(), ROOT.to_owned()],
        (3, "set") => vec![PIN.to_owned()],
        (3, "any") => vec![String::new(), PIN.to_owned()],
        (_, other) => panic!("the matrix has a cell {other:?} that the test does not know"),
    }
}

#[test]
fn every_row_of_the_matrix_is_what_the_program_does() {
    let rows = matrix(&page());
    assert_eq!(rows.len(), 10, "{rows:?}");
    let mut tried = 0;
    for row in &rows {
        let mut texts = vec!["[mcp.servers.crm]\nurl = \"https://crm.test/mcp\"\n[mcp.servers.crm.tls]\n".to_owned()];
        for (column, cell) in row.iter().take(4).enumerate() {
            let choices = lines_of(column, cell);
            texts = texts.iter().flat_map(|text| choices.iter().map(move |choice| format!("{text}{choice}\n"))).collect();
        }
        for text in texts {
            tried += 1;
            let problems = config::check_structure_of(&text, Path::new("nexus.toml"), &MemorySources::default());
            let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
            let warned = problems.iter().any(|problem| problem.severity == Severity::Warning);
            assert_eq!(refused, row[4].starts_with("*refused*"), "{row:?}\n{text}\n{problems:?}");
            assert_eq!(!refused && warned, row[5].starts_with("warned about at each start"), "{row:?}\n{text}\n{problems:?}");
        }
    }
    assert!(tried >= 16, "the rows were tried: {tried}");
}
