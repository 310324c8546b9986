//! What operators asked for and who was refused, as the audit trail tells of it.

use std::time::Instant;

use axum::body::Body;
use http::{Request, Response, StatusCode};

use super::{guard::Purpose, server::Inner};
use crate::{
    audit::{Kind, Outcome, Record, RequestId, Who},
    downstream::listener::Guest,
};

/// An action on its way.
#[derive(Debug)]
pub(super) struct Action {
    words: String,
    upstream: Option<String>,
    guest: Option<Guest>,
    began: Instant,
}

impl Inner {
    /// As the guard says; who is refused stands in the audit trail.
    ///
    /// # Errors
    /// The refusal, ready to be sent.
    pub(super) fn check(&self, purpose: Purpose, request: &Request<Body>) -> Result<(), Box<Response<Body>>> {
        self.guard.check(purpose, request).inspect_err(|refusal| {
            if self.parts.gateway.audit().is_on() {
                self.record(&Action::of(request), None, refusal.status());
            }
        })
    }

    /// The action that a request stands for, where somebody wants to know.
    pub(super) fn action(&self, purpose: Purpose, request: &Request<Body>) -> Option<Action> {
        (purpose == Purpose::Act && self.parts.gateway.audit().is_on()).then(|| Action::of(request))
    }

    /// What came of it.
    pub(super) fn done(&self, action: &Action, status: StatusCode) {
        let method = if self.guard.demands_token() { "admin_token" } else { "local" };
        self.record(action, Some(Who { method, issuer: None, subject: None, client: None, groups: &[] }), status);
    }

    fn record(&self, action: &Action, who: Option<Who<'_>>, status: StatusCode) {
        let trail = self.parts.gateway.audit();
        let outcome = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Denied,
            status if status.is_success() => Outcome::Ok,
            _ => Outcome::Error,
        };
        trail.record(&Record {
            who,
            address: action.guest.as_ref().map(|guest| guest.address.ip()),
            action: Some(&action.words),
            upstream: action.upstream.as_deref(),
            status: Some(status.as_u16()),
            duration_ms: Some(action.began.elapsed()),
            ..Record::new(trail.now(), if who.is_some() { Kind::Admin } else { Kind::Refusal }, RequestId::next(), outcome)
        });
    }
}

impl Action {
    fn of(request: &Request<Body>) -> Self {
        let path = request.uri().path();
        let mut steps = path.rsplit('/');
        let (last, before, place) = (steps.next().unwrap_or_default(), steps.next(), steps.next());
        let (words, upstream) = match (request.method().as_str(), last, before, place) {
            ("POST", "reload", ..) => ("reload".to_owned(), None),
            ("POST", "probe", Some(name), Some("upstreams")) => ("probe".to_owned(), Some(name.to_owned())),
            (method, ..) => (format!("{method} {path}"), None),
        };
        Self { words, upstream, guest: request.extensions().get::<Guest>().cloned(), began: Instant::now() }
    }
}
