//! Which upstream a request goes to. A pure look-up.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::{
    Gateway, GatewayError, ItemKind,
    view::{Shown, View},
};
use crate::{
    auth::{Caller, Wanted},
    catalog::{Found, Lookup},
    mcp::{Field, Message, Method, Span},
    names::{SEPARATOR, UpstreamName},
    upstream::Upstream,
};

/// Where a request goes, and what to rename on the way.
#[derive(Debug)]
pub(super) struct Route {
    /// What it was looked up in.
    pub(super) view: Arc<View>,
    /// The upstream, and its place in the view.
    pub(super) upstream: Arc<Upstream>,
    pub(super) index: usize,
    /// What the request is about, as the upstream calls it; empty where it is about nothing.
    pub(super) name: Arc<str>,
    /// The string in the message that holds the name, if it differs from the upstream's.
    pub(super) rename: Option<Span>,
}

impl Route {
    fn new(view: &Arc<View>, index: usize, name: Arc<str>, rename: Option<Span>) -> Option<Self> {
        let upstream = Arc::clone(view.upstreams().get(index)?);
        Some(Self { view: Arc::clone(view), upstream, index, name, rename })
    }

    /// To the upstream of this name, where there is one.
    pub(super) fn to(view: &Arc<View>, upstream: &UpstreamName, name: Arc<str>, rename: Option<Span>) -> Option<Self> {
        let index = view.upstreams().iter().position(|other| other.name() == upstream)?;
        Self::new(view, index, name, rename)
    }

    /// To the only upstream of a transparent gateway, about nothing in particular.
    pub(super) fn only(view: Arc<View>) -> Option<Self> {
        let upstream = view.upstreams().first().filter(|_| view.lineup.is_transparent()).map(Arc::clone)?;
        Some(Self { view, upstream, index: 0, name: "".into(), rename: None })
    }
}

impl Gateway {
    pub(super) async fn route(self: &Arc<Self>, caller: &Caller, method: Method, message: &Message) -> Result<Route, GatewayError> {
        let person = self.person(caller);
        let view = || person.as_ref().map_or_else(|| self.view(), |person| person.view()).seen_by(caller);
        if let Some(only) = Route::only(view()) {
            let name = method.name_field().and_then(|field| message.text(field)).unwrap_or_default();
            return Ok(Route { name: name.into(), ..only });
        }
        let (mut rebuilds, patience) = match &person {
            Some(person) => (person.rebuilds(), self.patience_ends().max(person.patience_ends(self.config().list_wait))),
            None => (self.rebuilds(), self.patience_ends()),
        };
        let mut route = self.look_up(&view(), caller, method, message);
        // Right after the start the owner may not have been asked yet. It alone is waited for, not all others.
        while route.is_err() && !view().all_tried() {
            match timeout_at(patience, rebuilds.changed()).await {
                Ok(Ok(())) => route = self.look_up(&view(), caller, method, message),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        if route.is_err() {
            // An offer may have come after the last making of the catalog, which costs next to nothing when none has.
            self.rebuild();
            if let Some(person) = &person {
                person.rebuild(self, None);
            }
            route = self.look_up(&view(), caller, method, message);
        }
        // The owner's name is in the item's: if that upstream never said what it offers, its condition is the answer.
        match route {
            Err(GatewayError::Unknown { kind, name }) => by_prefix(&view(), method, message).ok_or(GatewayError::Unknown { kind, name }),
            other => other,
        }
    }

    fn look_up(&self, view: &Arc<View>, caller: &Caller, method: Method, message: &Message) -> Result<Route, GatewayError> {
        let catalog = &view.catalog;
        let text = |field| message.text(field).ok_or(GatewayError::InvalidParams("the request does not say what it is about"));
        match method {
            Method::ToolsCall => {
                let name = text(Field::Name)?;
                by_name(view, ItemKind::Tool, &name, catalog.tool(&name), message.name_span())
            }
            Method::PromptsGet => {
                let name = text(Field::Name)?;
                by_name(view, ItemKind::Prompt, &name, catalog.prompt(&name), message.name_span())
            }
            Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => {
                let uri = text(Field::Uri)?;
                by_uri(view, &uri, self.resource_owner(view, caller, &uri))
            }
            Method::Complete => match message.text(Field::RefName) {
                Some(name) => by_name(view, ItemKind::Prompt, &name, catalog.prompt(&name), message.span(Field::RefName)),
                None => {
                    let uri = text(Field::RefUri)?;
                    by_uri(view, &uri, self.resource_owner(view, caller, &uri))
                }
            },
            other => Err(GatewayError::MethodNotFound(other.as_str().to_owned())),
        }
    }

    /// The place in the view of the upstream that a resource belongs to, as far as this caller is concerned.
    pub(super) fn resource_owner(&self, view: &View, caller: &Caller, uri: &str) -> Option<usize> {
        view.catalog.resource(uri, || {
            let owner = self.links.owner(caller.principal(), uri)?;
            let place = view.upstreams().iter().position(|upstream| upstream.id() == owner)?;
            view.sees(place, Wanted::Other).then_some(place)
        })
    }
}

/// The upstream whose prefix or name a tool's or prompt's name begins with, as long as nothing is known of its items.
fn by_prefix(view: &Arc<View>, method: Method, message: &Message) -> Option<Route> {
    let field = match method {
        Method::ToolsCall | Method::PromptsGet => Field::Name,
        Method::Complete => Field::RefName,
        _ => return None,
    };
    let name = message.text(field)?;
    let (prefix, own) = name.split_once(SEPARATOR)?;
    let is_silent_owner =
        |shown: &Shown<'_>| shown.upstream.offer().is_none() && (shown.upstream.name().as_str() == prefix || shown.config.prefix == prefix);
    let (index, owner) = view.lineup.shown().enumerate().find(|(_, shown)| is_silent_owner(shown))?;
    let wanted = if method == Method::ToolsCall { Wanted::Tool(own) } else { Wanted::Other };
    // It may come up between this look and the call, and what is hidden must not be reached then either.
    if !owner.expose.is_match(own) || owner.hide.is_match(own) || !view.sees(index, wanted) {
        return None;
    }
    Route::new(view, index, own.into(), message.span(field))
}

fn by_name(view: &Arc<View>, kind: ItemKind, name: &str, lookup: Lookup, span: Option<Span>) -> Result<Route, GatewayError> {
    match lookup {
        Lookup::Found(Found { upstream, name: own }) => {
            let rename = span.filter(|_| *own != *name);
            Route::new(view, upstream, own, rename).ok_or_else(|| GatewayError::Unknown { kind, name: name.to_owned() })
        }
        Lookup::Unknown => Err(GatewayError::Unknown { kind, name: name.to_owned() }),
        Lookup::Ambiguous(candidates) => Err(GatewayError::Ambiguous { name: name.to_string(), candidates }),
    }
}

fn by_uri(view: &Arc<View>, uri: &str, owner: Option<usize>) -> Result<Route, GatewayError> {
    let route = owner.and_then(|owner| Route::new(view, owner, uri.into(), None));
    route.ok_or_else(|| GatewayError::Unknown { kind: ItemKind::Resource, name: uri.to_owned() })
}
