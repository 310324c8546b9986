//! What a legacy client said at initialize that it can be asked for, as a modern server reads it.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::{Splices, Version, json::for_each_member, splice::object};

/// The extension by which a server may answer a call with a task.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Most bytes of `experimental` and `extensions` together that are repeated in each request; larger ones are left out.
const MAX_EXTRAS: usize = 8 * 1024;

/// A legacy client's capabilities, read once for its whole session.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    /// The client's own revision.
    pub(super) version: Version,
    pub(super) roots: bool,
    pub(super) sampling: bool,
    pub(super) sampling_tools: bool,
    pub(super) form: bool,
    pub(super) url: bool,
    plain: Bytes,
    with_tasks: Bytes,
}

#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    roots: Option<&'a RawValue>,
    #[serde(borrow)]
    sampling: Option<&'a RawValue>,
    #[serde(borrow)]
    elicitation: Option<&'a RawValue>,
    #[serde(borrow)]
    experimental: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

impl Declared {
    /// Reads the raw `capabilities` of an `initialize` of this version. What is malformed declares nothing.
    ///
    /// Tasks are never among them: those of 2025-11-25 are other ones than those of the extension.
    pub(crate) fn read(capabilities: &[u8], version: Version) -> Self {
        let nothing = Known { roots: None, sampling: None, elicitation: None, experimental: None, extensions: None };
        let known = serde_json::from_slice(capabilities).unwrap_or(nothing);
        let sampling = members(known.sampling);
        let mut declared = Self {
            version,
            roots: members(known.roots).is_some(),
            sampling: sampling.is_some(),
            sampling_tools: false,
            form: false,
            url: false,
            plain: Bytes::new(),
            with_tasks: Bytes::new(),
        };
        // The parts of sampling, and asking by URL, came with 2025-11-25; asking at all with 2025-06-18.
        let has_parts = version >= Version::V2025_11_25;
        let sampling: Members<'_> = sampling.unwrap_or_default().into_iter().filter(|(key, _)| has_parts && is_part(key)).collect();
        declared.sampling_tools = sampling.contains_key("tools");
        if let Some(modes) = members(known.elicitation).filter(|_| version >= Version::V2025_06_18) {
            declared.url = has_parts && modes.contains_key("url");
            // An empty object means forms (MCP 2025-11-25, client/elicitation, capabilities).
            declared.form = modes.contains_key("form") || !declared.url;
        }
        let extras = [known.experimental, known.extensions].into_iter().flatten().map(|raw| raw.get().len()).sum::<usize>();
        let (experimental, mut extensions) = if extras > MAX_EXTRAS {
            (None, Members::new())
        } else {
            (members(known.experimental), members(known.extensions).unwrap_or_default())
        };
        extensions.remove(TASKS);
        let write = |extensions: &Members<'_>| declared.write(&sampling, experimental.as_ref(), extensions);
        let plain = write(&extensions);
        let empty: &RawValue = serde_json::from_str("{}").expect("an empty object is JSON");
        extensions.insert(Cow::Borrowed(TASKS), empty);
        let with_tasks = write(&extensions);
        Self { plain, with_tasks, ..declared }
    }

    fn write(&self, sampling: &Members<'_>, experimental: Option<&Members<'_>>, extensions: &Members<'_>) -> Bytes {
        let elicitation: &[u8] = match (self.form, self.url) {
            (true, true) => br#"{"form":{},"url":{}}"#,
            (false, true) => br#"{"url":{}}"#,
            (_, false) => br#"{"form":{}}"#,
        };
        let (sampling, experimental, extensions_raw) = (raw(sampling), experimental.map(raw), raw(extensions));
        let mut members: Vec<(&str, &[u8])> = Vec::new();
        if self.form || self.url {
            members.push(("elicitation", elicitation));
        }
        members.extend(experimental.as_deref().map(|raw| ("experimental", raw)));
        if !extensions.is_empty() {
            members.push(("extensions", &extensions_raw));
        }
        if self.roots {
            members.push(("roots", b"{}"));
        }
        if self.sampling {
            members.push(("sampling", &sampling));
        }
        object(&members).into()
    }

