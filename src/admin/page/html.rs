//! Text in HTML: what a certificate or an upstream calls itself stays text.

use std::fmt::{self, Write as _};

use crate::tls::changes_the_line;

/// Shown as text, between tags and in quoted attributes (HTML, section 13.1.2 "Attributes", and "Escaping a string").
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if changes_the_line(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_a_tag_an_entity_an_attribute_or_moves_the_line() {
        let text = "<script>&lt;\"'</td>\u{202e}\n\u{1b}[31mé";
        assert_eq!(Text(text).to_string(), "&lt;script&gt;&amp;lt;&quot;&#39;&lt;/td&gt;\\u{202e}\\u{a}\\u{1b}[31mé");
    }
}
