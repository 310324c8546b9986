//! docs/troubleshooting.md: an entry for each code, with a message that the program prints and that a test produces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use nexus::reason::Reason;

use super::{anchor, blocks, prose, root};

/// Codes that nothing produces yet: scripts may name them, and their entries say so.
const KEPT_FREE: [Reason; 1] = [Reason::BreakerOpen];

/// What other programs say, and must be found at the top of the page.
const MESSAGES: [&str; 16] = [
    "CERTIFICATE_VERIFY_FAILED",
    "HOSTNAME_MISMATCH",
    "HANDSHAKE_FAILURE",
    "CERTIFICATE_EXPIRED",
    "CONNECTION_RESET",
    "NO_SHARED_CIPHER",
    "NET::ERR_CERT_AUTHORITY_INVALID",
    "NET::ERR_CERT_COMMON_NAME_INVALID",
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "unable to get local issuer certificate",
    "sslv3 alert bad certificate",
    "fetch failed",
    "ENOENT",
    "PFX refused",
    "will not start after a new certificate",
    "504",
];

fn page() -> String {
    fs::read_to_string(root().join("docs/troubleshooting.md")).expect("the page can be read")
}

/// The text below each `### code`.
fn entries(page: &str) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    let mut current: Option<(String, String)> = None;
    let mut fenced = false;
    for line in page.lines() {
        fenced ^= line.starts_with("```");
        if line.starts_with('#') && !fenced {
            entries.extend(current.take());
            current = line.strip_prefix("### ").map(|code| (code.to_owned(), String::new()));
        } else if let Some((_, text)) = &mut current {
            text.push_str(line);
            text.push('\n');
        }
    }
    entries.extend(current);
    entries
}

/// The entries of the codes that something produces.
fn produced() -> Vec<(Reason, String)> {
    let mut entries = entries(&page());
    let wanted = Reason::ALL.iter().filter(|reason| !KEPT_FREE.contains(reason));
    wanted.map(|reason| (*reason, entries.remove(reason.code()).unwrap_or_default())).collect()
}

/// The name of the variant, as sources write it.
fn variant(reason: Reason) -> String {
    format!("Reason::{reason:?}")
}

#[test]
fn every_code_has_its_entry_and_no_entry_has_another() {
    let page = page();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let unique: BTreeSet<&str> = headings.iter().copied().collect();
    assert_eq!(headings.len(), unique.len(), "an entry twice");
    assert_eq!(unique, Reason::ALL.iter().map(|reason| reason.code()).collect());
}

#[test]
fn every_entry_has_message_cause_fix_and_a_command() {
    for (reason, entry) in produced() {
        let messages = blocks(&entry, "text");
        assert!(messages.iter().any(|(_, text)| names(text, reason.code()) || names(text, "topic")), "{reason}: its message has no code");
        assert!(messages.iter().all(|(_, text)| text.contains("fix")), "{reason}: a message without a fix");
        for part in ["**Cause.** ", "**Fix.** ", "**See it.**"] {
            assert_eq!(entry.matches(part).count(), 1, "{reason}: {part}");
        }
        let commands = blocks(&entry, "sh");
        assert!(!commands.is_empty() && commands.iter().all(|(_, text)| !text.trim().is_empty()), "{reason}: no command");
        if reason.code().starts_with("tls_") {
            assert!(commands.iter().any(|(_, text)| text.contains("openssl ")), "{reason}: no command of OpenSSL");
        }
    }
}

/// Whether a word occurs by itself, and not within another.
fn names(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).any(|w| w == word)
}

#[test]
fn entries_say_what_people_get_wrong() {
    let entries = entries(&page());
    let says = |code: &str, words: &[&str]| {
        for part in words {
            assert!(entries[code].contains(part), "{code}: {part:?}");
        }
    };
    says("tls_incomplete_chain", &["set `intermediates_path`", "Not `root_ca_cert_path`"]);
    says("tls_unknown_ca", &["the system's CAs would accept it", "**replaces**", "include_system_cas"]);
    says("tls_hostname_mismatch", &["a wildcard covers exactly one label", "server_name"]);
    for code in KEPT_FREE {
        assert!(!entries[code.code()].contains("**Cause.**"), "{code} is told as if it happened");
    }
}

