//! A handshake for its own sake: what a server shows, and whether it and the policy take each other.
//!
//! Nothing is sent but the handshake: no request, no credential. Our client certificate is shown in a second handshake,
//! and only to a server that the policy has accepted in the first.

mod handshake;
mod prober;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use url::Url;

use self::handshake::{Broken, Handshaken, shake_hands};
use super::{connect::ConnectError, dial::Dialer, failure::Circumstances, http_client::Way};
use crate::{
    clock::{Clock as _, SystemClock},
    finding::{Finding, Severity},
    reason::{Explanation, Reason},
    tls::{Handshake, Negotiated, Observed, Report, Seen, Shows, TlsPolicy, find_in_chain},
};

pub use prober::Prober;

/// Longest probe: both handshakes and the look at a port that speaks no TLS.
pub const BUDGET: Duration = Duration::from_secs(5);

/// Least time between two probes of one upstream; within it the last report is given.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(10);

/// Kept of the budget for a look at a port that failed.
const LOOK: Duration = Duration::from_secs(1);

/// Where a probe goes, and how.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    dialer: Dialer,
    alpn: Vec<Vec<u8>>,
}

impl ProbeTarget {
    /// The host and port of an `https://` URL, by the way that its calls take.
    ///
    /// # Errors
    /// `local_invalid` for another URL.
    pub fn new(url: &Url, way: Way) -> Result<Self, Explanation> {
        if url.scheme() != "https" {
            return Err(Explanation::new(Reason::LocalInvalid, "url: only an https:// URL can be probed", "correct url"));
        }
        Ok(Self { dialer: Dialer::to(url, way.proxy)?, alpn: way.version.alpn() })
    }
}

/// Probes once, within `budget`. Never fails: what went wrong is in the report.
///
/// Cancel-safe: dropping it closes the connection.
pub async fn probe(target: &ProbeTarget, policy: &TlsPolicy, budget: Duration) -> Report {
    let now = SystemClock.now();
    let deadline = Instant::now() + budget;
    let mut attempt = match attempt(target, policy, Shows::Nothing, deadline).await {
        Ok(attempt) => attempt,
        Err(explanation) => return Report::failed(policy.words(), finding(explanation), now),
    };
    if policy.has_identity() && attempt.observed.asked_for_client_certificate() && attempt.server_is_accepted() {
        attempt = match self::attempt(target, policy, Shows::Identity, deadline).await {
            // A server that is gone by now has shown its chain all the same.
            Ok(second) if second.observed.chain().is_empty() => Attempt { trouble: second.trouble, ..attempt },
            Ok(second) => second,
            Err(explanation) => return Report::failed(policy.words(), finding(explanation), now),
        };
    }
    // In TLS 1.2 it hangs up in the middle, in TLS 1.3 after the end.
    let hung_up_on_us = attempt.observed.asked_for_client_certificate() && attempt.server_is_accepted() && attempt.trouble_is_mute();
    let Attempt { observed, negotiated, trouble } = attempt;
    let trouble = match trouble {
        Some(_) if hung_up_on_us => Some(Handshake { policy, observed: &observed, now }.client_certificate_suspected()),
        Some(Trouble::After) | None => None,
        Some(Trouble::Connect(error)) => {
            let tls = Some((policy.clone(), Arc::clone(&observed)));
            let dialer = target.dialer.clone();
            let circumstances = Circumstances { dialer, connect_timeout: budget, tls, answered: AtomicBool::new(false) };
            Some(circumstances.explain_connection(&error).await)
        }
    };
    policy.report(Seen { observed: &observed, negotiated, trouble, system: &super::system_cas }, now)
}

/// Where a connection ended that was to carry nothing.
#[derive(Debug)]
enum Trouble {
    Connect(ConnectError),
    /// After the handshake, and before any answer.
    After,
}

/// One connection and its handshake.
struct Attempt {
    observed: Arc<Observed>,
    negotiated: Option<Negotiated>,
    /// `None`: all went well.
    trouble: Option<Trouble>,
}

impl Attempt {
    /// The policy took the server's certificate, and the server proved that it holds the key.
    ///
    /// Whatever is wrong on our side ends the handshake with an error of ours; after the verification, only the other
    /// side's alerts and its hanging up are left.
    fn server_is_accepted(&self) -> bool {
        let only_theirs = match &self.trouble {
            None | Some(Trouble::After) => true,
            Some(Trouble::Connect(ConnectError::Tls(error))) => match find_in_chain::<rustls::Error>(error) {
                Some(error) => matches!(error, rustls::Error::AlertReceived(_)),
                None => true,
            },
            Some(Trouble::Connect(_)) => false,
        };
        only_theirs && !self.observed.chain().is_empty() && self.observed.refusal().is_none()
    }

    /// The connection ended without an alert.
    fn trouble_is_mute(&self) -> bool {
        match &self.trouble {
            Some(Trouble::After) => true,
            Some(Trouble::Connect(ConnectError::Tls(error))) => find_in_chain::<rustls::Error>(error).is_none(),
            Some(Trouble::Connect(_)) | None => false,
        }
    }
}

/// # Errors
/// When the policy itself cannot be used.
async fn attempt(target: &ProbeTarget, policy: &TlsPolicy, shows: Shows, deadline: Instant) -> Result<Attempt, Explanation> {
    let (mut config, observed) = policy.trial_config(shows)?;
    config.alpn_protocols.clone_from(&target.alpn);
    // A look at the port is to fit in as well.
    let deadline = deadline.checked_sub(LOOK).filter(|earlier| *earlier > Instant::now()).unwrap_or(deadline);
    let dialled = timeout_at(deadline, target.dialer.dial()).await;
    let mut stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Ok(Attempt::unconnected(observed, error.into())),
        Err(_) => return Ok(Attempt::unconnected(observed, ConnectError::TimedOut { in_tls: false })),
    };
    let Handshaken { outcome, negotiated } = shake_hands(&mut stream, config, policy.name().clone(), &observed, deadline).await;
    let trouble = outcome.err().map(|broken| match broken {
        Broken::Tls(error) => Trouble::Connect(ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error))),
        Broken::Io(error) => Trouble::Connect(ConnectError::Tls(error)),
        Broken::Timeout => Trouble::Connect(ConnectError::TimedOut { in_tls: true }),
        Broken::After => Trouble::After,
    });
    Ok(Attempt { observed, negotiated, trouble })
}

impl Attempt {
    fn unconnected(observed: Arc<Observed>, error: ConnectError) -> Self {
        Self { observed, negotiated: None, trouble: Some(Trouble::Connect(error)) }
    }
}

fn finding(explanation: Explanation) -> Finding {
    Finding::new(explanation.reason, Severity::Error, explanation.detail, explanation.remedy)
}
