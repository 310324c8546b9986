//! Who owns a name or a URI.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{build::Lists, template::Template};
use crate::mcp::{
    list::{Item, ListKind},
    param_headers::ParamHeaders,
};

/// One reading of all upstreams' offers. Replaced as a whole when one of them changes.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(super) tools: Names,
    pub(super) prompts: Names,
    /// First owner in file order of each listed URI.
    pub(super) resources: HashMap<Box<str>, usize>,
    /// The same of the URIs by which tools name the resource that shows their results.
    pub(super) shows: HashMap<Box<str>, usize>,
    /// Who lists a URI that is not to be shown.
    pub(super) hidden: HashMap<Box<str>, Vec<usize>>,
    pub(super) templates: Vec<(Box<str>, Template, usize)>,
    /// Upstreams that declare resources, in file order.
    pub(super) resource_upstreams: Vec<usize>,
    /// Of the tools whose arguments are repeated as headers, by upstream and the upstream's own name.
    pub(super) mirrored: HashMap<(usize, Box<str>), ParamHeaders>,
    /// Tools that are called as a task only, by upstream and the upstream's own name.
    pub(super) task_only: HashSet<(usize, Box<str>)>,
    pub(super) lists: Lists,
    /// Per upstream, names of its items that are taken already, mostly by another upstream.
    pub(super) collisions: Vec<(usize, String)>,
    pub(super) is_complete: bool,
}

/// An item's owner and its own name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the upstream in file order.
    pub upstream: usize,
    /// The name that the upstream knows.
    pub name: Arc<str>,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Found(Found),
    Unknown,
    /// An unprefixed name that several upstreams have: the names to choose from.
    Ambiguous(Vec<String>),
}

/// A tool that is listed or, where the list is not shown, found.
#[derive(Clone, Debug)]
pub struct ListedTool {
    /// As clients see it.
    pub name: Box<str>,
    pub found: Found,
    /// As its upstream wrote it.
    pub item: Item,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) listed: HashMap<Box<str>, Named>,
    /// `server__name`, which is always accepted.
    pub(super) always: HashMap<Box<str>, Found>,
    /// Unprefixed: every owner, with the name to use where there are several.
    pub(super) plain: HashMap<Box<str>, Vec<(Found, Box<str>)>>,
}

#[derive(Debug)]
pub(super) struct Named {
    pub(super) found: Found,
    /// Not that of an upstream that is down and then is not to be seen.
    pub(super) shown: bool,
}

impl Names {
    fn find(&self, name: &str) -> Lookup {
        if let Some(found) = self.listed.get(name).map(|named| &named.found).or_else(|| self.always.get(name)) {
            return Lookup::Found(found.clone());
        }
        match self.plain.get(name).map(Vec::as_slice) {
            None | Some([]) => Lookup::Unknown,
            Some([(found, _)]) => Lookup::Found(found.clone()),
            Some(several) => Lookup::Ambiguous(several.iter().map(|(_, listed)| listed.to_string()).collect()),
        }
    }
}

impl Catalog {
    pub fn tool(&self, name: &str) -> Lookup {
        self.tools.find(name)
    }

    pub fn prompt(&self, name: &str) -> Lookup {
        self.prompts.find(name)
    }

    /// The tool that clients see under this very name.
    pub fn listed_tool(&self, name: &str) -> Option<&Found> {
        self.tools.listed.get(name).filter(|named| named.shown).map(|named| &named.found)
    }

    /// The owner of a URI: who lists it or shows a tool's results by it, else who gave it to this caller in a result
    /// (`linked`), else whose template it fits, else the only upstream that has resources at all.
    ///
    /// `None` also where its owner lists it and it is not to be shown.
    pub fn resource(&self, uri: &str, linked: impl FnOnce() -> Option<usize>) -> Option<usize> {
        let said = self.resources.get(uri).or_else(|| self.shows.get(uri)).copied();
        let owner = said.or_else(linked).or_else(|| self.templated(uri)).or(match self.resource_upstreams.as_slice() {
            [only] => Some(*only),
            _ => None,
        })?;
        let is_hidden = self.hidden.get(uri).is_some_and(|hiding| hiding.contains(&owner));
        (!is_hidden).then_some(owner)
    }

    fn templated(&self, uri: &str) -> Option<usize> {
        // A completion names the template itself.
        let found = self.templates.iter().find(|(text, template, _)| **text == *uri || template.matches(uri));
        found.map(|(_, _, owner)| *owner)
    }

    /// Whether a URI without a known owner can belong to one of several.
    pub fn has_several_resource_owners(&self) -> bool {
        self.resource_upstreams.len() > 1
    }

    /// The headers that a call of this tool must carry besides its arguments (`x-mcp-header` of its schema).
    pub fn mirrored(&self, upstream: usize, own_name: &str) -> Option<&ParamHeaders> {
        if self.mirrored.is_empty() {
            return None;
        }
        self.mirrored.get(&(upstream, own_name.into()))
    }

    /// Whether its server takes a call of this tool as a task only.
    pub fn is_task_only(&self, upstream: usize, own_name: &str) -> bool {
        !self.task_only.is_empty() && self.task_only.contains(&(upstream, own_name.into()))
    }

    /// The ready-made members of a list's result.
    pub fn list(&self, kind: ListKind) -> &super::build::Listed {
        self.lists.of(kind)
    }

    /// Whether nothing was left out because those whose catalog it is may not use it.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes of the ready-made lists.
    pub fn size(&self) -> usize {
        self.lists.size()
    }

    pub fn collisions(&self) -> &[(usize, String)] {
        &self.collisions
    }

    /// The tools that clients see, or find where the list is not shown, in the list's order.
    pub fn listed_tools(&self) -> &[ListedTool] {
        &self.lists.listed
    }
}
