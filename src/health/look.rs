//! One look at one thing that is watched: a handshake, a question, the files.

use std::{sync::Arc, time::Duration};

use super::board::{Role, WatchedCertificate};
use crate::{
    outbound::{
        Way,
        probe::{ProbeTarget, Prober},
        system_cas,
    },
    reason::Explanation,
    sources::Sources,
    tls::{CertificateFacts, Position, Report, TlsPolicy, TlsSettings, Verdict},
    upstream::{EndpointConfig, HttpConfig, State, Upstream, UpstreamError},
};

/// What one look at an upstream showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) report: Option<Arc<Report>>,
    /// What its server showed; empty when the handshake did not get so far.
    pub(super) server: Vec<WatchedCertificate>,
    /// What we show it and whom we believe; `None` when the files cannot be used at the moment.
    pub(super) own: Option<Vec<WatchedCertificate>>,
    /// Why it does not work; `None`: it does.
    pub(super) failure: Option<Explanation>,
    /// TLS and the files are good, so that a further attempt to bring it up may succeed.
    pub(super) reachable: bool,
}

/// Looks at an upstream. Takes at most the probe's budget and one `list_timeout`.
pub(super) async fn look_at(upstream: &Arc<Upstream>, prober: &Prober, sources: &Arc<dyn Sources>, now: Duration) -> Seen {
    let mut seen = match &upstream.config().endpoint {
        EndpointConfig::Http(http) => match &http.tls {
            Some(settings) => shake_hands(upstream, http, settings, prober, &**sources, now).await,
            None => Seen::default(),
        },
        EndpointConfig::Stdio(_) => Seen::default(),
    };
    if seen.failure.is_some() {
        return seen;
    }
    seen.failure = match upstream.knock().await {
        Ok(()) => None,
        Err(UpstreamError::Down(why)) => {
            // A process is started, and a plain connection tried, by the supervisor alone.
            seen.reachable = seen.report.is_some();
            Some(why)
        }
        Err(error) => Some(error.explanation()),
    };
    seen
}

async fn shake_hands(
    upstream: &Arc<Upstream>,
    http: &HttpConfig,
    settings: &TlsSettings,
    prober: &Prober,
    sources: &dyn Sources,
    now: Duration,
) -> Seen {
    let loaded = settings.load(http.url.host_str().unwrap_or_default(), sources, &system_cas, now);
    let (policy, target) = match loaded.and_then(|policy| Ok((policy, ProbeTarget::new(&http.url, Way::default())?))) {
        Ok(ready) => ready,
        // What runs was loaded before the files were spoilt; that they are is told by whoever tries to load them.
        Err(_) if upstream.status().borrow().state.serves() => return Seen::default(),
        Err(why) => return Seen { failure: Some(why), ..Seen::default() },
    };
    let report = prober.probe(upstream.name(), &target, &policy).await;
    let name = upstream.name().as_str();
    let failure = match report.verdict {
        Verdict::Fail => report.cause().map(crate::finding::Finding::explanation),
        Verdict::Ok | Verdict::Insecure => None,
    };
    Seen {
        server: shown_by(&report, Role::Server, Some(name)),
        own: Some(files_of(name, settings, &policy, &report)),
        failure,
        report: Some(report),
        reachable: false,
    }
}

/// Whether an upstream was tried to the end.
pub(super) fn is_ready(upstream: &Upstream) -> bool {
    upstream.status().borrow().state != State::Starting
}

/// The certificates that a server shows, but for roots, which nobody needs.
pub(super) fn shown_by(report: &Report, role: Role, upstream: Option<&str>) -> Vec<WatchedCertificate> {
    let sent = report.chain.iter().filter(|link| link.position != Position::Root);
    let watched = sent.map(|link| WatchedCertificate {
        role,
        upstream: upstream.map(str::to_owned),
        position: link.position,
        facts: link.facts.clone(),
        decides: link.position == Position::Leaf || link.on_path,
        file: None,
    });
    watched.collect()
}

/// Our client certificate, and the CAs of the trust file; of these only the one counts that vouches for the server.
fn files_of(name: &str, settings: &TlsSettings, policy: &TlsPolicy, report: &Report) -> Vec<WatchedCertificate> {
    let identity_file = settings.client_identity.as_ref().map(|files| files.cert_path.clone());
    let mut watched = chain(Role::Client, Some(name), policy.identity_facts(), identity_file);
    let in_use = report.anchor().map(|anchor| anchor.facts.fingerprint.clone());
    watched.extend(policy.anchor_facts().into_iter().filter(|facts| facts.is_ca || facts.self_signed).map(|facts| WatchedCertificate {
        role: Role::Anchor,
        upstream: Some(name.to_owned()),
        position: Position::Root,
        decides: in_use.as_ref() == Some(&facts.fingerprint),
        facts,
        file: settings.root_ca_cert_path.clone(),
    }));
    watched
}

/// A chain of ours, leaf first, as its peers check it.
pub(super) fn chain(
    role: Role,
    upstream: Option<&str>,
    certificates: Vec<CertificateFacts>,
    file: Option<std::path::PathBuf>,
) -> Vec<WatchedCertificate> {
    let watched = certificates.into_iter().enumerate().filter(|(index, facts)| *index == 0 || !facts.self_signed);
    watched
        .map(|(index, facts)| WatchedCertificate {
            role,
            upstream: upstream.map(str::to_owned),
            position: if index == 0 { Position::Leaf } else { Position::Intermediate },
            facts,
            decides: true,
            file: file.clone(),
        })
        .collect()
}
