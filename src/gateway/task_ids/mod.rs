//! The ids of tasks as clients of a gateway with several upstreams know them.
//!
//! Two servers may give two tasks the same id, and a task is its creator's alone. So an id that goes down names its upstream
//! and carries a keyed digest (HMAC-SHA-256, RFC 2104) of the upstream, the server's own id, the era and the principal: who
//! else shows it names a task that does not exist. Nothing is remembered for it, so there is nothing to fill up, to expire
//! before the server's own task does, or to share between replicas that have the same secret.
//!
//! A gateway that passes a single upstream through leaves its ids alone, as long as it does not tell its callers apart.

mod list;
mod owned;
mod places;

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use self::{owned::OwnedTasks, places::Place};
use super::{Client, Gateway, GatewayError, ItemKind, forward::Forward, route::Route, subscriptions::declares_tasks};
use crate::{
    auth::{Caller, PrincipalKey},
    mcp::{Era, Field, Message, Method, Splices, json::quote},
    names::UpstreamName,
    secret::Secret,
};

/// Bytes of the digest that an id carries; whoever guesses has one chance in 2^128.
const DIGEST: usize = 16;
/// The same in base64url.
const DIGEST_TEXT: usize = 22;
/// Keeps these digests apart from any other use of the same secret.
const PURPOSE: &[u8] = b"nexus task id v1";

/// Makes and reads the ids.
pub(super) struct TaskIds {
    /// The first makes them, all read them. Never empty.
    keys: Vec<hmac::Key>,
    /// Which tasks were shown to whom, for `tasks/list`.
    owned: OwnedTasks,
}

impl fmt::Debug for TaskIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskIds").field("keys", &self.keys.len()).finish()
    }
}

impl TaskIds {
    /// Without a secret the key is random: no id outlives the process then.
    ///
    /// # Panics
    /// If the operating system gives no randomness: nothing could be kept apart then.
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut keys: Vec<_> = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())).collect();
        if keys.is_empty() {
            let mut random = [0; 32];
            SystemRandom::new().fill(&mut random).expect("the operating system provides randomness");
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &random));
        }
        Self { keys, owned: OwnedTasks::default() }
    }

    /// The id under which this principal knows the upstream's task `own`.
    fn shown(&self, principal: &[u8], era: Era, upstream: &str, own: &str) -> String {
        let digest = self.keys.first().map(|key| digest(key, principal, era, upstream, own)).unwrap_or_default();
        format!("{digest}.{upstream}:{own}")
    }

    /// The upstream and its own id of a task; `None` unless it was shown to this very principal.
    fn read<'a>(&self, principal: &[u8], era: Era, shown: &'a str) -> Option<(&'a str, &'a str)> {
        let (found, rest) = shown.split_at_checked(DIGEST_TEXT)?;
        let (upstream, own) = rest.strip_prefix('.')?.split_once(':')?;
        let is_by = |key: &hmac::Key| {
            let expected = digest(key, principal, era, upstream, own);
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), found.as_bytes()).is_ok()
        };
        self.keys.iter().any(is_by).then_some((upstream, own))
    }
}

