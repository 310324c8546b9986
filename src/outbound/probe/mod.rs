//! A handshake for its own sake: what a server shows, and whether it and the policy take each other.
//!
//! Nothing is sent but the handshake: no request, no credential. Our client certificate is shown in a second handshake,
//! and only to a server that the policy has accepted in the first.

mod explain;
mod handshake;
mod prober;

use std::time::Duration;

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use url::Url;

use self::{
    explain::Trouble,
    handshake::{Broken, Handshaken, shake_hands},
};
use super::resolve::Target;
use crate::{
    clock::{Clock as _, SystemClock},
    finding::{Finding, Severity},
    reason::{Explanation, Reason},
    tls::{Handshake, Observed, Report, Seen, Shows, TlsPolicy},
};

pub use prober::Prober;

/// Longest probe: both handshakes and the look at a port that speaks no TLS.
pub const BUDGET: Duration = Duration::from_secs(5);

/// Least time between two probes of one upstream; within it the last report is given.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(10);

/// Kept of the budget for a look at a port that failed.
const LOOK: Duration = Duration::from_secs(1);

/// Where a probe goes: the host and port of an `https://` URL.
#[derive(Clone, Debug)]
pub struct ProbeTarget {
    target: Target,
    port: u16,
}

impl ProbeTarget {
    /// # Errors
    /// `local_invalid` for a URL that is not `https://`.
    pub fn of(url: &Url) -> Result<Self, Explanation> {
        let invalid = || Explanation::new(Reason::LocalInvalid, "url: only an https:// URL can be probed", "correct url");
        if url.scheme() != "https" {
            return Err(invalid());
        }
        let target = Target::of(url).ok_or_else(invalid)?;
        let port = url.port_or_known_default().ok_or_else(invalid)?;
        Ok(Self { target, port })
    }

    async fn connect(&self, deadline: Instant) -> Result<TcpStream, Trouble> {
        let dial = async {
            let mut last = None;
            for mut address in self.target.addresses().await.map_err(Trouble::Dns)? {
                address.set_port(self.port);
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = Some(error),
                }
            }
            Err(Trouble::Connect(last))
        };
        timeout_at(deadline, dial).await.unwrap_or(Err(Trouble::ConnectTimeout))
    }

    fn place(&self) -> String {
        match &self.target {
            Target::Name(name) => format!("{name}:{}", self.port),
            Target::Address(ip) => std::net::SocketAddr::new(*ip, self.port).to_string(),
        }
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
    let Attempt { observed, shaken, trouble } = attempt;
    let handshake = Handshake { policy, observed: &observed, now };
    let refusal = match trouble {
        Some(trouble) => Some(explain::explain(trouble, target, &handshake, deadline).await),
        None => None,
    };
    policy.report(Seen { observed: &observed, negotiated: shaken, trouble: refusal }, now)
}

/// One connection and its handshake.
struct Attempt {
    observed: std::sync::Arc<Observed>,
    shaken: Option<crate::tls::Negotiated>,
    /// `None`: all went well.
    trouble: Option<Trouble>,
}

impl Attempt {
    /// The policy took the server's certificate, and the server proved that it holds the key.
    ///
    /// Whatever goes wrong on our side ends the handshake with an error of ours; after the verification, only the other
    /// side's alerts and hanging up are left.
    fn server_is_accepted(&self) -> bool {
        let only_theirs = match &self.trouble {
            None | Some(Trouble::Handshake(Broken::Io(_) | Broken::After | Broken::Tls(rustls::Error::AlertReceived(_)))) => true,
            Some(_) => false,
        };
        only_theirs && !self.observed.chain().is_empty() && self.observed.refusal().is_none()
    }
}

/// # Errors
/// When the policy itself cannot be used.
async fn attempt(target: &ProbeTarget, policy: &TlsPolicy, shows: Shows, deadline: Instant) -> Result<Attempt, Explanation> {
    let (config, observed) = policy.trial_config(shows)?;
    // A look at the port is to fit in as well.
    let deadline = deadline.checked_sub(LOOK).filter(|earlier| *earlier > Instant::now()).unwrap_or(deadline);
    let mut stream = match target.connect(deadline).await {
        Ok(stream) => stream,
        Err(trouble) => return Ok(Attempt { observed, shaken: None, trouble: Some(trouble) }),
    };
    let Handshaken { outcome, negotiated } = shake_hands(&mut stream, config, policy.name().clone(), &observed, deadline).await;
    Ok(Attempt { observed, shaken: negotiated, trouble: outcome.err().map(Trouble::Handshake) })
}

fn finding(explanation: Explanation) -> Finding {
    Finding::new(explanation.reason, Severity::Error, explanation.detail, explanation.remedy)
}
