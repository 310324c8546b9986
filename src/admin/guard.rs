//! Who may ask: Host and Origin as for MCP clients, the token, and for actions something that a web page cannot send.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, ORIGIN, WWW_AUTHENTICATE},
};

use zeroize::Zeroizing;

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
    /// At the page, with a browser, which asks its user for a name and a password.
    Look,
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

    /// Whether whoever passed has shown the token.
    pub(super) fn demands_token(&self) -> bool {
        self.token.is_some()
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
            Some(token) if purpose == Purpose::Look && types(request.headers(), token) => Ok(()),
            Some(_) => {
                self.tell_of_a_stranger(request);
                Err(Box::new(unauthorized(purpose)))
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

fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    credentials(headers, "Bearer ").is_some_and(|given| is(given, token))
}

/// The token as the password of any user (RFC 7617). Good for looking only: a browser sends it on its own, also when another
/// page makes it ask.
fn types(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(given) = credentials(headers, "Basic ") else { return false };
    let Ok(pair) = BASE64_STANDARD.decode(given).map(Zeroizing::new) else { return false };
    let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
    is(&pair[colon + 1..], token)
}

/// What follows the scheme in the only `Authorization`.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a [u8]> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return None };
    let (said, given) = only.as_bytes().split_at_checked(scheme.len())?;
    // RFC 9110 §11.1: the scheme is case-insensitive.
    said.eq_ignore_ascii_case(scheme.as_bytes()).then_some(given)
}

/// Digests are compared, so that not even the token's length can be measured.
fn is(given: &[u8], token: &Secret) -> bool {
    let digest = |bytes: &[u8]| digest(&SHA256, bytes);
    verify_slices_are_equal(digest(given).as_ref(), digest(token.expose().as_bytes()).as_ref()).is_ok()
}

fn unauthorized(purpose: Purpose) -> Response<Body> {
    let mut response = respond::error(StatusCode::UNAUTHORIZED, "the token of [admin] is needed: Authorization: Bearer …");
    let challenges: &[&str] = match purpose {
        Purpose::Look => &["Bearer realm=\"nexus admin\"", "Basic realm=\"nexus admin\", charset=\"UTF-8\""],
        Purpose::Read | Purpose::Metrics | Purpose::Act => &["Bearer realm=\"nexus admin\""],
    };
    for challenge in challenges {
        response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
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

    #[test]
    fn the_token_is_the_password_of_any_user() {
        let token = Secret::new("s3:cret");
        for (pair, opens) in
            [("op:s3:cret", true), (":s3:cret", true), ("s3:cret", false), ("op:s3:cre", false), ("op", false), ("", false)]
        {
            let given = format!("Basic {}", BASE64_STANDARD.encode(pair));
            assert_eq!(types(&with(&[&given]), &token), opens, "{pair}");
        }
        assert!(!types(&with(&["Basic !"]), &token));
    }
}
