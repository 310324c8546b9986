//! What several upstreams can do together, as a client of each era is told.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{subscriptions::TASKS_EXTENSION, view::View};
use crate::mcp::{
    Era, Span, Splices,
    json::{for_each_member, lookup},
    offer::{Declares, Offer},
    splice::object,
};

/// The union of what the upstreams can do of which there is something in the view; everything, until all were tried, because a
/// client asks only once.
pub(super) fn own_capabilities(view: &View, era: Era) -> String {
    let offers: Vec<Arc<Offer>> = view.reached().filter_map(|upstream| upstream.offer()).collect();
    let mut declares = Declares::default();
    for offer in &offers {
        let found = offer.greeting.declares;
        declares.tools |= found.tools;
        declares.prompts |= found.prompts;
        declares.resources |= found.resources;
        declares.subscribe |= found.subscribe;
        declares.completions |= found.completions;
        declares.logging |= found.logging;
    }
    if !view.all_tried() {
        declares =
            Declares { tools: true, prompts: true, resources: true, subscribe: declares.subscribe, completions: true, logging: true };
    }
    let resources =
        if declares.subscribe { r#""resources":{"subscribe":true,"listChanged":true}"# } else { r#""resources":{"listChanged":true}"# };
    let members = [
        // Tools always: an upstream that has some may come up later.
        (true, r#""tools":{"listChanged":true}"#),
        (declares.prompts, r#""prompts":{"listChanged":true}"#),
        (declares.resources, resources),
        (declares.completions, r#""completions":{}"#),
        (declares.logging, r#""logging":{}"#),
    ];
    let mut members: Vec<_> = members.into_iter().filter(|(on, _)| *on).map(|(_, member)| member.to_owned()).collect();
    members.extend(tasks(&offers, era));
    members.extend(extensions(&offers, era));
    format!("{{{}}}", members.join(","))
}

/// Tasks of 2025-11-25, which only servers of that era have for clients of that era.
fn tasks(offers: &[Arc<Offer>], era: Era) -> Option<String> {
    if era != Era::Legacy {
        return None;
    }
    let has = |path: &[&str]| offers.iter().any(|offer| offer.era == Era::Legacy && offer.greeting.facts.has(path));
    let parts = [
        (has(&["tasks", "list"]), r#""list":{}"#),
        (has(&["tasks", "cancel"]), r#""cancel":{}"#),
        (has(&["tasks", "requests", "tools", "call"]), r#""requests":{"tools":{"call":{}}}"#),
    ];
    let parts: Vec<_> = parts.into_iter().filter_map(|(on, part)| on.then_some(part)).collect();
    (!parts.is_empty()).then(|| format!(r#""tasks":{{{}}}"#, parts.join(",")))
}

/// The extensions of all. One that two upstreams have with different settings is left out: neither setting holds for both.
fn extensions(offers: &[Arc<Offer>], era: Era) -> Option<String> {
    let mut found: BTreeMap<String, Option<Bytes>> = BTreeMap::new();
    for offer in offers {
        let Some(raw) = lookup(&offer.greeting.facts.capabilities, &["extensions"]) else { continue };
        // What is no object names no extension.
        let _ = for_each_member(raw, |name, span| {
            // A task belongs to clients and servers of one era.
            if name == TASKS_EXTENSION && (era, offer.era) != (Era::Modern, Era::Modern) {
                return;
            }
            let settings = Bytes::copy_from_slice(span.of(raw));
            let known = found.entry(name.to_owned()).or_insert_with(|| Some(settings.clone()));
            if known.as_ref().is_some_and(|known| *known != settings) {
                *known = None;
            }
        });
    }
    let members: Vec<(&str, &[u8])> =
        found.iter().filter_map(|(name, settings)| settings.as_ref().map(|settings| (name.as_str(), &settings[..]))).collect();
    if members.is_empty() {
        return None;
    }
    String::from_utf8([&b"\"extensions\":"[..], &object(&members)].concat()).ok()
}

/// A server's own capabilities for a client of the other era, for whom its tasks do not exist.
pub(super) fn without_tasks(capabilities: &Bytes) -> Bytes {
    let whole = Span::new(0, capabilities.len());
    let mut extensions = None;
    let read = for_each_member(capabilities, |key, span| {
        if key == "extensions" {
            extensions = Some(span);
        }
    });
    let mut splices = Splices::new();
    let edited = read.and_then(|()| splices.edit_object(capabilities, whole, |key| key == "tasks", &[])).and_then(|()| {
        match extensions.filter(|span| span.of(capabilities).starts_with(b"{")) {
            Some(extensions) => splices.edit_object(capabilities, extensions, |key| key == TASKS_EXTENSION, &[]),
            None => Ok(()),
        }
    });
    match edited {
        Ok(()) => splices.apply(capabilities),
        Err(_) => Bytes::from_static(b"{}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_are_taken_from_a_servers_capabilities() {
        for (said, told) in [
            ("{}", "{}"),
            (r#"{"tools":{"x":1.0}}"#, r#"{"tools":{"x":1.0}}"#),
            (r#"{"tools":{},"tasks":{"list":{}}}"#, r#"{"tools":{}}"#),
            (
                r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"a/ui":{"m":[1.0]}},"logging":{}}"#,
                r#"{"extensions":{"a/ui":{"m":[1.0]}},"logging":{}}"#,
            ),
            (r#"{"extensions":7}"#, r#"{"extensions":7}"#),
        ] {
            assert_eq!(without_tasks(&Bytes::from(said)), told);
        }
    }
}
