//! Merges the upstreams' offers into one catalog.

use std::{collections::hash_map::Entry, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use globset::GlobSet;

use super::{
    lookup::{Catalog, Found, ListedTool, Named, Names},
    names::{Naming, prefixed},
    own_tools::{self, ToolsMode},
    template::Template,
};
use crate::{
    auth::Wanted,
    mcp::{
        Span, Splices,
        list::{Item, ListKind},
        offer::Offer,
        param_headers::ParamHeaders,
    },
    names::{SEPARATOR, UpstreamName},
};

/// One upstream's part of the catalog, in file order.
#[derive(Debug)]
pub struct Source<'a> {
    pub name: &'a UpstreamName,
    pub prefix: &'a str,
    pub expose: &'a GlobSet,
    pub hide: &'a GlobSet,
    /// `None`: nothing is known of it yet.
    pub offer: Option<Arc<Offer>>,
    /// A down upstream whose items are not to be shown can still be named in a call.
    pub listed: bool,
}

/// What holds for all upstreams' items.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub mode: ToolsMode,
    pub naming: Naming,
    /// Whether `search` gives its results as structured content too.
    pub structured: bool,
}

/// A list's members without the braces, ready to be sent: `"tools":[…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub legacy: Bytes,
    pub modern: Bytes,
}

impl Listed {
    /// Bytes kept for it.
    fn size(&self) -> usize {
        let is_kept_once = std::ptr::eq(self.legacy.as_ptr(), self.modern.as_ptr());
        self.legacy.len() + if is_kept_once { 0 } else { self.modern.len() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    tools: Listed,
    prompts: Listed,
    resources: Listed,
    templates: Listed,
    pub(super) listed: Vec<ListedTool>,
}

impl Lists {
    pub(super) fn of(&self, kind: ListKind) -> &Listed {
        match kind {
            ListKind::Tools => &self.tools,
            ListKind::Prompts => &self.prompts,
            ListKind::Resources => &self.resources,
            ListKind::ResourceTemplates => &self.templates,
        }
    }

    pub(super) fn size(&self) -> usize {
        [&self.tools, &self.prompts, &self.resources, &self.templates].into_iter().map(Listed::size).sum()
    }
}

/// Without this declaration no client may make a task, whatever a tool says (MCP 2025-11-25, basic/utilities/tasks).
fn takes_tasks(offer: &Offer) -> bool {
    offer.greeting.facts.has(&["tasks", "requests", "tools", "call"])
}

/// Builds the catalog. Collisions are settled by file order: the first has the name.
///
/// `sees` tells, by the place of a source, what is there for those whose catalog it is. What is not does not exist in it: its
/// name is free, and no URI leads to it.
pub fn merge(sources: &[Source<'_>], rules: &Rules, sees: impl Fn(usize, Wanted<'_>) -> bool) -> Catalog {
    let mut catalog = Catalog::default();
    let mut left_out = false;
    let mut lists = [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::ResourceTemplates].map(ListWriter::new);
    if rules.mode.lists_own() {
        let [tools, ..] = &mut lists;
        own_tools::items(rules.structured).iter().for_each(|item| tools.write(item, item));
    }
    for (index, source) in sources.iter().enumerate() {
        let Some(offer) = &source.offer else { continue };
        let [tools, prompts, resources, templates] = &mut lists;
        for item in visible(source, &offer.tools) {
            let own = item.name();
            if !sees(index, Wanted::Tool(&own)) {
                left_out = true;
                continue;
            }
            let name = rules.naming.tool(source.name.as_str(), source.prefix, &own);
            if let Some(uri) = item.ui_resource() {
                catalog.shows.entry((&*uri).into()).or_insert(index);
            }
            // Invalid annotations have left the tool out already.
            if let Some(headers) =
                item.input_schema().and_then(|schema| ParamHeaders::read(schema).ok()).filter(|headers| !headers.is_empty())
            {
                catalog.mirrored.insert((index, (&*own).into()), headers);
            }
            if item.is_task_only() && takes_tasks(offer) {
                catalog.task_only.insert((index, (&*own).into()));
            }
            match claim(&mut catalog.tools, index, source, item, &name) {
                Some(found) if source.listed => {
                    if rules.mode.lists_all() {
                        tools.named(item, &name);
                    }
                    catalog.lists.listed.push(ListedTool { name: (&*name).into(), found, item: item.clone() });
                }
                Some(_) => {}
                None => catalog.collisions.push((index, name.into_owned())),
            }
        }
        if !sees(index, Wanted::Other) {
            left_out = true;
            continue;
        }
        for item in visible(source, &offer.prompts) {
            let own = item.name();
            let name = prefixed(source.prefix, &own);
            match claim(&mut catalog.prompts, index, source, item, &name) {
                Some(_) if source.listed => prompts.named(item, &name),
                Some(_) => {}
                None => catalog.collisions.push((index, name.into_owned())),
            }
        }
        if offer.greeting.declares.resources {
            catalog.resource_upstreams.push(index);
        }
        for item in &offer.resources {
            let Some(uri) = item.uri() else { continue };
            if !is_visible(source, item) {
                catalog.hidden.entry((&*uri).into()).or_default().push(index);
                continue;
            }
            match catalog.resources.entry((&*uri).into()) {
                Entry::Occupied(_) => catalog.collisions.push((index, uri.into_owned())),
                Entry::Vacant(free) => {
                    free.insert(index);
                    if source.listed {
                        resources.verbatim(item);
                    }
                }
            }
        }
        for item in visible(source, &offer.templates) {
            let Some(uri) = item.uri() else { continue };
            if let Some(template) = Template::parse(&uri) {
                catalog.templates.push(((&*uri).into(), template, index));
            }
            if source.listed {
                templates.verbatim(item);
            }
        }
    }
    let [tools, prompts, resources, templates] = lists.map(ListWriter::finish);
    catalog.lists = Lists { tools, prompts, resources, templates, ..std::mem::take(&mut catalog.lists) };
    catalog.is_complete = !left_out;
    catalog
}

fn visible<'a>(source: &'a Source<'_>, items: &'a [Item]) -> impl Iterator<Item = &'a Item> {
    items.iter().filter(|item| is_visible(source, item))
}

