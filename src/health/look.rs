//! One look at one thing that is watched: a handshake, a question, the files.

use std::{path::Path, sync::Arc};

use super::board::{Role, WatchedCertificate, WatchedList};
use crate::{
    finding::Finding,
    outbound::probe::{ProbeTarget, Prober},
    reason::Explanation,
    tls::{CertificateFacts, CrlFacts, Position, Report, TlsPolicy, TlsSettings, Verdict},
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
    /// The revocation lists that are asked about its server.
    pub(super) lists: Vec<WatchedList>,
    /// Why it does not work; `None`: it does.
    pub(super) failure: Option<Explanation>,
    /// TLS and the files are good, so that a further attempt to bring it up may succeed.
    pub(super) reachable: bool,
}

/// Looks at an upstream. Takes at most the probe's budget, one reading of its files and one `list_timeout`.
pub(super) async fn look_at(upstream: &Arc<Upstream>, prober: &Prober) -> Seen {
    let mut seen = match &upstream.config().endpoint {
        EndpointConfig::Http(http) => match &http.tls {
            Some(settings) => shake_hands(upstream, http, settings, prober).await,
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

async fn shake_hands(upstream: &Arc<Upstream>, http: &HttpConfig, settings: &TlsSettings, prober: &Prober) -> Seen {
    let target = ProbeTarget::new(&http.url, http.way.clone());
    let (policy, target) = match upstream.tls_policy().await.and_then(|policy| Ok((policy, target?))) {
        Ok((Some(policy), target)) => (policy, target),
        Ok((None, _)) => return Seen::default(),
        Err(why) => return Seen { failure: Some(why), ..Seen::default() },
    };
    let report = prober.probe(upstream.name(), &target, &policy).await;
    let name = upstream.name().as_str();
    let failure = match report.verdict {
        Verdict::Fail => report.cause().map(Finding::explanation),
        Verdict::Ok | Verdict::Insecure => None,
    };
    Seen {
        server: shown_by(&report, Role::Server, Some(name)),
        own: Some(files_of(name, settings, &policy, &report)),
        lists: policy.revocation_lists().map(|list| list_of(name, list)).collect(),
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
    let files = settings.client_identity.as_ref().map(|files| files.cert_path.as_path());
    let identity_file = files.or_else(|| settings.client_pkcs12.as_ref().map(|archive| archive.path.as_path()));
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

fn list_of(name: &str, list: &CrlFacts) -> WatchedList {
    WatchedList {
        upstream: Some(name.to_owned()),
        file: list.file.clone(),
        issuer: list.issuer.clone(),
        this_update: list.this_update,
        next_update: list.next_update,
    }
}

/// A chain of ours, leaf first, as its peers check it.
pub(super) fn chain(
    role: Role,
    upstream: Option<&str>,
    certificates: Vec<CertificateFacts>,
    file: Option<&Path>,
) -> Vec<WatchedCertificate> {
    let watched = certificates.into_iter().enumerate().filter(|(index, facts)| *index == 0 || !facts.self_signed);
    watched
        .map(|(index, facts)| WatchedCertificate {
            role,
            upstream: upstream.map(str::to_owned),
            position: if index == 0 { Position::Leaf } else { Position::Intermediate },
            facts,
            decides: true,
            file: file.map(Path::to_path_buf),
        })
        .collect()
}
