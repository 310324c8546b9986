//! What a client can be asked for, as far as a server may act on it.

use bytes::Bytes;

use crate::mcp::json::{for_each_member, lookup};

/// A client's capabilities, reduced to known flags, so that they can be part of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientCapabilities {
    pub roots: bool,
    pub sampling: bool,
    /// Sampling requests may offer tools to the model.
    pub sampling_tools: bool,
    /// Sampling requests may ask for servers' context.
    pub sampling_context: bool,
    pub elicitation_form: bool,
    pub elicitation_url: bool,
}

impl ClientCapabilities {
    /// Nothing is declared, so nothing may be asked.
    pub const NONE: Self = Self {
        roots: false,
        sampling: false,
        sampling_tools: false,
        sampling_context: false,
        elicitation_form: false,
        elicitation_url: false,
    };

    /// Reads the known flags of a raw `capabilities` object; anything else declares nothing.
    ///
    /// An elicitation that names no mode is one by form (MCP 2026-07-28, client/elicitation, capabilities).
    pub fn read(raw: &[u8]) -> Self {
        let mut read = Self::NONE;
        let declared = |raw: &[u8], path: &[&str]| lookup(raw, path).is_some_and(|value| value != b"null");
        // What is no object declares nothing.
        let _ = for_each_member(raw, |key, value| {
            let value = value.of(raw);
            let is_there = value != b"null";
            match key {
                "roots" => read.roots = is_there,
                "sampling" => {
                    read.sampling = is_there;
                    read.sampling_tools = declared(value, &["tools"]);
                    read.sampling_context = declared(value, &["context"]);
                }
                "elicitation" => {
                    read.elicitation_url = declared(value, &["url"]);
                    read.elicitation_form = is_there && (declared(value, &["form"]) || !read.elicitation_url);
                }
                _ => {}
            }
        });
        read
    }

    /// Whether a server may ask for anything.
    pub fn any(self) -> bool {
        self != Self::NONE
    }

    /// The object to declare in initialize.
    pub fn to_json(self) -> Bytes {
        let within = |parts: &[(bool, &str)]| {
            let members: Vec<_> = parts.iter().filter(|(on, _)| *on).map(|(_, key)| format!(r#""{key}":{{}}"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let mut members = Vec::new();
        if self.roots {
            members.push(r#""roots":{}"#.to_owned());
        }
        if self.sampling {
            let parts = within(&[(self.sampling_tools, "tools"), (self.sampling_context, "context")]);
            members.push(format!(r#""sampling":{parts}"#));
        }
        match (self.elicitation_form, self.elicitation_url) {
            (false, false) => {}
            // Modes are named since 2025-11-25 only.
            (true, false) => members.push(r#""elicitation":{}"#.to_owned()),
            (form, url) => members.push(format!(r#""elicitation":{}"#, within(&[(form, "form"), (url, "url")]))),
        }
        format!("{{{}}}", members.join(",")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_capabilities_are_declared_as_they_were_read_and_no_others() {
        for (declared, expected) in [
            (r#"{}"#, "{}"),
            ("[]", "{}"),
            (r#"{"elicitation":{}}"#, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{"form":{}}}"#, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{"url":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"elicitation":{"url":{"x":1},"form":{}}}"#, r#"{"elicitation":{"form":{},"url":{}}}"#),
            (r#"{"elicitation":null,"roots":null}"#, "{}"),
            (r#"{"sampling":{"tools":{},"context":null},"roots":{"listChanged":true}}"#, r#"{"roots":{},"sampling":{"tools":{}}}"#),
            (r#"{"sampling":{"context":{}}}"#, r#"{"sampling":{"context":{}}}"#),
            (r#"{"extensions":{"a":{}},"experimental":{}}"#, "{}"),
        ] {
            let read = ClientCapabilities::read(declared.as_bytes());
            assert_eq!(read.to_json(), expected, "{declared}");
            assert_eq!(ClientCapabilities::read(&read.to_json()), read);
            assert_eq!(read.any(), expected != "{}");
        }
    }
}
