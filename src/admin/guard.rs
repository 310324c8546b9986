//! Who may ask: Host and Origin as for MCP clients, the token, and for actions something that a web page cannot send.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use axum::body::Body;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE},
};

use super::{AdminConfig, MetricsAccess, respond};
use crate::{
    downstream::{
        LiveServer,
        door::{Door, Refused},
        listener::Told,
    },
    secret::Secret,
    tls::shown,
};

/// A page of another origin cannot set it without being allowed to (Fetch, CORS-preflight), and nobody is allowed to.
pub const ACTION_HEADER: &str = "x-nexus-csrf-protection";

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Metrics,
    /// It changes something.
    Act,
}

/// Stands before every path but `/livez` and `/readyz`.
#[derive(Debug)]
pub(super) struct Guard {
    door: Door,
    token: Option<Secret>,
    metrics: MetricsAccess,
    /// Told of lately.
    strangers: Told,
}

impl Guard {
    /// The names under which the gateway itself is called hold here too.
    pub(super) fn new(config: &AdminConfig, server: &LiveServer, bound: SocketAddr) -> Self {
        Self { door: Door::new(server, bound), token: config.token.clone(), metrics: config.metrics, strangers: Told::default() }
    }

    /// # Errors
    /// The refusal, ready to be sent.
    pub(super) fn check(&self, purpose: Purpose, request: &Request<Body>) -> Result<(), Box<Response<Body>>> {
        match self.door.check(request.uri(), request.headers()) {
            Ok(()) => {}
            // Prometheus asks each pod by its address. No name leads here by mistake then, so nothing was rebound.
            Err(Refused::Host(host)) if purpose == Purpose::Metrics && is_address(&host) && !request.headers().contains_key(ORIGIN) => {}
            Err(refused) => {
                return Err(Box::new(respond::error(StatusCode::FORBIDDEN, &self.door.refuse("admin", &refused))));
            }
        }
        if purpose == Purpose::Metrics && self.metrics == MetricsAccess::Open {
            return Ok(());
        }
        match &self.token {
            Some(token) if shows(request.headers(), token) => Ok(()),
            Some(_) => {
                self.tell_of_a_stranger(request);
                Err(Box::new(unauthorized()))
            }
            None if purpose != Purpose::Act || request.headers().contains_key(ACTION_HEADER) => Ok(()),
            None => {
                let words = format!("an action needs the header {ACTION_HEADER}, which a web page cannot send");
                Err(Box::new(respond::error(StatusCode::FORBIDDEN, &words)))
            }
        }
    }

    /// Whether somebody guesses tokens or Prometheus has an old one, the operator should know.
    fn tell_of_a_stranger(&self, request: &Request<Body>) {
        let Some(others) = self.strangers.next() else { return };
        let token = if request.headers().contains_key(AUTHORIZATION) { "another one" } else { "none" };
        tracing::warn!(path = %shown(request.uri().path()), token, others, "admin request refused: it does not show the token of [admin]");
    }
}

/// Whether a `Host` is an IP address, with or without a port.
fn is_address(host: &str) -> bool {
    host.parse::<SocketAddr>().is_ok() || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// Digests are compared, so that not even the token's length can be measured.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else { return false };
    // RFC 9110 §11.1: the scheme is case-insensitive.
    let Some((scheme, given)) = given.as_bytes().split_at_checked("Bearer ".len()) else { return false };
    let digest = |bytes: &[u8]| digest(&SHA256, bytes);
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && verify_slices_are_equal(digest(given).as_ref(), digest(token.expose().as_bytes()).as_ref()).is_ok()
}

fn unauthorized() -> Response<Body> {
    let mut response = respond::error(StatusCode::UNAUTHORIZED, "the token of [admin] is needed: Authorization: Bearer …");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"nexus admin\""));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_whole_token_given_once_opens() {
        let token = Secret::new("s3cret");
        for (given, opens) in [
            (&["Bearer s3cret"][..], true),
            (&["bearer s3cret"], true),
            (&["Bearer s3cre"], false),
            (&["Bearer s3cret1"], false),
            (&["Bearer  s3cret"], false),
            (&["s3cret"], false),
            (&["Basic s3cret"], false),
            (&["Bearer "], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
            (&[], false),
        ] {
            assert_eq!(shows(&with(given), &token), opens, "{given:?}");
        }
    }
}
