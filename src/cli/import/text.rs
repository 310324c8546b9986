//! Writes TOML text: strings, keys and comments.

use std::fmt::Write as _;

/// A basic string (TOML 1.0, String).
pub(super) fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A key, bare where it can be.
pub(super) fn key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { text.to_owned() } else { string(text) }
}

/// A list of strings on one line.
pub(super) fn strings(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| string(text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// One line of comment, whatever the text holds.
pub(super) fn comment(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {line}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::load_text, secret::Secret, sources::MemorySources, upstream::EndpointConfig};

    #[test]
    fn whatever_is_written_is_read_back() {
        for text in ["", "plain", "a \"b\" \\ c", "line\nline\r\n\ttab", "\u{1}\u{1f}\u{7f}", "ünï 🔑"] {
            let file = format!("[mcp.servers.a]\ncmd = [\"a\"]\n[mcp.servers.a.env]\n{} = {}\n", key(&format!("k{text}")), string(text));
            let loaded = load_text(&file, Path::new("nexus.toml"), None, &MemorySources::default());
            let config = loaded.config.expect("it loads");
            let Some(EndpointConfig::Stdio(stdio)) = config.mcp.upstreams.first().map(|upstream| &upstream.endpoint) else {
                panic!("a process")
            };
            assert_eq!(stdio.env.get(&format!("k{text}")).map(Secret::expose), Some(text));
        }
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        assert_eq!(comment("a\nurl = 1\r"), "# a url = 1 \n");
    }
}