    /// The `clientCapabilities` of a modern request, raw.
    pub(crate) fn capabilities(&self) -> &Bytes {
        &self.plain
    }

    /// The same with the tasks extension: the gateway drives the task for the client.
    pub(crate) fn capabilities_with_tasks(&self) -> &Bytes {
        &self.with_tasks
    }
}

/// A modern server's raw capabilities without the tasks extension, which the gateway itself uses for legacy clients.
pub(crate) fn without_tasks(capabilities: &Bytes) -> Bytes {
    let mut splices = Splices::new();
    let mut edited = Ok(());
    let walked = for_each_member(capabilities, |key, value| {
        if key == "extensions" && value.of(capabilities).starts_with(b"{") {
            edited = splices.edit_object(capabilities, value, |key| key == TASKS, &[]);
        }
    });
    match walked.and(edited) {
        Ok(()) => splices.apply(capabilities),
        Err(_) => capabilities.clone(),
    }
}

fn is_part(key: &str) -> bool {
    matches!(key, "tools" | "context")
}

fn members(raw: Option<&RawValue>) -> Option<Members<'_>> {
    serde_json::from_str(raw?.get()).ok()
}

fn raw(of: &Members<'_>) -> Vec<u8> {
    object(&of.iter().map(|(key, value)| (&**key, value.get().as_bytes())).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(capabilities: &str, version: Version) -> String {
        String::from_utf8(Declared::read(capabilities.as_bytes(), version).capabilities().to_vec()).unwrap()
    }

    #[test]
    fn capabilities_are_those_that_the_clients_revision_knows() {
        use Version::{V2025_03_26 as OLDEST, V2025_06_18 as OLDER, V2025_11_25 as OLD};
        for (said, version, expected) in [
            ("{}", OLD, "{}"),
            ("null", OLD, "{}"),
            ("[1]", OLD, "{}"),
            (r#"{"elicitation":{}}"#, OLD, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{}}"#, OLDER, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{}}"#, OLDEST, "{}"),
            (r#"{"elicitation":{"form":{},"url":{}}}"#, OLD, r#"{"elicitation":{"form":{},"url":{}}}"#),
            (r#"{"elicitation":{"url":{}}}"#, OLD, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"elicitation":{"url":{}}}"#, OLDER, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":true,"roots":1,"sampling":[]}"#, OLD, "{}"),
            (r#"{"roots":{"listChanged":true}}"#, OLD, r#"{"roots":{}}"#),
            (r#"{"sampling":{"tools":{},"context":{},"x":1}}"#, OLD, r#"{"sampling":{"context":{},"tools":{}}}"#),
            (r#"{"sampling":{"tools":{}}}"#, OLDER, r#"{"sampling":{}}"#),
            (r#"{"tasks":{"requests":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, OLD, "{}"),
            (
                r#"{"extensions":{"a/ui":{"m":[1.0]}},"experimental":{"e":{}}}"#,
                OLD,
                r#"{"experimental":{"e":{}},"extensions":{"a/ui":{"m":[1.0]}}}"#,
            ),
        ] {
            assert_eq!(read(said, version), expected, "{said} {version}");
        }
    }

    #[test]
    fn extensions_that_would_swell_every_request_are_left_out() {
        let said = format!(r#"{{"roots":{{}},"extensions":{{"a/b":{{"x":"{}"}}}}}}"#, "y".repeat(MAX_EXTRAS));
        assert_eq!(read(&said, Version::V2025_11_25), r#"{"roots":{}}"#);
    }

    #[test]
    fn tasks_are_declared_only_where_the_gateway_drives_them() {
        let declared = Declared::read(br#"{"extensions":{"a/b":{}}}"#, Version::V2025_11_25);
        assert_eq!(declared.capabilities(), r#"{"extensions":{"a/b":{}}}"#);
        assert_eq!(declared.capabilities_with_tasks(), r#"{"extensions":{"a/b":{},"io.modelcontextprotocol/tasks":{}}}"#);
    }
}