#[test]
fn messages_of_other_programs_lead_to_our_codes() {
    let page = page();
    let (_, after) = page.split_once("## Messages of other programs").expect("the index is there");
    let (index, _) = after.split_once("\n## ").expect("something follows the index");
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| message")).collect();
    for message in MESSAGES {
        assert!(
            rows.iter().any(|row| row.split(" | ").next().is_some_and(|first| first.contains(message))),
            "{message} is not in the index"
        );
    }
    let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    for target in super::links(index) {
        let code = target.strip_prefix('#').unwrap_or_default();
        assert!(codes.contains(code), "the index leads to {target}");
    }
    let first = page.find("\n## ").map(|at| &page[at..]).expect("it has sections");
    assert!(first.starts_with("\n## Messages of other programs"), "the index comes first");
    assert_eq!(anchor("### tls_unknown_ca"), "tls_unknown_ca", "a heading is its code's anchor");
}

/// What stands in the messages as an example, or comes from the system and from libraries.
const EXAMPLES: [&str; 14] = [
    "localhost",
    "hours",
    "\"crm\"",
    "\"npx\"",
    "certs/",
    "certs/nexus.pfx",
    "no database",
    "No such file or directory (os error",
    "Permission denied (os error",
    "No route to host (os error",
    "Connection refused (os error",
    "failed to lookup address information: Name or service not known",
    "connection closed before message completed",
    "exit status",
];

/// The details and remedies in the messages are texts of the program, with something filled in.
#[test]
fn every_message_is_the_programs_own() {
    let mut texts: BTreeSet<String> =
        files("src", "rs").iter().filter(|(path, _)| !is_test(path)).flat_map(|(_, text)| literals(text)).collect();
    assert!(texts.len() > 1000, "the texts of src/ were found: {}", texts.len());
    texts.extend(EXAMPLES.map(str::to_owned));
    for (reason, entry) in produced() {
        for (_, block) in blocks(&entry, "text") {
            for line in block.lines().filter(|line| !line.trim().is_empty()) {
                let said = said(line, reason.code()).unwrap_or_else(|| panic!("{reason}: {line:?} has none of the forms of a message"));
                let strange = words_of_nobody(&said, &texts);
                assert!(strange.is_empty(), "{reason}: the program has no text with {strange:?}, in {said:?}");
            }
        }
    }
}

/// The plain words that no text of the program accounts for. Names, dates, paths and numbers are not plain words.
fn words_of_nobody(said: &str, texts: &BTreeSet<String>) -> Vec<String> {
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = said.as_bytes();
    let mut known = vec![false; bytes.len()];
    for text in texts {
        let (first, last) = (text.as_bytes().first(), text.as_bytes().last());
        for (at, _) in said.match_indices(text.as_str()) {
            let end = at + text.len();
            let within_a_word = is_letter(first) && at > 0 && is_letter(bytes.get(at - 1)) || is_letter(last) && is_letter(bytes.get(end));
            if !within_a_word {
                known[at..end].fill(true);
            }
        }
    }
    let rest: String = said.char_indices().map(|(at, c)| if known[at] { ' ' } else { c }).collect();
    let words = rest.split_whitespace().map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation()));
    words.filter(|word| word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase())).map(str::to_owned).collect()
}

/// The detail or the remedy of a line, without what is printed around it.
fn said(line: &str, code: &str) -> Option<String> {
    let line = line.trim();
    if let Some(fix) = line.strip_prefix("fix: ") {
        return Some(fix.to_owned());
    }
    if let Some((_, detail)) = line.split_once(&format!(" {code} · ")).or_else(|| line.split_once(&format!(" {code}: "))) {
        return Some(detail.to_owned());
    }
    // A log line: its message, before the fields.
    line.strip_prefix("WARN ").and_then(|rest| rest.split_once(" topic=")).map(|(message, _)| message.to_owned())
}

/// The parts of a source's string literals that say something: cut at each `{…}`, and no single words by themselves.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            '\'' => {
                // A character, or a lifetime.
                if chars.next() == Some('\\') {
                    chars.next();
                }
                chars.next_if_eq(&'\'');
            }
            '"' => found.extend(cut(&literal(&mut chars))),
            _ => {}
        }
    }
    found
}

/// The text up to the closing quote, escapes resolved.
fn literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    text
}

fn cut(literal: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = literal.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' if chars.next_if_eq(&'{').is_none() => {
                while chars.next().is_some_and(|c| c != '}') {}
                parts.push(String::new());
            }
            '}' => {
                chars.next_if_eq(&'}');
                parts.last_mut().expect("it has a part").push('}');
            }
            c => parts.last_mut().expect("it has a part").push(c),
        }
    }
    // `FILE` stands for the path in the remedies about files.
    let parts: Vec<&str> = parts.iter().flat_map(|part| part.split("FILE")).map(str::trim).collect();
    let is_filled_in = parts.len() > 1;
    let says = |part: &&str| part.len() > 1 && (is_filled_in || part.contains([' ', '_']));
    parts.into_iter().filter(says).map(str::to_owned).collect()
}

