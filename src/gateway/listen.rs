//! `subscriptions/listen` of modern clients (MCP 2026-07-28, basic/subscriptions), fed with the gateway's own changes and with
//! what upstreams say of resources, tasks and whatever else the filter names.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Client, Gateway, GatewayError,
    ears::Ear,
    outbox::Outbox,
    subscriptions::{ListenSink, MAX_URI, MAX_URIS, Part, TASKS_EXTENSION, Wishes, declares_tasks},
    view::View,
};
use crate::{
    auth::{Caller, Wanted},
    catalog::Catalog,
    limits::Charged,
    mcp::{Era, Field, Id, Message, Method, build, list::ListKind, splice::object},
    names::UpstreamName,
    upstream::Upstream,
};

/// Longest wait for the upstreams before the client is told what is honoured; what comes later is left out.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How often each list has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub tools: u64,
    pub prompts: u64,
    pub resources: u64,
}

impl Change {
    /// What is different between two catalogs.
    pub(super) fn between(before: &Catalog, now: &Catalog) -> Self {
        let differs = |kind| !std::ptr::eq(before, now) && before.list(kind) != now.list(kind);
        Self {
            tools: u64::from(differs(ListKind::Tools)),
            prompts: u64::from(differs(ListKind::Prompts)),
            resources: u64::from(differs(ListKind::Resources) || differs(ListKind::ResourceTemplates)),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { tools: self.tools + other.tools, prompts: self.prompts + other.prompts, resources: self.resources + other.resources }
    }

    fn minus(self, before: Self) -> Self {
        Self {
            tools: self.tools.wrapping_sub(before.tools),
            prompts: self.prompts.wrapping_sub(before.prompts),
            resources: self.resources.wrapping_sub(before.resources),
        }
    }

    /// The notifications for every list that changed.
    pub(super) fn methods(self) -> Vec<Method> {
        self.since(Self::default(), Filter { tools_list_changed: true, prompts_list_changed: true, resources_list_changed: true })
    }

    fn since(self, before: Self, filter: Filter) -> Vec<Method> {
        [
            (filter.tools_list_changed && self.tools != before.tools, Method::ToolsChanged),
            (filter.prompts_list_changed && self.prompts != before.prompts, Method::PromptsChanged),
            (filter.resources_list_changed && self.resources != before.resources, Method::ResourcesChanged),
        ]
        .into_iter()
        .filter_map(|(changed, method)| changed.then_some(method))
        .collect()
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
}

/// One client's stream of changes.
#[derive(Debug)]
pub(super) struct Listening {
    id: Id,
    filter: Filter,
    seen: Change,
    gateway: Arc<Gateway>,
    caller: Caller,
    /// Tells with which groups it comes now.
    ear: Ear,
    /// What there was for the caller when it was told last.
    view: Arc<View>,
    changes: watch::Receiver<Change>,
    drain: CancellationToken,
    /// Until the client was told what is honoured.
    opening: Option<Opening>,
    /// What upstreams say; absent where none is asked.
    inbox: Option<Outbox>,
    /// What is asked of upstreams.
    parts: Vec<Asking>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

/// What is asked of one upstream, until this is dropped.
#[derive(Debug)]
struct Asking {
    upstream: UpstreamName,
    /// Resources are among it, for which the server's rules hold.
    has_uris: bool,
    _work: AbortOnDropHandle<()>,
}

impl Asking {
    /// One whose upstream a reload took away comes to nothing by itself.
    fn may_go_on(&self, view: &View) -> bool {
        view.place_of(&self.upstream).is_none_or(|place| view.reaches(place) && (!self.has_uris || view.sees(place, Wanted::Other)))
    }
}

/// The upstreams that have not acknowledged yet, and what the others have agreed to.
#[derive(Debug)]
struct Opening {
    awaited: Vec<(oneshot::Receiver<Wishes>, Asking)>,
    honoured: Wishes,
    deadline: Instant,
}

impl Gateway {
    /// Asks the upstreams that the filter concerns, acknowledges what is honoured, and follows that and the lists.
    ///
    /// # Errors
    /// The filter asks for too much, for what the client has not declared, or of an upstream of which no more may be asked now.
    pub(super) async fn listen(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: &Message,
        id: &Id,
    ) -> Result<Listening, GatewayError> {
        let raw = message.raw(Field::Notifications).unwrap_or_default();
        let filter: Filter = serde_json::from_slice(&raw).unwrap_or_default();
        let wishes = Wishes::read(&raw);
        if wishes.len() > MAX_URIS || wishes.uris.iter().any(|uri| uri.len() > MAX_URI) {
            return Err(GatewayError::InvalidParams("more than 1024 resources and tasks, or a URI longer than 8 KiB"));
        }
        if !wishes.tasks.is_empty() && !message.raw(Field::MetaClientCapabilities).is_some_and(|raw| declares_tasks(&raw)) {
            return Err(GatewayError::MissingExtension(TASKS_EXTENSION));
        }
        let mut changes = self.person(caller).map_or_else(|| self.changes.subscribe(), |person| person.changes.subscribe());
        let seen = *changes.borrow_and_update();
        let (sink, inbox) = ListenSink::new(id.clone());
        let sink = Arc::new(sink);
        let mut awaited = Vec::new();
        let view = self.view_for(caller);
        let parts = self.parts_of(&view, caller, wishes);
        let places: Vec<usize> = parts.keys().filter_map(|upstream| view.place_of(upstream)).collect();
        match places.as_slice() {
            [] => self.pay(caller).await?,
            places => self.admit_all(caller, Charged::ClientToo, &view, places).await?,
        }
        for (upstream, part) in parts {
            let (told, hears) = oneshot::channel();
            let (name, has_uris) = (upstream.clone(), !part.wishes.uris.is_empty());
            let part = Part {
                gateway: Arc::clone(self),
                caller: caller.clone(),
                client: client.clone(),
                message: message.clone(),
                upstream,
                wishes: part.wishes,
                tasks: part.tasks,
                sink: Arc::clone(&sink),
            };
            let shutdown = self.shutdown.clone();
            let work = self.tasks.spawn(async move {
                tokio::select! {
                    () = part.run(told) => {}
                    () = shutdown.cancelled() => {}
                }
            });
            awaited.push((hears, Asking { upstream: name, has_uris, _work: AbortOnDropHandle::new(work) }));
        }
        let opening = Opening { honoured: Wishes::default(), deadline: Instant::now() + ACKNOWLEDGED, awaited };
        let inbox = (!opening.awaited.is_empty()).then_some(inbox);
        Ok(Listening {
            id: id.clone(),
            filter,
            seen,
            gateway: Arc::clone(self),
            caller: caller.clone(),
            ear: self.ears.open(caller),
            view,
            changes,
            drain: self.drain.clone(),
            opening: Some(opening),
            inbox,
            parts: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
        })
    }

    /// Splits what a client wishes by the upstreams that it concerns: resources and tasks go to their owners, what the gateway
    /// does not know to every modern upstream.
    fn parts_of(&self, view: &View, caller: &Caller, wishes: Wishes) -> BTreeMap<UpstreamName, Portion> {
        let mut parts: BTreeMap<UpstreamName, Portion> = BTreeMap::new();
        for uri in wishes.uris {
            let owner = self.resource_owner(view, caller, &uri).and_then(|owner| view.upstreams().get(owner));
            if let Some(owner) = owner {
                parts.entry(owner.name().clone()).or_default().wishes.uris.insert(uri);
            }
        }
        for shown in wishes.tasks {
            // A single upstream's ids are its own.
            let owner = match view.upstreams().first().filter(|_| self.passes_task_ids(caller.principal())) {
                Some(only) => Some((only.name().clone(), shown.clone())),
                None => self.task_owner(caller.principal(), Era::Modern, &shown),
            };
            let is_reached = |upstream: &UpstreamName| view.place_of(upstream).is_some_and(|place| view.reaches(place));
            if let Some((upstream, own)) = owner.filter(|(upstream, _)| is_reached(upstream)) {
                let portion = parts.entry(upstream).or_default();
                portion.wishes.tasks.insert(own.clone());
                portion.tasks.insert(own, shown);
            }
        }
        if !wishes.further.is_empty() {
            let is_modern = |upstream: &&Arc<Upstream>| upstream.generation().is_ok_and(|generation| generation.era() == Era::Modern);
            for upstream in view.reached().filter(is_modern) {
                parts.entry(upstream.name().clone()).or_default().wishes.further.clone_from(&wishes.further);
            }
        }
        parts
    }
}

/// What is asked of one upstream.
#[derive(Debug, Default)]
struct Portion {
    wishes: Wishes,
    tasks: BTreeMap<Box<str>, Box<str>>,
}

impl Opening {
    /// Waits until every upstream has agreed or refused, at most until the deadline. Cancel-safe.
    async fn settle(&mut self, parts: &mut Vec<Asking>) {
        while let Some((told, _)) = self.awaited.last_mut() {
            let agreed = timeout_at(self.deadline, told).await;
            let Some((_, part)) = self.awaited.pop() else { return };
            match agreed {
                Ok(Ok(honoured)) => {
                    self.honoured.merge(honoured);
                    parts.push(part);
                }
                Ok(Err(_)) => {}
                Err(_) => tracing::debug!("an upstream did not acknowledge a subscription in time; that part is left out"),
            }
        }
    }
}

fn subscription(id: &Id) -> String {
    format!("{{\"io.modelcontextprotocol/subscriptionId\":{id}}}")
}

impl Listening {
    /// The next message; the last one, at shutdown, is the result. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = &mut self.opening {
            let drain = self.drain.clone();
            tokio::select! {
                () = opening.settle(&mut self.parts) => {}
                () = drain.cancelled() => {}
            }
            let honoured = self.opening.take().map(|opening| opening.honoured).unwrap_or_default();
            return Some(self.acknowledgement(&honoured));
        }
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            let heard = async {
                match &mut self.inbox {
                    Some(inbox) => inbox.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        self.ended = true;
                        continue;
                    }
                    let now = *self.changes.borrow_and_update();
                    self.tells(now);
                }
                caller = self.ear.other() => {
                    self.caller = caller;
                    self.tells(self.seen);
                }
                message = heard => match message {
                    Some(message) => return Some(message),
                    None => self.inbox = None,
                },
                () = self.drain.cancelled() => {
                    self.ended = true;
                    self.parts.clear();
                    return Some(farewell(&self.id));
                }
            }
        }
    }

    fn tells(&mut self, now: Change) {
        let change = self.looks_again(now);
        let params = format!("{{\"_meta\":{}}}", subscription(&self.id));
        for method in change.since(Change::default(), self.filter) {
            self.ready.push_back(build::notification(method, Some(params.as_bytes())));
        }
    }

    /// What of the lists is different for the caller. What it may not use any more comes to its end.
    fn looks_again(&mut self, now: Change) -> Change {
        let before = std::mem::replace(&mut self.seen, now);
        // Whoever only listens keeps none of its own upstreams.
        let view = self.gateway.view_of(self.caller.principal()).seen_by(&self.caller);
        let held = std::mem::replace(&mut self.view, view);
        if held.audience.is_none() && self.view.audience.is_none() {
            return now.minus(before);
        }
        let view = &self.view;
        self.parts.retain(|part| part.may_go_on(view));
        Change::between(&held.catalog, &view.catalog)
    }

    fn acknowledgement(&self, honoured: &Wishes) -> Bytes {
        let lists = [
            (self.filter.tools_list_changed, "toolsListChanged"),
            (self.filter.prompts_list_changed, "promptsListChanged"),
            (self.filter.resources_list_changed, "resourcesListChanged"),
        ];
        let further = honoured.members();
        let lists = lists.into_iter().filter_map(|(on, member)| on.then_some((member, &b"true"[..])));
        let members: Vec<_> = lists.chain(further.iter().map(|(key, value)| (*key, &value[..]))).collect();
        let params = object(&[("_meta", subscription(&self.id).as_bytes()), ("notifications", &object(&members))]);
        build::notification(Method::Acknowledged, Some(&params))
    }
}

/// The response to a subscription that the gateway ends (MCP 2026-07-28, basic/subscriptions).
pub(super) fn farewell(id: &Id) -> Bytes {
    let result = format!("{{\"resultType\":\"complete\",\"_meta\":{}}}", subscription(id));
    build::response(id, result.as_bytes())
}
