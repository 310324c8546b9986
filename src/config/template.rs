//! Templates in string values: `{{ env.NAME }}`, `{{ env.NAME | default("x") }}`, `{{ file("/run/secrets/token") }}`.

use std::path::Path;

use crate::{secret::Secret, sources::Sources};

/// Whether templates are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// From the environment and from files.
    Sources,
    /// Not at all: only their grammar is checked.
    Nothing,
}

/// A string after its templates.
#[derive(Debug)]
pub(super) struct Filled {
    /// `None` where [`Fill::Nothing`] left a template open.
    pub(super) value: Option<Secret>,
    /// Whether no template was in it.
    pub(super) literal: bool,
}

/// What is wrong with a template. Names variables and paths, never their content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("a template is opened with `{{{{` and never closed")]
    Open,
    #[error("this is no template that is known here")]
    Unknown,
    #[error("the environment variable `{0}` is not set")]
    NoVariable(String),
    #[error("the file `{path}` cannot be used: {cause}")]
    File { path: String, cause: String },
}

impl TemplateError {
    /// What to do about it.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Open => "close it with `}}`, or write `{{{{` for a literal `{{`".to_owned(),
            Self::Unknown => {
                "write {{ env.NAME }}, {{ env.NAME | default(\"…\") }} or {{ file(\"/path\") }}; `{{{{` stands for a literal `{{`"
                    .to_owned()
            }
            Self::NoVariable(name) => format!("set {name}, or write {{{{ env.{name} | default(\"…\") }}}}"),
            Self::File { .. } => {
                "make the file readable for nexus, or correct the path; a relative one starts at the file's folder".to_owned()
            }
        }
    }
}

/// Fills in the templates of one string.
///
/// # Errors
/// The first template that cannot be read or filled in.
pub(super) fn fill(text: &str, folder: &Path, how: Fill, sources: &dyn Sources) -> Result<Filled, TemplateError> {
    let mut filled = String::with_capacity(text.len());
    let mut literal = true;
    let mut complete = true;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix("{{") {
            filled.push_str("{{");
            rest = after;
            continue;
        }
        literal = false;
        let (expression, after) = split_closing(after).ok_or(TemplateError::Open)?;
        let expression = parse(expression.trim()).ok_or(TemplateError::Unknown)?;
        match how {
            Fill::Sources => filled.push_str(Secret::new(evaluate(&expression, folder, sources)?).expose()),
            Fill::Nothing => complete = false,
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(Filled { value: complete.then(|| Secret::new(filled)), literal })
}

#[derive(Debug)]
enum Expression<'a> {
    Variable { name: &'a str, default: Option<String> },
    File(String),
}

/// Splits at the closing braces, which do not count within quotes.
fn split_closing(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => {
                if let Some(after) = text.get(at..).and_then(|rest| rest.strip_prefix("}}")) {
                    return Some((text.get(..at)?, after));
                }
            }
            _ => {}
        }
    }
    None
}

fn parse(text: &str) -> Option<Expression<'_>> {
    if let Some(path) = text.strip_prefix("file").and_then(argument) {
        return Some(Expression::File(path));
    }
    let variable = text.strip_prefix("env.")?;
    let (name, default) = match variable.split_once('|') {
        Some((name, filter)) => (name.trim_end(), Some(filter.trim_start().strip_prefix("default").and_then(argument)?)),
        None => (variable, None),
    };
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    valid.then_some(Expression::Variable { name, default })
}

/// Reads `("…")`, where `\"` and `\\` are escaped.
fn argument(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    let inner = inner.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            '"' => return None,
            c => value.push(c),
        }
    }
    Some(value)
}

fn evaluate(expression: &Expression<'_>, folder: &Path, sources: &dyn Sources) -> Result<String, TemplateError> {
    match expression {
        Expression::Variable { name, default } => {
            sources.env(name).or_else(|| default.clone()).ok_or_else(|| TemplateError::NoVariable((*name).to_owned()))
        }
        Expression::File(path) => {
            let refused = |cause: String| TemplateError::File { path: path.clone(), cause };
            let (bytes, _) = sources.read(&folder.join(path)).map_err(|error| refused(error.to_string()))?;
            let mut text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8 text".to_owned()))?;
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::MemorySources;

    fn filled(text: &str) -> Result<String, TemplateError> {
        let sources = MemorySources::default().with_env("TOKEN", "t0ken").with_file("/etc/nexus/secret", "from file\n");
        fill(text, Path::new("/etc/nexus"), Fill::Sources, &sources).map(|f| f.value.map(|v| v.expose().to_owned()).unwrap_or_default())
    }

    #[test]
    fn variables_files_and_defaults_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("Bearer {{ env.TOKEN }}!", "Bearer t0ken!"),
            ("{{env.TOKEN}}{{ env.TOKEN }}", "t0kent0ken"),
            ("{{ env.NONE | default(\"x}}y\") }}", "x}}y"),
            ("{{ env.NONE | default(\"a \\\"quote\\\"\") }}", "a \"quote\""),
            ("{{ env.TOKEN | default(\"x\") }}", "t0ken"),
            ("{{ file(\"secret\") }}", "from file"),
            ("{{ file(\"/etc/nexus/secret\") }}", "from file"),
            ("{{{{ env.TOKEN }}", "{{ env.TOKEN }}"),
            ("a }} b", "a }} b"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_no_template_is_refused() {
        assert_eq!(filled("{{ env.NONE }}"), Err(TemplateError::NoVariable("NONE".to_owned())));
        assert!(matches!(filled("{{ file(\"none\") }}"), Err(TemplateError::File { .. })));
        assert_eq!(filled("{{ env.TOKEN"), Err(TemplateError::Open));
        for text in ["{{ TOKEN }}", "{{ env. }}", "{{ env.TOKEN | upper }}", "{{ file(secret) }}", "{{ env.A-B }}", "{{}}"] {
            assert_eq!(filled(text), Err(TemplateError::Unknown), "{text}");
        }
    }

    #[test]
    fn only_a_string_without_a_template_is_literal() {
        let literal = |text| fill(text, Path::new(""), Fill::Nothing, &MemorySources::default()).map(|f| f.literal);
        assert_eq!(literal("plain {{{{"), Ok(true));
        assert_eq!(literal("{{ env.X }}"), Ok(false));
    }
}
