//! Which upstream a request goes to. A pure look-up.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::{Gateway, GatewayError, ItemKind};
use crate::{
    catalog::{Found, Lookup},
    mcp::{Field, Message, Method, Span},
    names::SEPARATOR,
    upstream::Upstream,
};

/// Where a request goes, and what to rename on the way.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) upstream: usize,
    /// What the request is about, as the upstream calls it; empty where it is about nothing.
    pub(super) name: Arc<str>,
    /// The string in the message that holds the name, if it differs from the upstream's.
    pub(super) rename: Option<Span>,
}

impl Gateway {
    pub(super) async fn route(&self, method: Method, message: &Message) -> Result<Route, GatewayError> {
        if self.is_transparent() {
            let name = method.name_field().and_then(|field| message.text(field)).unwrap_or_default();
            return Ok(Route { upstream: 0, name: name.into(), rename: None });
        }
        let mut rebuilds = self.rebuilds();
        let mut route = self.look_up(method, message);
        // Right after the start the owner may not have been asked yet. It alone is waited for, not all others.
        let waits = route.is_err() && !self.all_tried();
        while route.is_err() && !self.all_tried() {
            match timeout_at(self.patience_ends(), rebuilds.changed()).await {
                Ok(Ok(())) => route = self.look_up(method, message),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        if waits && route.is_err() {
            // The last offer may have come after the last making of the catalog.
            self.rebuild();
            route = self.look_up(method, message);
        }
        // The owner's name is in the item's: if that upstream never said what it offers, its condition is the answer.
        match route {
            Err(GatewayError::Unknown { kind, name }) => self.by_prefix(method, message).ok_or(GatewayError::Unknown { kind, name }),
            other => other,
        }
    }

    /// The upstream whose prefix or name a tool's or prompt's name begins with, as long as nothing is known of its items.
    fn by_prefix(&self, method: Method, message: &Message) -> Option<Route> {
        let field = match method {
            Method::ToolsCall | Method::PromptsGet => Field::Name,
            Method::Complete => Field::RefName,
            _ => return None,
        };
        let name = message.text(field)?;
        let (prefix, own) = name.split_once(SEPARATOR)?;
        let is_silent_owner = |upstream: &&Arc<Upstream>| {
            upstream.offer().is_none() && (upstream.name().as_str() == prefix || upstream.config().prefix == prefix)
        };
        let upstream = self.upstreams.iter().find(is_silent_owner)?;
        // It may come up between this look and the call, and what is hidden must not be reached then either.
        let (expose, hide) = self.globs.get(upstream.index())?;
        if !expose.is_match(own) || hide.is_match(own) {
            return None;
        }
        Some(Route { upstream: upstream.index(), name: own.into(), rename: message.span(field) })
    }

    fn look_up(&self, method: Method, message: &Message) -> Result<Route, GatewayError> {
        let catalog = self.catalog();
        let text = |field| message.text(field).ok_or(GatewayError::InvalidParams("the request does not say what it is about"));
        match method {
            Method::ToolsCall => {
                let name = text(Field::Name)?;
                by_name(ItemKind::Tool, &name, catalog.tool(&name), message.name_span())
            }
            Method::PromptsGet => {
                let name = text(Field::Name)?;
                by_name(ItemKind::Prompt, &name, catalog.prompt(&name), message.name_span())
            }
            Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                let uri = text(Field::Uri)?;
                by_uri(&uri, catalog.resource(&uri))
            }
            Method::Complete => match message.text(Field::RefName) {
                Some(name) => by_name(ItemKind::Prompt, &name, catalog.prompt(&name), message.span(Field::RefName)),
                None => {
                    let uri = text(Field::RefUri)?;
                    by_uri(&uri, catalog.resource(&uri))
                }
            },
            other => Err(GatewayError::MethodNotFound(other.as_str().to_owned())),
        }
    }
}

fn by_name(kind: ItemKind, name: &str, lookup: Lookup, span: Option<Span>) -> Result<Route, GatewayError> {
    match lookup {
        Lookup::Found(Found { upstream, name: own }) => {
            let rename = span.filter(|_| *own != *name);
            Ok(Route { upstream, name: own, rename })
        }
        Lookup::Unknown => Err(GatewayError::Unknown { kind, name: name.to_owned() }),
        Lookup::Ambiguous(candidates) => Err(GatewayError::Ambiguous { name: name.to_string(), candidates }),
    }
}

fn by_uri(uri: &str, owner: Option<usize>) -> Result<Route, GatewayError> {
    let upstream = owner.ok_or_else(|| GatewayError::Unknown { kind: ItemKind::Resource, name: uri.to_owned() })?;
    Ok(Route { upstream, name: uri.into(), rename: None })
}
