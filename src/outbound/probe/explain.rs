//! Why a probe's connection failed, in words.

use std::io;

use tokio::time::Instant;

use super::{ProbeTarget, handshake::Broken};
use crate::{
    outbound::{
        look::{self, Sight},
        resolve::DnsFailure,
    },
    reason::{Explanation, Reason},
    tls::{self, Handshake},
};

/// Where a probe's connection ended.
#[derive(Debug)]
pub(super) enum Trouble {
    Dns(DnsFailure),
    /// By the last address that was tried.
    Connect(Option<io::Error>),
    ConnectTimeout,
    Handshake(Broken),
}

/// Explains it; may look at the port once more.
pub(super) async fn explain(trouble: Trouble, target: &ProbeTarget, handshake: &Handshake<'_>, deadline: Instant) -> Explanation {
    let place = target.place();
    match trouble {
        Trouble::Dns(failure) => {
            Explanation::new(Reason::Dns, failure.to_string(), "correct the host in url, or the resolver of this machine")
        }
        Trouble::Connect(error) => not_connected(error.as_ref(), &place),
        Trouble::ConnectTimeout => Explanation::new(
            Reason::ConnectTimeout,
            format!("{place} did not take the connection in time"),
            "check host, port and firewall",
        ),
        Trouble::Handshake(Broken::After) => handshake.client_certificate_suspected(),
        Trouble::Handshake(Broken::Tls(error)) => {
            let explanation = handshake.explain(&error);
            if explanation.reason == Reason::TlsNotTls { named(explanation, target, deadline).await } else { explanation }
        }
        Trouble::Handshake(Broken::Io(error)) => {
            let asked = handshake.observed.asked_for_client_certificate() && handshake.observed.refusal().is_none();
            if asked && !handshake.observed.chain().is_empty() {
                return handshake.client_certificate_suspected();
            }
            cut_off(&error, target, deadline).await
        }
        Trouble::Handshake(Broken::Timeout) => {
            let explanation = Explanation::new(
                Reason::TlsTimeout,
                format!("{place} took the connection, but did not finish the TLS handshake in time"),
                "check that the port speaks TLS",
            );
            named(explanation, target, deadline).await
        }
    }
}

fn not_connected(error: Option<&io::Error>, place: &str) -> Explanation {
    match error.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => Explanation::new(
            Reason::Refused,
            format!("{place} refused the connection"),
            "start the server, or correct the host and port in url",
        ),
        Some(io::ErrorKind::TimedOut) => Explanation::new(
            Reason::ConnectTimeout,
            format!("{place} did not take the connection in time"),
            "check host, port and firewall",
        ),
        _ => {
            let cause = error.map_or_else(|| "it has no address".to_owned(), |error| tls::shown(&error.to_string()));
            Explanation::new(
                Reason::Unreachable,
                format!("{place} is not reachable: {cause}"),
                "check the network between this machine and the server",
            )
        }
    }
}

async fn cut_off(error: &io::Error, target: &ProbeTarget, deadline: Instant) -> Explanation {
    let place = target.place();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            let explanation = Explanation::new(
                Reason::TlsClosed,
                format!("{place} closed the connection during the TLS handshake"),
                "check that the port speaks TLS, and look into the server's log",
            );
            named(explanation, target, deadline).await
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            let explanation = Explanation::new(
                Reason::TlsReset,
                format!("{place} reset the connection during the TLS handshake"),
                "look for a firewall or load balancer in between, and whether the server wants a client certificate (client_cert_path)",
            );
            named(explanation, target, deadline).await
        }
        _ => not_connected(Some(error), &place),
    }
}

/// Names what answers without TLS, where it answers; else leaves the explanation as it is.
async fn named(explanation: Explanation, target: &ProbeTarget, deadline: Instant) -> Explanation {
    match tokio::time::timeout_at(deadline, look::look(&target.target, target.port)).await {
        Ok(Sight::Speaks(what @ Some(_))) => tls::not_tls(what),
        Ok(Sight::Speaks(None) | Sight::Silent | Sight::Nobody) | Err(_) => explanation,
    }
}
