//! A call's line of the audit trail, from its beginning to whatever ends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Client, Gateway, GatewayError, ItemKind, LegacySession, route::Route, tally::Outcome};
use crate::{
    audit::{self, Kind, MAX_ARGUMENTS, Record, RequestId, Trail},
    auth::Caller,
    catalog::Lookup,
    mcp::{
        Era, Field, Message, Method,
        errors::code,
        glance::{Glance, Glanced},
    },
    names::UpstreamName,
    upstream::UpstreamError,
};

/// Longest part of a name that is kept for a line, which shows less.
const MAX_NAME: usize = 1024;

/// What is known of a call so far. Written when it is dropped, whichever way the call ends.
#[derive(Debug)]
pub(super) struct Draft {
    trail: Arc<Trail>,
    request_id: RequestId,
    caller: Caller,
    session: Option<String>,
    era: Era,
    method: Method,
    /// What it is about, as the client named it.
    kind: ItemKind,
    about: Option<Box<str>>,
    executes: Option<Box<str>>,
    arguments: Option<Bytes>,
    /// The upstream, and how that names it.
    routed: Option<(UpstreamName, Arc<str>)>,
    began: Instant,
    /// Until the upstream had it.
    pub(super) before_sent: Option<Duration>,
    glance: Glance,
    ended: Ended,
    client_left: bool,
}

#[derive(Debug)]
enum Ended {
    /// Nobody said anything.
    Not,
    /// What the answer says is in the glance.
    Answered,
    Failed(Failure),
}

/// An error of ours.
#[derive(Clone, Copy, Debug)]
struct Failure {
    outcome: audit::Outcome,
    code: i64,
    reason: &'static str,
    scope: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Gateway {
    /// The line of a call that is audited, where there is a trail.
    pub(super) fn draft(&self, caller: &Caller, client: &Client, method: Option<Method>, message: &Message) -> Option<Box<Draft>> {
        if !self.audit.is_on() {
            return None;
        }
        let method = method.filter(|method| is_audited(*method))?;
        let mut draft = self.draft_of(caller, client.era(), method, message);
        draft.session = client.session().map(|session| session_shown(session));
        Some(draft)
    }

    /// The line of an `initialize`, where there is a trail.
    pub(super) fn greeting_draft(&self, caller: &Caller, message: &Message) -> Option<Box<Draft>> {
        self.audit.is_on().then(|| self.draft_of(caller, Era::Legacy, Method::Initialize, message))
    }

    fn draft_of(&self, caller: &Caller, era: Era, method: Method, message: &Message) -> Box<Draft> {
        let (kind, about) = match method {
            Method::Initialize => (ItemKind::Tool, None),
            Method::ToolsCall => (ItemKind::Tool, message.name()),
            Method::PromptsGet => (ItemKind::Prompt, message.name()),
            Method::Complete if message.span(Field::RefName).is_some() => (ItemKind::Prompt, message.text(Field::RefName)),
            Method::Complete => (ItemKind::Resource, message.text(Field::RefUri)),
            Method::ResourcesRead | Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => (ItemKind::Resource, message.uri()),
            _ => (ItemKind::Task, message.task_id()),
        };
        Box::new(Draft {
            trail: Arc::clone(&self.audit),
            request_id: caller.request_id().unwrap_or_else(RequestId::next),
            caller: caller.clone(),
            session: None,
            era,
            method,
            kind,
            about: about.map(|name| kept(&name)),
            executes: None,
            arguments: if self.audit.wants_arguments() { message.raw(Field::Arguments) } else { None },
            routed: None,
            began: Instant::now(),
            before_sent: None,
            glance: Glance::default(),
            ended: Ended::Not,
            client_left: false,
        })
    }

    /// Whether what a caller takes for unknown is there for others.
    pub(super) fn is_withheld(self: &Arc<Self>, caller: &Caller, error: &GatewayError) -> bool {
        let (kind, name) = match error {
            GatewayError::Unknown { kind, name } => (*kind, name),
            GatewayError::UnknownToExecute { name } => (ItemKind::Tool, name),
            _ => return false,
        };
        let view = self.view_of(caller.principal());
        match kind {
            ItemKind::Tool => !matches!(view.catalog.tool(name), Lookup::Unknown),
            ItemKind::Prompt => !matches!(view.catalog.prompt(name), Lookup::Unknown),
            ItemKind::Resource => self.resource_owner(&view, caller, name).is_some(),
            ItemKind::Task => false,
        }
    }
}

impl Draft {
    pub(super) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The session that it opened.
    pub(super) fn opens(&mut self, session: &LegacySession) {
        self.session = Some(session_shown(session));
    }

    pub(super) fn goes_to(&mut self, route: &Route) {
        self.routed = Some((route.upstream.name().clone(), Arc::clone(&route.name)));
    }

    /// The tool `execute` is to run this.
    pub(super) fn executes(&mut self, message: &Message) {
        self.executes = message.name().map(|name| kept(&name));
    }

    /// A piece of the answer is on its way.
    pub(super) fn passes(&mut self, bytes: &[u8]) {
        self.glance.push(bytes);
    }

