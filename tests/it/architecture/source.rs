//! A Rust file as far as the rules need it: its tokens without comments, texts and tests, and the paths it names.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A word or one character of punctuation; `::` is one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// One file below `src/`.
pub(super) struct Source {
    /// Relative to `src/`, with `/`.
    pub(super) path: String,
    pub(super) lines: usize,
    pub(super) tokens: Vec<Token>,
}

/// A path that is named somewhere, such as `crate::tls::TlsPolicy`, with groups taken apart and `self` and `super` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

impl Named {
    pub(super) fn shown(&self) -> String {
        self.segments.join("::")
    }

    /// Whether this is `path`, or something in it.
    pub(super) fn is_in(&self, path: &str) -> bool {
        let wanted: Vec<_> = path.split("::").collect();
        self.segments.len() >= wanted.len() && self.segments.iter().zip(&wanted).all(|(a, b)| a == b)
    }
}

/// All files of the product, without those that hold tests only.
pub(super) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src/ is there") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the files of src/ were found");
    found.iter().map(|path| read(&root, path)).collect()
}

/// Files that their parent declares under `#[cfg(test)]`.
fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
}

fn read(root: &Path, path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).expect("a file of src/ can be read");
    let path = path.strip_prefix(root).expect("found below src/").to_string_lossy().replace('\\', "/");
    Source::new(&path, &text)
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), lines: text.lines().count(), tokens: without_tests(&tokens(text)) }
    }

    /// The folder below `src/`, or the file itself: `tls`, `problem`, `main`.
    pub(super) fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Where `tokens` occur one after the other: the lines.
    pub(super) fn lines_with(&self, wanted: &[&str]) -> Vec<usize> {
        self.tokens
            .windows(wanted.len())
            .filter(|window| window.iter().zip(wanted).all(|(token, wanted)| token.text == *wanted))
            .filter_map(|window| window.first().map(|token| token.line))
            .collect()
    }

    /// Every path of the file, in `use` and elsewhere.
    pub(super) fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let in_use = at > 0 && self.text(at - 1) == "use";
            if is_word(&token.text) && token.text != "use" && (in_use || self.text(at + 1) == "::") {
                at = self.path_from(at, &[], &mut found);
            } else {
                at += 1;
            }
        }
        for named in &mut found {
            self.resolve(&mut named.segments);
        }
        found
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Reads one path, or one tree of a `use`, and gives the place behind it.
    fn path_from(&self, mut at: usize, before: &[String], found: &mut Vec<Named>) -> usize {
        let mut segments = before.to_vec();
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        loop {
            match self.text(at) {
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = if self.text(at) == "," { at + 1 } else { self.path_from(at, &segments, found) };
                    }
                    return at + 1;
                }
                text if is_word(text) || text == "*" => segments.push(text.to_owned()),
                _ => {}
            }
            at += 1;
            if self.text(at) != "::" || !(is_word(self.text(at + 1)) || matches!(self.text(at + 1), "{" | "*")) {
                break;
            }
            at += 1;
        }
        if self.text(at) == "as" {
            at += 2;
        }
        found.push(Named { segments, line });
        at
    }

    /// Spells `self` and `super` out as a path from `crate`.
    fn resolve(&self, segments: &mut Vec<String>) {
        let first = segments.first().map(String::as_str);
        if first == Some("nexus") {
            segments.splice(..1, ["crate".to_owned()]);
        }
        if !matches!(segments.first().map(String::as_str), Some("self" | "super")) {
            return;
        }
        let mut place: Vec<String> = vec!["crate".to_owned()];
        place.extend(self.path.trim_end_matches(".rs").split('/').map(str::to_owned));
        if place.last().is_some_and(|last| last == "mod") {
            place.pop();
        }
        let ups = segments.iter().take_while(|segment| *segment == "self" || *segment == "super").count();
        for up in segments.drain(..ups).collect::<Vec<_>>() {
            if up == "super" {
                place.pop();
            }
        }
        segments.splice(..0, place);
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Takes every item under `#[cfg(test)]` out, up to its `;` or the end of its block.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let marked = tokens.get(at..at + MARK.len()).is_some_and(|next| next.iter().zip(MARK).all(|(token, mark)| token.text == mark));
        if !marked {
            kept.push(token.clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        at += MARK.len();
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && token.text == "}" {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut line = 1;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = length_of_next(rest, first);
        let (next, behind) = rest.split_at(length);
        let is_text = next.contains(['"', '\'']);
        if next == "::" || (is_word(next) && !is_text) || (length == 1 && first.is_ascii_punctuation()) {
            found.push(Token { text: next.to_owned(), line });
        }
        line += next.matches('\n').count();
        rest = behind;
    }
    found
}

/// Bytes of the comment, text, character, word or punctuation at the front.
fn length_of_next(rest: &str, first: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(length) = raw_text(rest) {
        return length;
    }
    let quoted = rest.strip_prefix('b').unwrap_or(rest);
    if quoted.starts_with('"') {
        return rest.len() - quoted.len() + closed(quoted, '"');
    }
    if quoted.starts_with('\'') {
        let mut inside = quoted.chars().skip(1);
        let (one, two) = (inside.next(), inside.next());
        let is_character = one == Some('\\') || two == Some('\'');
        return if is_character { rest.len() - quoted.len() + closed(quoted, '\'') } else { rest.len() - quoted.len() + 1 };
    }
    if is_word(rest) {
        return rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    }
    if rest.starts_with("::") { 2 } else { first.len_utf8() }
}

/// `r"…"`, `br#"…"#`: its length.
fn raw_text(rest: &str) -> Option<usize> {
    let behind = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let inside = behind.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let closing = inside.find(&end)?;
    Some(rest.len() - inside.len() + closing + end.len())
}

/// The length of a text that starts with `quote`, with its closing quote.
fn closed(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn shown(text: &str) -> Vec<String> {
    Source::new("tls/load.rs", text).paths().iter().map(Named::shown).collect()
}

#[test]
fn paths_in_groups_and_inline_are_found_and_resolved() {
    assert_eq!(
        shown("use crate::{mcp::{Id, json::*}, tls};\nuse super::{files, super::auth::Caller as Who};"),
        ["crate::mcp::Id", "crate::mcp::json::*", "crate::tls", "crate::tls::files", "crate::auth::Caller"]
    );
    assert_eq!(shown("fn f(x: &reqwest::Error) -> crate::auth::Caller { self::g::<u8>(x) }").len(), 3);
    assert_eq!(shown("use rustls;"), ["rustls"]);
}

#[test]
fn comments_texts_and_tests_name_nothing() {
    let text = "// crate::a::b\n/* crate::c::d */ \"crate::e \\\" ::f\" r#\"crate::g \" \"# b\"crate::h\" '\"' 'l: \
                #[cfg(test)]\nmod tests { use crate::i; fn f() { g::h() } }\n#[cfg(test)] use crate::j::k;\nfn z() { l::m() }";
    assert_eq!(shown(text), ["l::m"]);
}