#[test]
fn every_code_is_produced_by_a_test() {
    let mut tests: Vec<String> = files("src", "rs").iter().filter_map(|(path, text)| tests_of(path, text)).collect();
    let own = [Path::new(file!()).file_name().expect("it has a name"), "docs.rs".as_ref()];
    tests.extend(
        files("tests/it", "rs").into_iter().filter(|(path, _)| path.file_name().is_some_and(|n| !own.contains(&n))).map(|(_, t)| t),
    );
    tests.extend(files("tests/e2e", "py").into_iter().map(|(_, text)| text));
    let functions: Vec<String> = tests.iter().flat_map(|text| functions(text)).collect();
    assert!(functions.len() > 500, "the tests were found: {}", functions.len());
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !KEPT_FREE.contains(reason))
        .filter(|reason| !functions.iter().any(|function| expects(function, **reason)))
        .map(|reason| reason.code())
        .collect();
    assert!(missing.is_empty(), "no test expects {missing:?}");
}

#[test]
fn codes_that_are_kept_free_are_not_produced() {
    for (path, text) in files("src", "rs") {
        for reason in KEPT_FREE {
            assert!(!names_path(&text, &variant(reason)), "{} produces {reason}: write its entry", path.display());
        }
    }
}

/// Whether a function names a code where it checks: itself, or in what it hands to a function that does.
fn expects(function: &str, reason: Reason) -> bool {
    let code = reason.code();
    let is_named =
        names_path(function, &variant(reason)) || [format!("\"{code}\""), format!("{code} ·")].iter().any(|form| function.contains(form));
    let checks = ["assert", "check(", "refused(", "below(", "row(", "same(", "named(", "finds(", "Row("];
    is_named && checks.iter().any(|check| function.contains(check))
}

/// `Reason::TlsSelfSigned` is not in `Reason::TlsSelfSignedCa`.
fn names_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| !text[at + path.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// The functions of a file of Rust or Python, from one `fn` or `def` at the beginning of a line to the next.
fn functions(text: &str) -> Vec<String> {
    let begins = |line: &str| {
        let line = line.trim_start();
        ["fn ", "async fn ", "pub", "def ", "async def "].iter().any(|word| line.starts_with(word)) && line.contains('(')
    };
    let mut functions = vec![String::new()];
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#')) {
        if begins(line) {
            functions.push(String::new());
        }
        let last = functions.last_mut().expect("there is one");
        last.push_str(line);
        last.push('\n');
    }
    functions
}

/// What of a file of `src/` is tests.
fn tests_of(path: &Path, text: &str) -> Option<String> {
    if is_test(path) {
        return Some(text.to_owned());
    }
    text.split_once("#[cfg(test)]\nmod tests {").map(|(_, tests)| tests.to_owned())
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Every file with this extension below a folder of the repository.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = fs::read_to_string(&path).expect("a file can be read");
                found.push((path.strip_prefix(root()).expect("found below it").to_owned(), text));
            }
        }
    }
    found
}

#[test]
fn a_page_that_is_wrong_is_noticed() {
    let entries = entries("## A\n\n### tls_x\n\n```sh\n# no heading\n```\n\n### tls_y\ntext\n\n## B\nmore\n");
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["tls_x", "tls_y"]);
    assert!(!entries["tls_y"].contains("more") && entries["tls_x"].contains("no heading"));
    let texts = literals(
        "let x = format!(\"the {a} \\\n     of \\\"{}\\\" has ended\"); // \"none at all\"\nlet y = (\"word\", '\"', \"a word\");\n",
    );
    assert_eq!(texts, ["the", "of \"", "\" has ended", "a word"]);
    let texts = texts.into_iter().collect();
    assert!(words_of_nobody("the CN=a of \"crm.test\" has ended", &texts).is_empty());
    assert_eq!(words_of_nobody("the CN=a of \"crm.test\" has begun", &texts), ["has", "begun"]);
    assert_eq!(words_of_nobody("these CN=a of \"crm.test\" has ended", &texts), ["these"]);
    assert!(names_path("x(Reason::Dns)", "Reason::Dns") && !names_path("Reason::TlsSelfSignedCa", "Reason::TlsSelfSigned"));
    assert!(!expects("fn a() { let x = Reason::Dns; }", Reason::Dns) && expects("fn a() { assert_eq!(x, Reason::Dns); }", Reason::Dns));
    assert!(!prose(&page()).contains("TODO"));
}