    pub(super) fn ends(&mut self, outcome: Outcome) {
        if let (Ended::Not, Outcome::Ok) = (&self.ended, outcome) {
            self.ended = Ended::Answered;
        }
    }

    /// `is_withheld`: what is unknown to the caller is there for others.
    pub(super) fn fails(&mut self, error: &GatewayError, is_withheld: bool) {
        if matches!(self.ended, Ended::Not) {
            self.ended = Ended::Failed(Failure::of(error, self.era, is_withheld));
        }
    }

    /// The answer had begun.
    pub(super) fn breaks_off(&mut self, error: &UpstreamError) {
        let reason = error.reason().code();
        let failure = Failure { outcome: audit::Outcome::Error, code: code::INTERNAL_ERROR, reason, scope: None, retry_after: None };
        if matches!(self.ended, Ended::Not) {
            self.ended = Ended::Failed(failure);
        }
    }

    /// The client hung up, and the call goes on.
    pub(super) fn client_left(&mut self) {
        self.client_left = true;
    }

    /// The client reads on over another connection.
    pub(super) fn client_came_back(&mut self) {
        self.client_left = false;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let (outcome, failure) = match (&self.ended, self.glance.outcome()) {
            (Ended::Not, _) => (audit::Outcome::Cancelled, None),
            (Ended::Failed(failure), _) => (failure.outcome, Some(*failure)),
            (Ended::Answered, Glanced::Result) => (audit::Outcome::Ok, None),
            (Ended::Answered, Glanced::ToolError) => (audit::Outcome::ToolError, None),
            (Ended::Answered, Glanced::InputRequired) => (audit::Outcome::InputRequired, None),
            (Ended::Answered, Glanced::Error(code)) => {
                let answered = Failure { outcome: audit::Outcome::Error, code: 0, reason: "answer", scope: None, retry_after: None };
                (audit::Outcome::Error, Some(Failure { code: code.unwrap_or_default(), ..answered }))
            }
        };
        let arguments = self.arguments.as_deref().filter(|raw| raw.len() <= MAX_ARGUMENTS);
        let arguments: Option<&RawValue> = arguments.and_then(|raw| serde_json::from_slice(raw).ok());
        let about = |kind| self.about.as_deref().filter(|_| self.kind == kind);
        let routed = self.routed.as_ref();
        self.trail.record(&Record {
            who: Some(self.caller.who()),
            address: self.caller.address(),
            session: self.session.as_deref(),
            era: Some(self.era.word()),
            method: Some(self.method.as_str()),
            tool: about(ItemKind::Tool),
            prompt: about(ItemKind::Prompt),
            resource: about(ItemKind::Resource),
            task: about(ItemKind::Task),
            executes: self.executes.as_deref(),
            upstream: routed.map(|(upstream, _)| upstream.as_str()),
            upstream_name: routed.map(|(_, name)| &**name).filter(|name| !name.is_empty()),
            code: failure.map(|failure| failure.code),
            reason: failure.map(|failure| failure.reason),
            scope: failure.and_then(|failure| failure.scope),
            retry_after_ms: failure.and_then(|failure| failure.retry_after).map(audit::whole_millis),
            client_left: self.client_left,
            duration_ms: Some(took),
            upstream_ms: self.before_sent.map(|before| took.saturating_sub(before)),
            arguments,
            arguments_bytes: self.arguments.as_ref().filter(|_| arguments.is_none()).map(Bytes::len),
            ..Record::new(self.trail.now(), Kind::Call, self.request_id, outcome)
        });
    }
}

impl Failure {
    fn of(error: &GatewayError, era: Era, is_withheld: bool) -> Self {
        let reason = error.reason_word();
        let failure = Self { outcome: audit::Outcome::Error, code: error.code(era), reason, scope: None, retry_after: None };
        match error {
            GatewayError::Limited(limited) => Self {
                outcome: audit::Outcome::Limited,
                scope: Some(limited.scope.word()),
                retry_after: Some(limited.retry_after),
                ..failure
            },
            GatewayError::TooManySessions => Self { outcome: audit::Outcome::Limited, ..failure },
            GatewayError::Upstream { error: UpstreamError::Busy { after, .. }, .. } => Self { retry_after: Some(*after), ..failure },
            _ if is_withheld => Self { outcome: audit::Outcome::Denied, reason: "access", ..failure },
            _ => failure,
        }
    }
}

/// As much of its id as may be shown: the whole is a credential.
fn session_shown(session: &LegacySession) -> String {
    format!("{:?}", session.id())
}

/// Whether the audit trail has a line for each request of this method, whatever comes of it.
pub fn has_line(method: &str) -> bool {
    Method::parse(method).is_some_and(is_audited)
}

/// What is done or read for the caller, and what opens a session; lists and settings are not.
fn is_audited(method: Method) -> bool {
    matches!(
        method,
        Method::Initialize
            | Method::ToolsCall
            | Method::PromptsGet
            | Method::ResourcesRead
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::Complete
            | Method::TasksGet
            | Method::TasksResult
            | Method::TasksCancel
            | Method::TasksUpdate
            | Method::TasksList
    )
}

fn kept(name: &str) -> Box<str> {
    name.get(..name.floor_char_boundary(MAX_NAME)).unwrap_or_default().into()
}
