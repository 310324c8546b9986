//! What the documents say holds: their TOML loads, their links lead somewhere, the tests they name exist.

mod protocol;
mod tls_policy;
mod troubleshooting;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use nexus::{config, sources::MemorySources};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that is ours, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "certs-dev/README.md", "tests/e2e/README.md"]
        .iter()
        .map(|page| root().join(page))
        .collect();
    paths.push(root().join("docs/kubernetes/README.md"));
    let docs = fs::read_dir(root().join("docs")).expect("docs/ is there");
    paths.extend(docs.map(|entry| entry.expect("docs/ can be read").path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("a page can be read"))).collect()
}

/// The fenced blocks of a language, each with the line that it starts at.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((number + 1, info.trim() == language, String::new())),
            (Some(_), Some((start, wanted, block))) if wanted => found.push((start, block)),
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some((start, wanted, mut block))) => {
                block.push_str(line);
                block.push('\n');
                open = Some((start, wanted, block));
            }
        }
    }
    assert!(open.is_none(), "a block without an end");
    found
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The targets of `[words](target)`.
fn links(text: &str) -> Vec<String> {
    prose(text).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchor of a heading, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_toml_block_loads_without_a_problem_of_its_structure() {
    let mut count = 0;
    for (path, text) in pages() {
        for (line, block) in blocks(&text, "toml") {
            count += 1;
            let problems = config::check_structure_of(&block, Path::new("nexus.toml"), &MemorySources::default());
            let errors: Vec<_> =
                problems.iter().filter(|p| p.severity == nexus::problem::Severity::Error).map(ToString::to_string).collect();
            assert!(errors.is_empty(), "{}:{line}\n{}", path.display(), errors.join("\n"));
        }
    }
    assert!(count >= 5, "the blocks were found: {count}");
}

#[test]
fn every_internal_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in pages() {
        for target in links(&text).iter().filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let page = if file.is_empty() { path.clone() } else { path.parent().expect("a page is in a folder").join(file) };
            let is_page = page.extension().is_none_or(|extension| extension == "md") && !page.ends_with(protocol::CONFORMANCE);
            let there = page.exists()
                && (fragment.is_empty()
                    // What a fragment means elsewhere is for the page to say: docs/protocol.md names tests.
                    || !is_page
                    || fs::read_to_string(&page)
                        .is_ok_and(|text| prose(&text).lines().any(|line| line.starts_with('#') && anchor(line) == fragment)));
            if !there {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_test_and_file_that_the_architecture_names_exists() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page can be read");
    let mut code = String::new();
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("src"), root().join("tests/it")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            names.insert(path.file_name().expect("it has a name").to_string_lossy().into_owned());
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(path).expect("a file can be read"));
            }
        }
    }
    let plain = prose(&text);
    let quoted: Vec<&str> = plain.split('`').skip(1).step_by(2).collect();
    let tests: Vec<_> = quoted.iter().filter(|name| name.matches('_').count() >= 3 && !name.contains(['.', '/', ' '])).collect();
    assert!(tests.len() > 25, "the names of the tests were found: {}", tests.len());
    for name in tests {
        assert!(code.contains(&format!("fn {name}(")), "docs/ARCHITECTURE.md names the test `{name}`, which does not exist");
    }
    for file in quoted.iter().filter(|name| name.ends_with(".rs")) {
        let last = file.rsplit('/').next().unwrap_or(file);
        assert!(names.contains(last), "docs/ARCHITECTURE.md names the file `{file}`, which does not exist");
    }
}

/// The messages in the README are what the program says: their codes exist, and so do their words.
#[test]
fn the_messages_under_troubleshooting_are_the_programs_own() {
    let text = fs::read_to_string(root().join("README.md")).expect("the page can be read");
    let codes: Vec<String> = blocks(&text, "text")
        .iter()
        .flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.split(": down · ").nth(1).and_then(|rest| rest.split(" · ").next()).map(str::to_owned))
        .collect();
    assert_eq!(codes, ["tls_unknown_ca", "tls_hostname_mismatch", "tls_expired", "tls_client_cert_required"]);
    let files = ["explain/mod.rs", "explain/certificate.rs", "diagnose/name.rs"];
    let explain = files.map(|file| fs::read_to_string(root().join("src/tls").join(file)).expect("readable")).concat();
    let fixes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  fix: ")).collect();
    assert_eq!(fixes.len(), 4);
    for fix in fixes {
        assert!(explain.contains(fix), "no explanation has the remedy {fix:?} any more");
    }
}

/// What a metric's name looks like within a query.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("nexus_")).map(str::to_owned).collect()
}

#[test]
fn alert_rules_and_dashboard_name_only_metrics_that_exist() {
    let names: BTreeSet<String> = nexus::admin::metrics::names().into_iter().map(|(name, _)| name).collect();
    let exists = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        names.contains(name) || of_histogram.is_some_and(|name| names.contains(name))
    };
    for (page, at_least) in [
        ("docs/prometheus/alerts.yaml", 9),
        ("docs/grafana/nexus.json", 12),
        ("docs/runbook.md", 1),
        ("docs/kubernetes/prometheusrule.yaml", 9),
    ] {
        let text = fs::read_to_string(root().join(page)).expect("the page can be read");
        let named = metrics_in(&text);
        assert!(named.len() >= at_least, "{page}: {named:?}");
        for name in named {
            assert!(exists(&name), "{page} names the metric {name}, which does not exist; there are {names:?}");
        }
    }
}

#[test]
fn every_metric_is_documented() {
    let text = fs::read_to_string(root().join("docs/metrics.md")).expect("the page can be read");
    for (name, _) in nexus::admin::metrics::names() {
        assert!(text.contains(&format!("`{name}")), "docs/metrics.md does not tell of {name}");
    }
    for name in metrics_in(&text) {
        assert!(nexus::admin::metrics::names().iter().any(|(known, _)| *known == name), "docs/metrics.md tells of {name}, which is none");
    }
}

#[test]
fn every_runbook_page_of_an_alert_has_its_heading() {
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).expect("the page can be read");
    let anchors: BTreeSet<String> = prose(&runbook).lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let rules = fs::read_to_string(root().join("docs/prometheus/alerts.yaml")).expect("the rules can be read");
    let pages: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: docs/runbook.md#")).collect();
    assert_eq!(pages.len(), rules.lines().filter(|line| line.trim().starts_with("- alert:")).count(), "one page an alert");
    for page in pages {
        assert!(anchors.contains(page), "docs/runbook.md has no heading for {page}: {anchors:?}");
    }
}
