//! The part of a `subscriptions/listen` filter that upstreams answer (MCP 2026-07-28, basic/subscriptions, "Notification
//! Filter").

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::mcp::{
    json::{for_each_item, for_each_member, lookup, quote, unescape},
    splice::object,
};

/// What a client declares to be told of tasks (extension `io.modelcontextprotocol/tasks`).
pub(in crate::gateway) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

const RESOURCES: &str = "resourceSubscriptions";
const TASKS: &str = "taskIds";
/// Answered from the gateway's own catalog.
const LISTS: [&str; 3] = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];

/// Keys of extensions in one filter that are looked at.
const MAX_FURTHER: usize = 32;

/// What one party wants of another, or has agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Wishes {
    pub(in crate::gateway) uris: BTreeSet<Box<str>>,
    pub(in crate::gateway) tasks: BTreeSet<Box<str>>,
    /// Keys of extensions, with their raw values.
    pub(in crate::gateway) further: Vec<(Box<str>, Bytes)>,
}

impl Wishes {
    /// Reads a raw filter; what has the wrong shape is not wished for.
    pub(in crate::gateway) fn read(filter: &Bytes) -> Self {
        let mut wishes = Self::default();
        // A filter without form asks for nothing.
        let _ = for_each_member(filter, |key, span| {
            let raw = span.of(filter);
            match key {
                RESOURCES => wishes.uris.extend(strings(raw)),
                TASKS => wishes.tasks.extend(strings(raw)),
                key if LISTS.contains(&key) => {}
                key if wishes.further.len() < MAX_FURTHER && raw != b"null" && raw != b"false" => {
                    wishes.further.push((key.into(), filter.slice(span.range())));
                }
                _ => {}
            }
        });
        wishes
    }

    pub(in crate::gateway) fn len(&self) -> usize {
        self.uris.len() + self.tasks.len()
    }

    /// What of this an acknowledged filter honours; what was not asked for counts for nothing.
    pub(super) fn honoured_by(&self, acknowledged: &Bytes) -> Self {
        let agreed = Self::read(acknowledged);
        Self {
            uris: self.uris.intersection(&agreed.uris).cloned().collect(),
            tasks: self.tasks.intersection(&agreed.tasks).cloned().collect(),
            further: agreed.further.into_iter().filter(|(key, _)| self.further.iter().any(|(asked, _)| asked == key)).collect(),
        }
    }

    /// Takes what another upstream has agreed to into the same acknowledgement.
    pub(in crate::gateway) fn merge(&mut self, other: Self) {
        self.uris.extend(other.uris);
        self.tasks.extend(other.tasks);
        for (key, value) in other.further {
            if !self.further.iter().any(|(known, _)| *known == key) {
                self.further.push((key, value));
            }
        }
    }

    /// The members of a filter, each with its raw value.
    pub(in crate::gateway) fn members(&self) -> Vec<(&str, Bytes)> {
        let mut members = Vec::new();
        if !self.uris.is_empty() {
            members.push((RESOURCES, array(&self.uris)));
        }
        if !self.tasks.is_empty() {
            members.push((TASKS, array(&self.tasks)));
        }
        members.extend(self.further.iter().map(|(key, value)| (&**key, value.clone())));
        members
    }

    /// The filter.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let members = self.members();
        object(&members.iter().map(|(key, value)| (*key, &value[..])).collect::<Vec<_>>())
    }
}

/// Whether raw capabilities, of a client or a server, declare the tasks extension.
pub(in crate::gateway) fn declares_tasks(capabilities: &[u8]) -> bool {
    // Most clients declare nothing of the kind, which is cheap to see.
    memchr::memmem::find(capabilities, TASKS_EXTENSION.as_bytes()).is_some()
        && lookup(capabilities, &["extensions", TASKS_EXTENSION]).is_some_and(|raw| raw != b"null" && raw != b"false")
}

fn strings(array: &[u8]) -> Vec<Box<str>> {
    let mut strings = Vec::new();
    // Anything but an array names nothing.
    let _ = for_each_item(array, |item| {
        if let Some(text) = unescape(item.of(array)) {
            strings.push(text.into());
        }
    });
    strings
}

fn array(of: &BTreeSet<Box<str>>) -> Bytes {
    let mut out = vec![b'['];
    for text in of {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(&quote(text));
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_whatever_it_holds_and_written_again() {
        let filter = Bytes::from_static(
            br#"{"toolsListChanged":true,"resourceSubscriptions":["b","a",7],"taskIds":["t"],"vendor/x":{"n":1.0},"off":false}"#,
        );
        let wishes = Wishes::read(&filter);
        assert_eq!(wishes.to_json(), br#"{"resourceSubscriptions":["a","b"],"taskIds":["t"],"vendor/x":{"n":1.0}}"#);
        for nothing in ["[]", "7", "{", r#"{"resourceSubscriptions":"a","taskIds":{}}"#] {
            assert_eq!(Wishes::read(&Bytes::from(nothing)), Wishes::default(), "{nothing}");
        }
    }

    #[test]
    fn an_upstream_can_agree_to_nothing_that_it_was_not_asked() {
        let asked = Wishes::read(&Bytes::from_static(br#"{"resourceSubscriptions":["a","b"],"x":true}"#));
        let agreed = asked.honoured_by(&Bytes::from_static(br#"{"resourceSubscriptions":["b","c"],"taskIds":["t"],"x":true,"y":true}"#));
        assert_eq!(agreed.to_json(), br#"{"resourceSubscriptions":["b"],"x":true}"#);
    }

    #[test]
    fn tasks_are_declared_among_the_extensions_only() {
        assert!(declares_tasks(br#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#));
        for other in [r#"{}"#, r#"{"extensions":{"io.modelcontextprotocol/tasks":null}}"#, r#"{"io.modelcontextprotocol/tasks":{}}"#] {
            assert!(!declares_tasks(other.as_bytes()), "{other}");
        }
    }
}
