//! `subscriptions/listen` of modern clients (MCP 2026-07-28, basic/subscriptions), fed with the gateway's own changes.

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use crate::mcp::{Field, Id, Message, Method, build};

/// How often each list has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub tools: u64,
    pub prompts: u64,
    pub resources: u64,
}

impl Change {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { tools: self.tools + other.tools, prompts: self.prompts + other.prompts, resources: self.resources + other.resources }
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
    changes: watch::Receiver<Change>,
    drain: CancellationToken,
    ready: std::collections::VecDeque<Bytes>,
    ended: bool,
}

impl Gateway {
    /// Acknowledges the part of the filter that is honoured, changes of the lists, and follows them.
    pub(super) fn listen(&self, message: &Message, id: &Id) -> Listening {
        let raw = message.raw(Field::Notifications);
        let filter: Filter = raw.and_then(|raw| serde_json::from_slice(&raw).ok()).unwrap_or_default();
        let mut changes = self.changes.subscribe();
        let seen = *changes.borrow_and_update();
        let honoured = [
            (filter.tools_list_changed, "\"toolsListChanged\":true"),
            (filter.prompts_list_changed, "\"promptsListChanged\":true"),
            (filter.resources_list_changed, "\"resourcesListChanged\":true"),
        ];
        let honoured: Vec<_> = honoured.into_iter().filter_map(|(on, member)| on.then_some(member)).collect();
        let params = format!("{{\"_meta\":{},\"notifications\":{{{}}}}}", subscription(id), honoured.join(","));
        let acknowledged = build::notification(Method::Acknowledged, Some(params.as_bytes()));
        Listening { id: id.clone(), filter, seen, changes, drain: self.drain.clone(), ready: [acknowledged].into(), ended: false }
    }
}

fn subscription(id: &Id) -> String {
    format!("{{\"io.modelcontextprotocol/subscriptionId\":{id}}}")
}

impl Listening {
    /// The next message; the last one, at shutdown, is the result. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                changed = self.changes.changed() => {
                    let now = *self.changes.borrow_and_update();
                    if changed.is_err() {
                        self.ended = true;
                    }
                    let params = format!("{{\"_meta\":{}}}", subscription(&self.id));
                    for method in now.since(self.seen, self.filter) {
                        self.ready.push_back(build::notification(method, Some(params.as_bytes())));
                    }
                    self.seen = now;
                }
                () = self.drain.cancelled() => {
                    self.ended = true;
                    let result = format!("{{\"resultType\":\"complete\",\"_meta\":{}}}", subscription(&self.id));
                    return Some(build::response(&self.id, result.as_bytes()));
                }
            }
        }
    }
}
