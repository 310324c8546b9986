//! `tasks/list` of several upstreams as one list (MCP 2025-11-25, basic/utilities/tasks).

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{TaskScope, places};
use crate::{
    auth::{Caller, PrincipalKey},
    gateway::{Client, Gateway, GatewayError, Reply, forward::Shares},
    limits::{Charged, Limited},
    mcp::{
        Era, Field, Id, Kind, Message, Method, Span, Splices, build,
        json::{for_each_item, for_each_member},
        splice::object,
    },
    upstream::{Upstream, UpstreamError},
};

/// Most pages of one upstream's tasks.
const MAX_PAGES: usize = 50;
/// Most tasks of one upstream.
const MAX_TASKS: usize = 2000;
/// Longest page, in bytes.
const MAX_PAGE: usize = 4 << 20;

impl Gateway {
    /// All tasks of the caller on one page. An upstream that fails is left out, and so is, where callers are told apart, what
    /// nobody remembers to have shown to this one.
    pub(in crate::gateway) async fn list_tasks(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: &Message,
        id: &Id,
    ) -> Result<Reply, GatewayError> {
        if message.span(Field::Cursor).is_some() {
            return Err(GatewayError::InvalidParams("the cursor is unknown: this list has one page"));
        }
        let view = self.view_for(caller);
        let lists_any = |upstream: &&Arc<Upstream>| lists_tasks(upstream) && self.has_tasks(caller, upstream);
        let asked: Vec<_> = view.reached().filter(lists_any).collect();
        let places: Vec<usize> = asked.iter().filter_map(|upstream| view.place_of(upstream.name())).collect();
        // How many pages there are nobody knows before: the first of each server goes with the client's request.
        match places.as_slice() {
            [] => self.pay(caller).await?,
            places => self.admit_all(caller, Charged::ClientToo, &view, places).await?,
        }
        let lists = join_all(asked.iter().map(|upstream| self.tasks_of(caller, client, upstream))).await;
        let mut tasks = vec![b'['];
        for (upstream, list) in asked.into_iter().zip(lists) {
            match list {
                Ok(list) => {
                    for task in list {
                        if tasks.len() > 1 {
                            tasks.push(b',');
                        }
                        tasks.extend_from_slice(&task);
                    }
                }
                Err(Unlisted::Limited(limited)) => return Err(limited.into()),
                Err(Unlisted::Failed(error)) => {
                    tracing::warn!(upstream = %upstream.name(), %error, "an upstream's tasks could not be listed");
                }
            }
        }
        tasks.push(b']');
        Ok(Reply::result(id, &object(&[("tasks", &tasks)])))
    }

    /// The tasks of this server that the caller was shown; `None`: there is but one caller. A server may take everybody who comes
    /// through this gateway for one, and list the tasks of all of them.
    fn tasks_shown(&self, caller: &Caller, upstream: &Upstream) -> Option<HashSet<Box<str>>> {
        let principal = caller.principal();
        (*principal != PrincipalKey::Local).then(|| self.task_ids.owned.of(principal, upstream.name()))
    }

    fn has_tasks(&self, caller: &Caller, upstream: &Upstream) -> bool {
        self.tasks_shown(caller, upstream).is_none_or(|shown| !shown.is_empty())
    }

    async fn tasks_of(self: &Arc<Self>, caller: &Caller, client: &Client, upstream: &Arc<Upstream>) -> Result<Vec<Bytes>, Unlisted> {
        let principal = caller.principal();
        let mine = self.tasks_shown(caller, upstream);
        let is_mine = |own: &str| mine.as_ref().is_none_or(|mine| mine.contains(own));
        let generation = upstream.generation()?;
        let Some(scope) = self.task_scope(principal, Era::Legacy, upstream.name()) else { return Ok(Vec::new()) };
        let held = self.session_for(upstream, &generation, Era::Legacy, principal, client, Shares::Subscriptions).await?;
        let mut tasks = Vec::new();
        let mut cursor: Option<Bytes> = None;
        for page_number in 0..MAX_PAGES {
            if page_number > 0 {
                self.admit_further(caller, Charged::UpstreamsAlone, upstream.name()).await?;
            }
            let id = held.session.next_id();
            let params = cursor.as_ref().map(|cursor| object(&[("cursor", cursor)]));
            let body = build::request(&Id::from_u64(id), Method::TasksList, params.as_deref());
            let answer = generation.ask_up_to(MAX_PAGE, Some(&held.session), Method::TasksList, id, body).await;
            if matches!(answer, Err(UpstreamError::SessionLost)) {
                Self::forget(upstream, &held, client).await;
            }
            let answer = answer?;
            if answer.kind() != Kind::Response {
                return Err(UpstreamError::protocol("it refused to list its tasks").into());
            }
            let next = page(&answer, &scope, is_mine, &mut tasks);
            if next.is_none() || next == cursor || tasks.len() >= MAX_TASKS {
                break;
            }
            cursor = next;
        }
        tasks.truncate(MAX_TASKS);
        Ok(tasks)
    }
}

/// Why tasks could not be listed.
enum Unlisted {
    Failed(UpstreamError),
    /// The whole request waits then: a list without some of them would look as if they were gone.
    Limited(Limited),
}

impl From<UpstreamError> for Unlisted {
    fn from(error: UpstreamError) -> Self {
        Self::Failed(error)
    }
}

impl From<Limited> for Unlisted {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

fn lists_tasks(upstream: &Arc<Upstream>) -> bool {
    let declares = upstream.offer().is_some_and(|offer| offer.era == Era::Legacy && offer.greeting.facts.has(&["tasks", "list"]));
    declares && upstream.generation().is_ok()
}

/// Takes the tasks of one page, and gives the cursor of the next as a JSON literal.
fn page(answer: &Message, scope: &TaskScope, is_mine: impl Fn(&str) -> bool, tasks: &mut Vec<Bytes>) -> Option<Bytes> {
    let result = answer.raw(Field::Result)?;
    let (mut list, mut cursor) = (None, None);
    for_each_member(&result, |key, span| match key {
        "tasks" => list = Some(result.slice(span.range())),
        "nextCursor" => cursor = Some(result.slice(span.range())),
        _ => {}
    })
    .ok()?;
    let list = list?;
    for_each_item(&list, |item| {
        let task = list.slice(item.range());
        let whole = Span::new(0, task.len());
        // What names no task cannot be asked for.
        if let Some(place) = places::id_of(&task, whole).filter(|place| is_mine(&place.own)) {
            let mut splices = Splices::new();
            splices.replace(place.span, crate::mcp::json::quote(&scope.shown(&place.own)));
            tasks.push(splices.apply(&task));
        }
    })
    .ok()?;
    cursor.filter(|cursor| cursor.starts_with(b"\""))
}
