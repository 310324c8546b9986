//! What a child process says outside of any call, brought to those whom it concerns.

use super::Gateway;
use crate::{
    mcp::{Era, Kind, Message, Method, Splices},
    upstream::{Notice, UpstreamId},
};

impl Gateway {
    /// A child's unasked message goes to the clients of the principal that use this very process: an update of a resource to
    /// those who subscribed to it.
    pub(super) fn pass_on(&self, upstream: UpstreamId, notice: &Notice) {
        let Ok(message) = Message::parse(notice.message.clone()) else { return };
        if message.kind() != Kind::Notification {
            return;
        }
        self.hubs.heard_of_process(notice.process, &message);
        let Some(name) = self.upstreams().iter().find(|known| known.id() == upstream).map(|known| known.name().clone()) else { return };
        let method = Method::parse(message.method());
        let mut splices = Splices::new();
        if let Some(tasks) = self.task_scope(&notice.principal, Era::Legacy, &name) {
            tasks.show_in_params(&mut splices, &message);
        }
        let shown = splices.apply(message.bytes());
        let updated = (method == Some(Method::ResourceUpdated)).then(|| message.uri().unwrap_or_default());
        for session in self.sessions.all() {
            let uses_it = session.upstream_session(upstream).is_some_and(|up| up.is_of_process(notice.process));
            if !uses_it || session.record.principal != notice.principal {
                continue;
            }
            if method == Some(Method::LogMessage) && !session.wants_log(&message) {
                continue;
            }
            if updated.as_ref().is_none_or(|updated| session.subscribed.wants(&name, updated)) {
                session.tell(shown.clone());
            }
        }
    }
}
