//! The TLS policy of an upstream from its files, beside the runtime: opening an archive can take seconds, a file system longer.

use std::{sync::Arc, time::Duration};

use super::{EndpointConfig, Upstream};
use crate::{
    finding::{Finding, Severity},
    outbound::{
        probe::{ProbeTarget, Prober},
        system_cas,
    },
    reason::{Explanation, Reason},
    sources::{Fingerprint, Noted},
    tls::{Report, TlsPolicy, TlsSettings},
};

/// Longest wait for an upstream's files: key derivation is bounded to some seconds, a network file system is not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the files on a thread of their own, one reading an upstream at a time. What was read is what runs from now on:
/// only what differs from it is a change.
///
/// # Errors
/// A `local_*` reason. A reading that does not come back keeps its place, so that no two of them wait for the same disk.
pub(crate) async fn load_policy(upstream: &Upstream, settings: &TlsSettings, host: &str) -> Result<TlsPolicy, Explanation> {
    let (outcome, read) = read_policy(upstream, settings, host).await?;
    match &outcome {
        Ok(_) => upstream.files.all_were(read),
        Err(_) => upstream.files.some_were(read),
    }
    outcome
}

/// The same for whoever only looks: a change that is seen here first is still one for the upstream.
///
/// # Errors
/// As [`load_policy`].
pub(crate) async fn look_at_policy(upstream: &Upstream, settings: &TlsSettings, host: &str) -> Result<TlsPolicy, Explanation> {
    read_policy(upstream, settings, host).await?.0
}

type Outcome = Result<TlsPolicy, Explanation>;

async fn read_policy(upstream: &Upstream, settings: &TlsSettings, host: &str) -> Result<(Outcome, Fingerprint), Explanation> {
    let (settings, host) = (settings.clone(), host.to_owned());
    let (sources, clock) = (Arc::clone(&upstream.sources), Arc::clone(&upstream.clock));
    let reading = async {
        let place = Arc::clone(&upstream.reading).lock_owned().await;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            let noted = Noted::new(&*sources);
            let outcome = settings.load(&host, &noted, &system_cas, clock.now());
            (outcome, noted.fingerprint())
        })
        .await
    };
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(_)) => Err(Explanation::new(Reason::LocalInvalid, "reading the TLS files broke off", "report this as a bug")),
        Err(_) => Err(Explanation::new(
            Reason::LocalUnreadable,
            format!("the TLS files were not read within {PATIENCE:?}"),
            "look at the file system that they are on, or export the PKCS#12 archive with fewer rounds",
        )),
    }
}

impl Upstream {
    /// Shakes hands with the server for its own sake, by the way and under the policy of its calls; `None` without TLS.
    pub async fn probe(&self, prober: &Prober) -> Option<Arc<Report>> {
        let config = self.config();
        let EndpointConfig::Http(http) = &config.endpoint else { return None };
        let settings = http.tls.as_ref()?;
        let loaded = look_at_policy(self, settings, http.url.host_str().unwrap_or_default()).await;
        let ready = loaded.and_then(|policy| Ok((ProbeTarget::new(&http.url, http.way.clone())?, policy)));
        Some(match ready {
            Ok((target, policy)) => prober.probe(self.name(), &target, &policy).await,
            Err(why) => {
                let finding = Finding::new(why.reason, Severity::Error, why.detail, why.remedy);
                Arc::new(Report::failed("not contacted", finding, self.clock.now()))
            }
        })
    }
}