fn digest(key: &hmac::Key, principal: &[u8], era: Era, upstream: &str, own: &str) -> String {
    let era: &[u8] = match era {
        Era::Legacy => b"l",
        Era::Modern => b"m",
    };
    let mut context = hmac::Context::with_key(key);
    for part in [PURPOSE, principal, era, upstream.as_bytes(), own.as_bytes()] {
        // With its length, so that no two lists of parts look alike.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let tag = context.sign();
    URL_SAFE_NO_PAD.encode(tag.as_ref().get(..DIGEST).unwrap_or_default())
}

/// Whose tasks of which upstream a call is about: their ids are changed on the way down.
#[derive(Clone, Debug)]
pub(super) struct TaskScope {
    ids: Arc<TaskIds>,
    principal: PrincipalKey,
    era: Era,
    upstream: UpstreamName,
}

impl TaskScope {
    fn shown(&self, own: &str) -> String {
        self.ids.shown(self.principal.as_bytes(), self.era, self.upstream.as_str(), own)
    }

    /// Changes the ids in the answer to a request.
    pub(super) fn show_in_answer(&self, splices: &mut Splices, answer: &Message, method: Method) {
        let Some(result) = answer.result_span() else { return };
        let places = places::in_result(answer.bytes(), result, method);
        if method == Method::ToolsCall && self.principal != PrincipalKey::Local {
            places.iter().for_each(|place| self.ids.owned.note(&self.principal, &self.upstream, &place.own));
        }
        self.show(splices, &places);
    }

    /// Changes the ids in a server's notification or request.
    pub(super) fn show_in_params(&self, splices: &mut Splices, message: &Message) {
        if let Some(params) = message.params_span() {
            self.show(splices, &places::in_params(message.bytes(), params));
        }
    }

    fn show(&self, splices: &mut Splices, found: &[Place]) {
        for Place { span, own } in found {
            splices.replace(*span, quote(&self.shown(own)));
        }
    }

    /// Changes the ids in a client's answer to a server's request back.
    pub(super) fn restore_in_answer(&self, splices: &mut Splices, answer: &Message) {
        let Some(result) = answer.result_span() else { return };
        for Place { span, own: shown } in places::in_result(answer.bytes(), result, Method::TasksResult) {
            let read = self.ids.read(self.principal.as_bytes(), self.era, &shown);
            if let Some((_, own)) = read.filter(|(upstream, _)| *upstream == self.upstream.as_str()) {
                splices.replace(span, quote(own));
            }
        }
    }
}

impl Gateway {
    /// Whether a single upstream's ids are left as they are: where callers differ, it takes all of them for one.
    pub(super) fn passes_task_ids(&self, principal: &PrincipalKey) -> bool {
        self.view.load().lineup.is_transparent() && *principal == PrincipalKey::Local
    }

    /// For what is said in a client's session outside of any call; `None` where ids are left alone.
    pub(super) fn task_scope(&self, principal: &PrincipalKey, era: Era, upstream: &UpstreamName) -> Option<TaskScope> {
        let scope = || TaskScope { ids: Arc::clone(&self.task_ids), principal: principal.clone(), era, upstream: upstream.clone() };
        (!self.passes_task_ids(principal)).then(scope)
    }

    /// For a request that is about a task, or that a server may answer with one. Tasks are not bridged between the eras.
    pub(super) fn task_scope_of(&self, request: &Forward<'_>, era: Era) -> Option<TaskScope> {
        if era != request.client.era() {
            return None;
        }
        let concerns_tasks = match request.method {
            Method::TasksGet | Method::TasksCancel | Method::TasksUpdate | Method::TasksResult => true,
            Method::ToolsCall => match era {
                Era::Legacy => request.message.span(Field::Task).is_some(),
                Era::Modern => {
                    let offers = || request.route.upstream.offer().is_some_and(|offer| declares_tasks(&offer.greeting.facts.capabilities));
                    let text = request.message.bytes();
                    request.message.span(Field::MetaClientCapabilities).is_some_and(|span| declares_tasks(span.of(text))) && offers()
                }
            },
            _ => false,
        };
        if !concerns_tasks {
            return None;
        }
        self.task_scope(request.caller.principal(), era, request.route.upstream.name())
    }

    /// The upstream and the id there of a task that a client names.
    pub(super) fn task_owner(&self, principal: &PrincipalKey, era: Era, shown: &str) -> Option<(UpstreamName, Box<str>)> {
        let (upstream, own) = self.task_ids.read(principal.as_bytes(), era, shown)?;
        Some((UpstreamName::parse(upstream).ok()?, own.into()))
    }

    /// Where a request goes, be it about a task.
    pub(super) async fn route_for(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        method: Method,
        message: &Message,
    ) -> Result<Route, GatewayError> {
        let is_about_a_task = matches!(method, Method::TasksGet | Method::TasksCancel | Method::TasksUpdate | Method::TasksResult);
        if !is_about_a_task || self.passes_task_ids(caller.principal()) {
            return self.route(caller, method, message).await;
        }
        let view = self.view_for(caller);
        let shown = message.task_id().ok_or(GatewayError::InvalidParams("the request does not say which task it is about"))?;
        let route = self.task_owner(caller.principal(), client.era(), &shown).and_then(|(upstream, own)| {
            let rename = message.span(Field::TaskId);
            Route::to(&view, &upstream, Arc::from(own), rename)
        });
        let route = route.filter(|route| view.reaches(route.index));
        route.ok_or_else(|| GatewayError::Unknown { kind: ItemKind::Task, name: shown.into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_by_the_principal_that_it_was_shown_to() {
        let ids = TaskIds::new(&[]);
        for own in ["1", "a:b.c", "", "ünï\n\"", &"x".repeat(5000)] {
            let shown = ids.shown(b"ann", Era::Legacy, "crm.eu", own);
            assert_eq!(ids.read(b"ann", Era::Legacy, &shown), Some(("crm.eu", own)));
            assert_eq!(ids.shown(b"ann", Era::Legacy, "crm.eu", own), shown, "a task has one id");
        }
    }

    #[test]
    fn another_principals_task_looks_like_none() {
        let ids = TaskIds::new(&[]);
        let shown = ids.shown(b"ann", Era::Modern, "crm", "1");
        assert_eq!(ids.read(b"bob", Era::Modern, &shown), None);
        assert_eq!(ids.read(b"ann", Era::Legacy, &shown), None, "nor is it one of the other era");
        assert_eq!(TaskIds::new(&[]).read(b"ann", Era::Modern, &shown), None, "nor another gateway's");
    }

    #[test]
    fn no_changed_character_leads_to_a_task() {
        let ids = TaskIds::new(&[]);
        let shown = ids.shown(b"ann", Era::Modern, "crm", "12");
        for at in 0..shown.len() {
            let mut changed = shown.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ids.read(b"ann", Era::Modern, &String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for guess in ["", "1", "crm:12", "AAAAAAAAAAAAAAAAAAAAAA.crm:12", "ääääääääääää.crm:1"] {
            assert_eq!(ids.read(b"ann", Era::Modern, guess), None, "{guess}");
        }
    }

    #[test]
    fn the_first_secret_makes_ids_and_all_read_them() {
        let secret = |letter: &str| Secret::new(letter.repeat(32));
        let (old, both) = (TaskIds::new(&[secret("a")]), TaskIds::new(&[secret("b"), secret("a")]));
        let shown = old.shown(b"ann", Era::Modern, "crm", "1");
        assert!(both.read(b"ann", Era::Modern, &shown).is_some());
        let shown = both.shown(b"ann", Era::Modern, "crm", "1");
        assert!(old.read(b"ann", Era::Modern, &shown).is_none());
        assert_eq!(format!("{old:?}"), "TaskIds { keys: 1 }");
    }
}
