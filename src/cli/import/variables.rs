//! The clients' placeholders, and values that look like secrets.

use std::collections::BTreeSet;

use super::json::Input;
use crate::table::sounds_secret;

/// Turns placeholders into templates, and remembers which variables they need.
#[derive(Debug)]
pub(super) struct Variables<'a> {
    inputs: &'a [Input],
    needed: BTreeSet<String>,
    /// What is worth saying about the entry, one line each.
    notes: BTreeSet<String>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(inputs: &'a [Input]) -> Self {
        Self { inputs, needed: BTreeSet::new(), notes: BTreeSet::new() }
    }

    /// The variables without a default that templates use.
    pub(super) fn needed(self) -> BTreeSet<String> {
        self.needed
    }

    pub(super) fn note(&mut self, text: &str) {
        self.notes.insert(text.to_owned());
    }

    pub(super) fn take_notes(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.notes)
    }

    /// A template for the variable `name`.
    pub(super) fn template(&mut self, name: &str) -> String {
        self.needed.insert(name.to_owned());
        format!("{{{{ env.{name} }}}}")
    }

    /// Rewrites `${env:X}`, `${input:x}`, `${X}`, `${X:-default}` and the editors' own `${userHome}`; the rest stays as it is.
    pub(super) fn rewrite(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(&before.replace("{{", "{{{{"));
            let Some((placeholder, after)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            match self.placeholder(placeholder) {
                Some(template) => out.push_str(&template),
                None => {
                    self.notes.insert(format!("${{{placeholder}}} means nothing here: replace it"));
                    out.push_str("${");
                    out.push_str(&placeholder.replace("{{", "{{{{"));
                    out.push('}');
                }
            }
            rest = after;
        }
        out.push_str(&rest.replace("{{", "{{{{"));
        out
    }

    fn placeholder(&mut self, text: &str) -> Option<String> {
        if let Some(id) = text.strip_prefix("input:") {
            let name = variable_name(id);
            let asked = self.inputs.iter().find(|input| input.id == id).map(|input| input.description.trim()).filter(|d| !d.is_empty());
            self.notes.insert(format!("{name} is what the editor asked for: {}", asked.unwrap_or(id)));
            return Some(self.template(&name));
        }
        if text == "userHome" {
            return Some(self.template("HOME"));
        }
        if matches!(text, "workspaceFolder" | "workspaceFolderBasename") || text.starts_with("workspaceFolder:") {
            self.notes.insert("WORKSPACE_FOLDER is the project's folder, which only the editor knows".to_owned());
            return Some(self.template("WORKSPACE_FOLDER"));
        }
        // Without `env:`, a word in lower case is one of the editors' own, such as `${file}`.
        let own = |text: &&str| !text.split(":-").next().unwrap_or_default().contains(|c: char| c.is_ascii_lowercase());
        let name = text.strip_prefix("env:").or_else(|| Some(text).filter(own))?;
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        match default {
            Some(default) => {
                let default = default.replace('\\', "\\\\").replace('"', "\\\"");
                Some(format!("{{{{ env.{name} | default(\"{default}\") }}}}"))
            }
            None => Some(self.template(name)),
        }
    }
}

/// `api-key` as a variable: `API_KEY`.
pub(super) fn variable_name(text: &str) -> String {
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if name.is_empty() { "VALUE".to_owned() } else { name }
}

/// Whether a value that stands literally in the client's file is probably a secret. `named` is its variable or header.
pub(super) fn looks_secret(named: &str, value: &str) -> bool {
    const PREFIXES: [&str; 12] =
        ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA", "eyJ", "npm_", "Bearer "];
    let literal = !value.is_empty() && !value.contains("{{ env.");
    let has = |test: fn(&u8) -> bool| value.as_bytes().iter().any(test);
    let random = value.len() >= 24
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'='))
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic);
    literal && ((sounds_secret(named) && value.len() >= 6) || PREFIXES.iter().any(|prefix| value.starts_with(prefix)) || random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_templates() {
        let inputs = [Input { id: "api-key".to_owned(), description: "The key".to_owned() }];
        let mut variables = Variables::new(&inputs);
        for (text, expected) in [
            ("${env:HOME}/x", "{{ env.HOME }}/x"),
            ("${TOKEN}", "{{ env.TOKEN }}"),
            ("${PORT:-80\"}", "{{ env.PORT | default(\"80\\\"\") }}"),
            ("Bearer ${input:api-key}", "Bearer {{ env.API_KEY }}"),
            ("{{ x }}", "{{{{ x }}"),
            ("$HOME ${ {a", "$HOME ${ {a"),
            ("${file}", "${file}"),
            ("${env:file}", "{{ env.file }}"),
            ("${command:x.y}", "${command:x.y}"),
        ] {
            assert_eq!(variables.rewrite(text), expected);
        }
        assert!(variables.take_notes().iter().any(|note| note == "API_KEY is what the editor asked for: The key"));
        assert!(variables.needed().contains("API_KEY"));
    }

    #[test]
    fn secrets_are_told_from_settings() {
        for (name, value) in [("API_KEY", "abcdef123"), ("X", "ghp_0123456789"), ("X", "a1b2c3d4e5f6a7b8c9d0e1f2")] {
            assert!(looks_secret(name, value), "{name}={value}");
        }
        for (name, value) in [("NODE_ENV", "production"), ("API_KEY", "{{ env.API_KEY }}"), ("X", "/home/ann/projects/one2"), ("KEY", "")] {
            assert!(!looks_secret(name, value), "{name}={value}");
        }
    }
}
