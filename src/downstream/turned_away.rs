//! Requests that are turned away before a message is handled, as the audit trail tells of them.

use std::net::IpAddr;

use axum::body::Body;
use http::{Request, Response};

use super::{client_address, listener::Guest, rescue::Rescued, responses::respond_error, streamable_http::Endpoint};
use crate::{
    audit::{Kind, Outcome, Record, RequestId, whole_millis},
    auth::{Caller, Denied},
    gateway::{Gateway, GatewayError},
    limits::{Limited, Stage},
};

/// Why a request was turned away, where that is about its sender and not about its form.
#[derive(Debug)]
pub(super) enum TurnedAway {
    /// A name or a page that is not allowed here.
    Door(&'static str),
    Limited(Limited),
    Denied(Denied),
    /// Somebody whom we know asked for a session that is none of theirs.
    Session(Caller),
    /// Somebody whom we know asks for more at once than is answered at once.
    TooMany(Caller),
}

impl Endpoint {
    /// Where a request comes from, if the audit trail wants to know.
    pub(super) fn audited_address(&self, request: &Request<Body>) -> Option<IpAddr> {
        if !self.gateway.audit().is_on() {
            return None;
        }
        let guest = request.extensions().get::<Guest>()?;
        Some(client_address(&self.server.now().client_ip, guest.address, request.headers()))
    }

    /// The answer to a request that cannot be served, which the audit trail tells of where it was the sender's fault.
    pub(super) fn turn_away(&self, mut rescued: Rescued, address: Option<IpAddr>) -> Response<Body> {
        if let Some(why) = rescued.turned_away.take()
            && self.gateway.audit().is_on()
        {
            let request_id = *rescued.request_id.get_or_insert_with(RequestId::next);
            record(&self.gateway, &why, request_id, address, Some(rescued.status.as_u16()));
        }
        respond_error(&rescued)
    }
}

impl Rescued {
    /// The same for what has no line of its own in the audit trail: refused at the door, it was turned away.
    pub(super) fn without_line(self, error: &GatewayError) -> Self {
        match error {
            GatewayError::Limited(limited) if limited.stage == Stage::Door => {
                Self { turned_away: Some(TurnedAway::Limited(*limited).into()), ..self }
            }
            _ => self,
        }
    }
}

/// Writes it down. `status`: of HTTP, where the refusal has one.
pub(super) fn record(gateway: &Gateway, why: &TurnedAway, request_id: RequestId, address: Option<IpAddr>, status: Option<u16>) {
    let trail = gateway.audit();
    let line = |outcome| Record { address, status, ..Record::new(trail.now(), Kind::Refusal, request_id, outcome) };
    trail.record(&match why {
        TurnedAway::Door(reason) => Record { reason: Some(reason), ..line(Outcome::Denied) },
        TurnedAway::Denied(denied) => Record { reason: Some(denied.word()), ..line(Outcome::Denied) },
        TurnedAway::Session(caller) => Record { reason: Some("session"), who: Some(caller.who()), ..line(Outcome::Denied) },
        TurnedAway::TooMany(caller) => Record { reason: Some("too_many_at_once"), who: Some(caller.who()), ..line(Outcome::Limited) },
        TurnedAway::Limited(limited) => Record {
            reason: Some("rate_limited"),
            scope: Some(limited.scope.word()),
            retry_after_ms: Some(whole_millis(limited.retry_after)),
            ..line(Outcome::Limited)
        },
    });
}
