//! From the HTTP client's errors to explanations.

use std::{
    error::Error,
    fmt, io,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    look::{self, Sight},
    resolve::{DnsFailure, Target},
};
use crate::{
    clock::{Clock as _, SystemClock},
    reason::{Explanation, Reason},
    tls::{self, Handshake, Observed, TlsPolicy, find_in_chain},
};

/// A request that got no answer, or an answer that broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    pub explanation: Explanation,
    /// The request provably never reached the server, so that a repeat cannot run it twice.
    pub never_sent: bool,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation.fmt(f)
    }
}

impl Error for SendError {}

/// What an explanation needs to know of the client whose request failed.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub(super) target: Target,
    pub(super) port: u16,
    pub(super) connect_timeout: Duration,
    /// Absent for plain HTTP.
    pub(super) tls: Option<(TlsPolicy, Arc<Observed>)>,
    /// Some request was answered, so that the server takes our credentials.
    pub(super) answered: AtomicBool,
}

impl Circumstances {
    /// Explains why a request got no answer. May look at the port once more, for at most a second.
    pub(super) async fn explain(&self, error: &reqwest::Error) -> SendError {
        let is_connect = error.is_connect();
        let never_sent = is_connect || error.is_builder() || find_in_chain::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        let explanation = self.refine(self.explain_at_once(error, is_connect)).await;
        SendError { explanation, never_sent }
    }

    /// Explains why the body of an answer broke off.
    pub(super) fn explain_body(&self, error: &reqwest::Error) -> SendError {
        SendError { explanation: self.explain_at_once(error, false), never_sent: false }
    }

    /// What to say when an HTTP answer refuses for want of a client certificate, as nginx does; `None` if none was asked for.
    pub(super) fn client_certificate_wanted(&self) -> Option<Explanation> {
        self.handshake().filter(|h| h.observed.asked_for_client_certificate()).map(|h| h.client_certificate_refused_in_http())
    }

    fn handshake(&self) -> Option<Handshake<'_>> {
        self.tls.as_ref().map(|(policy, observed)| Handshake { policy, observed, now: SystemClock.now() })
    }

    fn explain_at_once(&self, error: &reqwest::Error, is_connect: bool) -> Explanation {
        if let Some(dns) = find_in_chain::<DnsFailure>(error) {
            return Explanation::new(Reason::Dns, dns.to_string(), "correct the host in url, or the resolver of this machine");
        }
        let handshake = self.handshake();
        if let Some(explanation) = handshake.and_then(|handshake| tls::explain(error, &handshake)) {
            return explanation;
        }
        let io = find_in_chain::<io::Error>(error).map(innermost);
        if is_connect { self.explain_connect(error, io) } else { self.explain_exchange(error, io, handshake.as_ref()) }
    }

    fn explain_connect(&self, error: &reqwest::Error, io: Option<&io::Error>) -> Explanation {
        let place = self.place();
        let in_tls = self.tls.is_some();
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Explanation::new(
                Reason::Refused,
                format!("{place} refused the connection"),
                "start the server, or correct the host and port in url",
            ),
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) if in_tls => Explanation::new(
                Reason::TlsReset,
                format!("{place} reset the connection during the TLS handshake"),
                "look for a firewall or load balancer in between, and whether the server wants a client certificate (client_cert_path)",
            ),
            Some(io::ErrorKind::UnexpectedEof) if in_tls => Explanation::new(
                Reason::TlsClosed,
                format!("{place} closed the connection during the TLS handshake"),
                "check that the port speaks TLS, and look into the server's log",
            ),
            Some(io::ErrorKind::TimedOut) => self.timed_out(),
            None if error.is_timeout() => self.timed_out(),
            _ => Explanation::new(
                Reason::Unreachable,
                format!("{place} is not reachable: {}", root_cause(error)),
                "check the network between this machine and the server",
            ),
        }
    }

    fn explain_exchange(&self, error: &reqwest::Error, io: Option<&io::Error>, handshake: Option<&Handshake<'_>>) -> Explanation {
        let place = self.place();
        let hyper = find_in_chain::<hyper::Error>(error);
        if hyper.is_some_and(hyper::Error::is_parse) {
            let remedy = if self.tls.is_some() {
                "correct the port in url"
            } else {
                "correct the port in url; if the server speaks TLS there, write https://"
            };
            return Explanation::new(Reason::Protocol, format!("{place} does not answer in HTTP: {}", root_cause(error)), remedy);
        }
        if error.is_builder() {
            return Explanation::new(
                Reason::Protocol,
                format!("the request to {place} is not valid: {}", root_cause(error)),
                "report this as a bug",
            );
        }
        if let Some(handshake) = handshake
            && handshake.observed.asked_for_client_certificate()
            && !self.answered.load(Ordering::Relaxed)
        {
            return handshake.client_certificate_suspected();
        }
        let what = match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "reset the connection",
            _ if hyper.is_some_and(hyper::Error::is_incomplete_message) => "closed the connection before its answer was complete",
            _ => "broke off",
        };
        Explanation::new(
            Reason::Unreachable,
            format!("{place} {what}: {}", root_cause(error)),
            "look into the server's log; it may have been restarted",
        )
    }

    /// Tells TCP from TLS in a time-out, and names what answers without TLS.
    async fn refine(&self, explanation: Explanation) -> Explanation {
        if self.tls.is_none() {
            return explanation;
        }
        match explanation.reason {
            Reason::ConnectTimeout => match look::look(&self.target, self.port).await {
                Sight::Nobody => explanation,
                Sight::Silent | Sight::Speaks(None) => Explanation::new(
                    Reason::TlsTimeout,
                    format!("{} took the connection, but did not finish the TLS handshake within {:?}", self.place(), self.connect_timeout),
                    "check that the port speaks TLS, or raise connect_timeout",
                ),
                Sight::Speaks(what) => tls::not_tls(what),
            },
            Reason::TlsNotTls | Reason::TlsClosed => match look::look(&self.target, self.port).await {
                Sight::Speaks(what @ Some(_)) => tls::not_tls(what),
                Sight::Nobody | Sight::Silent | Sight::Speaks(None) => explanation,
            },
            _ => explanation,
        }
    }

    fn timed_out(&self) -> Explanation {
        Explanation::new(
            Reason::ConnectTimeout,
            format!("{} did not take the connection within {:?}", self.place(), self.connect_timeout),
            "check host, port and firewall, or raise connect_timeout",
        )
    }

    fn place(&self) -> String {
        match &self.target {
            Target::Name(name) => format!("{name}:{}", self.port),
            Target::Address(ip) => std::net::SocketAddr::new(*ip, self.port).to_string(),
        }
    }
}

/// The `io::Error` at the bottom of nested ones: layers wrap them as `Other`.
fn innermost(error: &io::Error) -> &io::Error {
    let mut error = error;
    for _ in 0..8 {
        let Some(inner) = error.get_ref().and_then(|inner| find_in_chain::<io::Error>(inner)) else { break };
        error = inner;
    }
    error
}

/// The last error of the chain, whose text holds neither the URL nor a header.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = match error.source() {
        Some(source) => source,
        None => return "no further cause is known".to_owned(),
    };
    for _ in 0..16 {
        let Some(next) = cause.source() else { break };
        cause = next;
    }
    tls::shown(&cause.to_string())
}