fn is_visible(source: &Source<'_>, item: &Item) -> bool {
    let name = item.name();
    source.expose.is_match(&*name) && !source.hide.is_match(&*name)
}

/// Registers an item under its listed name, `server__name` and its plain name. `None`: the listed name is taken, and the
/// other two remain.
fn claim(names: &mut Names, upstream: usize, source: &Source<'_>, item: &Item, listed: &str) -> Option<Found> {
    let found = Found { upstream, name: (&*item.name()).into() };
    let has_name = match names.listed.entry(listed.into()) {
        Entry::Occupied(_) => false,
        Entry::Vacant(free) => {
            free.insert(Named { found: found.clone(), shown: source.listed });
            true
        }
    };
    let always = format!("{}{SEPARATOR}{}", source.name, item.name());
    let plain = names.plain.entry((&*item.name()).into()).or_default();
    if !plain.iter().any(|(other, _)| other.upstream == upstream) {
        plain.push((found.clone(), if has_name { listed } else { &*always }.into()));
    }
    names.always.entry(always.into_boxed_str()).or_insert_with(|| found.clone());
    has_name.then_some(found)
}

/// Writes one list for both eras; they differ only where an item would break a legacy client.
struct ListWriter {
    legacy: BytesMut,
    modern: BytesMut,
    empty: bool,
}

impl ListWriter {
    fn new(kind: ListKind) -> Self {
        let head = format!("\"{}\":[", kind.key());
        Self { legacy: head.as_bytes().into(), modern: head.as_bytes().into(), empty: true }
    }

    /// An item under another name; every other byte stays, but for an output schema that a legacy client refuses.
    fn named(&mut self, item: &Item, name: &str) {
        let mut splices = Splices::new();
        if *item.name() != *name {
            splices.replace_string(item.name_span(), name);
        }
        let modern = splices.apply(item.bytes());
        if !item.output_is_no_object {
            return self.write(&modern, &modern);
        }
        let whole = Span::new(0, item.bytes().len());
        match splices.edit_object(item.bytes(), whole, |key| key == "outputSchema", &[]) {
            Ok(()) => self.write(&splices.apply(item.bytes()), &modern),
            // The item was taken apart before, so it is an object; it would be left out of the legacy list otherwise.
            Err(_) => self.write(&modern, &modern),
        }
    }

    fn verbatim(&mut self, item: &Item) {
        self.write(item.bytes(), item.bytes());
    }

    fn write(&mut self, legacy: &[u8], modern: &[u8]) {
        if !std::mem::take(&mut self.empty) {
            self.legacy.put_u8(b',');
            self.modern.put_u8(b',');
        }
        self.legacy.put_slice(legacy);
        self.modern.put_slice(modern);
    }

    fn finish(mut self) -> Listed {
        self.legacy.put_u8(b']');
        self.modern.put_u8(b']');
        let legacy = self.legacy.freeze();
        let modern = self.modern.freeze();
        // Kept once where both are alike.
        let modern = if modern == legacy { legacy.clone() } else { modern };
        Listed { legacy, modern }
    }
}
