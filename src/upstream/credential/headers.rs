//! `[[headers]]`: what an upstream gets besides the protocol's own headers and the credential.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::Caller;

/// Rules in the order in which they hold: those for all upstreams, then the upstream's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules(Vec<HeaderRule>);

/// One step in the making of the headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// Sets it; the value is marked sensitive.
    Insert { name: HeaderName, value: HeaderValue },
    /// Sets it to what the caller sent in `name`, else to `default`, if there is one.
    Forward { name: HeaderName, rename: Option<HeaderName>, default: Option<HeaderValue> },
    /// Takes out what an earlier rule has set.
    Remove { name: HeaderName },
    /// Gives another name to what an earlier rule has set.
    Rename { name: HeaderName, rename: HeaderName },
}

impl HeaderRule {
    /// The header that it sets.
    pub fn target(&self) -> Option<&HeaderName> {
        match self {
            Self::Insert { name, .. } => Some(name),
            Self::Forward { name, rename, .. } => Some(rename.as_ref().unwrap_or(name)),
            Self::Rename { rename, .. } => Some(rename),
            Self::Remove { .. } => None,
        }
    }
}

impl HeaderRules {
    pub fn new(rules: Vec<HeaderRule>) -> Self {
        Self(rules)
    }

    pub fn rules(&self) -> &[HeaderRule] {
        &self.0
    }

    /// These, after those that hold for all.
    pub fn after(&mut self, all: &Self) {
        self.0.splice(0..0, all.0.iter().cloned());
    }

    /// The fixed value of a header, if a rule sets one.
    pub fn inserted(&self, header: &str) -> Option<&HeaderValue> {
        self.0.iter().find_map(|rule| match rule {
            HeaderRule::Insert { name, value } if name == header => Some(value),
            _ => None,
        })
    }

    /// The headers of callers that take part.
    pub fn forwarded(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().filter_map(|rule| match rule {
            HeaderRule::Forward { name, .. } => Some(name),
            HeaderRule::Insert { .. } | HeaderRule::Remove { .. } | HeaderRule::Rename { .. } => None,
        })
    }

    /// Sets what this caller's request goes up with; `None`: the gateway's own.
    pub(in crate::upstream) fn apply(&self, headers: &mut HeaderMap, caller: Option<&Caller>) {
        for rule in &self.0 {
            match rule {
                HeaderRule::Insert { name, value } => drop(headers.insert(name.clone(), value.clone())),
                HeaderRule::Forward { name, rename, default } => {
                    let said = caller.and_then(|caller| caller.said(name));
                    if let Some(value) = said.or(default.as_ref()) {
                        headers.insert(rename.as_ref().unwrap_or(name).clone(), value.clone());
                    }
                }
                HeaderRule::Remove { name } => drop(headers.remove(name)),
                HeaderRule::Rename { name, rename } => {
                    if let Some(value) = headers.remove(name) {
                        headers.insert(rename.clone(), value);
                    }
                }
            }
        }
    }
}
