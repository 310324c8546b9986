//! Who owns a name or a URI.

use std::{collections::HashMap, sync::Arc};

use super::{build::Lists, template::Template};
use crate::mcp::{list::ListKind, param_headers::ParamHeaders};

/// One reading of all upstreams' offers. Replaced as a whole when one of them changes.
#[derive(Debug, Default)]
pub struct Catalog {
    pub(super) tools: Names,
    pub(super) prompts: Names,
    /// First owner in file order of each listed URI.
    pub(super) resources: HashMap<Box<str>, usize>,
    pub(super) templates: Vec<(Box<str>, Template, usize)>,
    /// Upstreams that declare resources, in file order.
    pub(super) resource_upstreams: Vec<usize>,
    /// Of the tools whose arguments are repeated as headers, by upstream and the upstream's own name.
    pub(super) mirrored: HashMap<(usize, Box<str>), ParamHeaders>,
    pub(super) lists: Lists,
    /// Per upstream, names of its items that another upstream already has.
    pub(super) collisions: Vec<(usize, String)>,
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

#[derive(Debug, Default)]
pub(super) struct Names {
    /// As listed, and `server__name`, which is always accepted.
    pub(super) full: HashMap<Box<str>, Found>,
    /// Unprefixed: every owner, with the name as listed.
    pub(super) plain: HashMap<Box<str>, Vec<(Found, Box<str>)>>,
}

impl Names {
    fn find(&self, name: &str) -> Lookup {
        if let Some(found) = self.full.get(name) {
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

    /// The owner of a URI: who lists it, else whose template it fits, else the only upstream that has resources at all.
    pub fn resource(&self, uri: &str) -> Option<usize> {
        if let Some(owner) = self.resources.get(uri) {
            return Some(*owner);
        }
        // A completion names the template itself.
        let templated = self.templates.iter().find(|(text, template, _)| **text == *uri || template.matches(uri));
        templated.map(|(_, _, owner)| *owner).or(match self.resource_upstreams.as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    }

    /// The headers that a call of this tool must carry besides its arguments (`x-mcp-header` of its schema).
    pub fn mirrored(&self, upstream: usize, own_name: &str) -> Option<&ParamHeaders> {
        if self.mirrored.is_empty() {
            return None;
        }
        self.mirrored.get(&(upstream, own_name.into()))
    }

    /// The ready-made members of a list's result.
    pub fn list(&self, kind: ListKind) -> &super::build::Listed {
        self.lists.of(kind)
    }

    pub fn collisions(&self) -> &[(usize, String)] {
        &self.collisions
    }

    /// Names as listed and whose they are, sorted as listed; for people.
    pub fn listed_tools(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.lists.tool_names.iter().map(|(name, found)| (&**name, found))
    }
}
