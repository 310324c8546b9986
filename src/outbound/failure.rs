//! From the HTTP client's errors to explanations.

use std::{
    error::Error,
    fmt, io,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use hyper_util::client::legacy;

use super::{
    connect::ConnectError,
    dial::{Dialer, root_cause},
    look::{self, Sight},
    resolve::DnsFailure,
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
    pub(super) dialer: Dialer,
    pub(super) connect_timeout: Duration,
    /// Absent for plain HTTP.
    pub(super) tls: Option<(TlsPolicy, Arc<Observed>)>,
    /// Some request was answered, so that the server takes our credentials.
    pub(super) answered: AtomicBool,
}

impl Circumstances {
    /// Explains why a request got no answer. May look at the port once more, for at most a second.
    pub(super) async fn explain(&self, error: &legacy::Error) -> SendError {
        let connecting = find_in_chain::<ConnectError>(error);
        let never_sent =
            connecting.is_some() || error.is_connect() || find_in_chain::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        let explanation = match connecting {
            Some(connecting) => self.explain_connection(connecting).await,
            None => self.refine(self.explain_exchange(error)).await,
        };
        SendError { explanation, never_sent }
    }

    /// Explains why a connection was not made. May look at the port once more, for at most a second.
    pub(super) async fn explain_connection(&self, error: &ConnectError) -> Explanation {
        self.refine(self.explain_connect(error)).await
    }

    /// Explains why the body of an answer broke off.
    pub(super) fn explain_body(&self, error: &hyper::Error) -> SendError {
        SendError { explanation: self.explain_exchange(error), never_sent: false }
    }

    /// What to say when an HTTP answer refuses for want of a client certificate, as nginx does; `None` if none was asked for.
    pub(super) fn client_certificate_wanted(&self) -> Option<Explanation> {
        self.handshake().filter(|h| h.observed.asked_for_client_certificate()).map(|h| h.client_certificate_refused_in_http())
    }

    fn handshake(&self) -> Option<Handshake<'_>> {
        self.tls.as_ref().map(|(policy, observed)| Handshake { policy, observed, now: SystemClock.now() })
    }

    fn explain_connect(&self, error: &ConnectError) -> Explanation {
        match error {
            ConnectError::Tcp(cause) => self.explain_tcp(&**cause),
            ConnectError::Proxy(words) => Explanation::new(
                Reason::Proxy,
                words.clone(),
                "correct proxy, and ask whoever keeps it whether this gateway may reach the upstream through it",
            ),
            ConnectError::Tls(cause) => self.explain_tls(cause),
            ConnectError::NoHttp2 => Explanation::new(
                Reason::TlsAlpn,
                format!("{} does not offer HTTP/2", self.place()),
                "set http_version = \"1.1\" or \"auto\", or turn HTTP/2 on at the server",
            ),
            ConnectError::TimedOut { in_tls: false } => self.timed_out(),
            ConnectError::TimedOut { in_tls: true } => Explanation::new(
                Reason::TlsTimeout,
                format!("{} took the connection, but did not finish the TLS handshake within {:?}", self.place(), self.connect_timeout),
                "check that the port speaks TLS, or raise connect_timeout",
            ),
        }
    }

    fn explain_tcp(&self, error: &(dyn Error + 'static)) -> Explanation {
        if let Some(dns) = find_in_chain::<DnsFailure>(error) {
            return Explanation::new(Reason::Dns, dns.to_string(), "correct the host in url, or the resolver of this machine");
        }
        let place = self.place();
        match find_in_chain::<io::Error>(error).map(|io| innermost(io).kind()) {
            Some(io::ErrorKind::ConnectionRefused) => Explanation::new(
                Reason::Refused,
                format!("{place} refused the connection"),
                "start the server, or correct the host and port in url",
            ),
            Some(io::ErrorKind::TimedOut) => self.timed_out(),
            _ => Explanation::new(
                Reason::Unreachable,
                format!("{place} is not reachable: {}", root_cause(error)),
                "check the network between this machine and the server",
            ),
        }
    }

    fn explain_tls(&self, error: &io::Error) -> Explanation {
        if let Some(explanation) = self.handshake().and_then(|handshake| tls::explain(error, &handshake)) {
            return explanation;
        }
        let place = self.place();
        match innermost(error).kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Explanation::new(
                Reason::TlsReset,
                format!("{place} reset the connection during the TLS handshake"),
                "look for a firewall or load balancer in between, and whether the server wants a client certificate (client_cert_path)",
            ),
            io::ErrorKind::UnexpectedEof => Explanation::new(
                Reason::TlsClosed,
                format!("{place} closed the connection during the TLS handshake"),
                "check that the port speaks TLS, and look into the server's log",
            ),
            _ => Explanation::new(
                Reason::Unreachable,
                format!("{place} broke off in the TLS handshake: {}", root_cause(error)),
                "check the network between this machine and the server",
            ),
        }
    }

    fn explain_exchange(&self, error: &(dyn Error + 'static)) -> Explanation {
        let handshake = self.handshake();
        // In TLS 1.3 a server's refusal of our certificate arrives after the handshake.
        if let Some(explanation) = handshake.and_then(|handshake| tls::explain(error, &handshake)) {
            return explanation;
        }
        let place = self.place();
        let hyper = find_in_chain::<hyper::Error>(error);
        if hyper.is_some_and(hyper::Error::is_parse) {
            let detail = format!("{place} does not answer in HTTP: {}", root_cause(error));
            return Explanation::new(Reason::Protocol, detail, "correct the port in url");
        }
        if let Some(handshake) = handshake
            && handshake.observed.asked_for_client_certificate()
            && !self.answered.load(Ordering::Relaxed)
        {
            return handshake.client_certificate_suspected();
        }
        let io = find_in_chain::<io::Error>(error).map(|io| innermost(io).kind());
        let what = match io {
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

    /// Names what answers without TLS, or TLS that answers where none was spoken.
    async fn refine(&self, explanation: Explanation) -> Explanation {
        if self.tls.is_none() {
            let may_be_tls = matches!(explanation.reason, Reason::Protocol | Reason::Unreachable) && !self.answered.load(Ordering::Relaxed);
            if may_be_tls && look::speaks_tls(&self.dialer).await {
                let detail = format!("{} speaks TLS, and url says http://", self.place());
                return Explanation::new(Reason::Protocol, detail, "write https:// in url");
            }
            return explanation;
        }
        if !matches!(explanation.reason, Reason::TlsTimeout | Reason::TlsNotTls | Reason::TlsClosed) {
            return explanation;
        }
        match look::look(&self.dialer).await {
            Sight::Speaks(what @ Some(_)) => tls::not_tls(what),
            Sight::Nobody | Sight::Silent | Sight::Speaks(None) => explanation,
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
        self.dialer.place()
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
