//! The identity provider's keys as they are now: read again from time to time, and when a token names one that is not there.
//!
//! One task fetches, so that however many ask, one request is under way. What was good stays until there is something better.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{ACCEPT, USER_AGENT},
};
use http_body_util::{BodyExt as _, Limited};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::key_set::{KeySet, MAX_DOCUMENT};
use crate::{
    auth::{OauthConfig, Surroundings},
    outbound::{HttpClient, system_cas},
};

const CONNECT: Duration = Duration::from_secs(5);
/// One attempt: files, connecting, the whole document.
const FETCH: Duration = Duration::from_secs(10);
/// After an attempt nothing makes another one sooner: a flood of tokens with invented key names costs one request in this time.
const REST: Duration = Duration::from_secs(10);
/// The same after an attempt that failed before there were any keys.
const REST_WITHOUT_KEYS: Duration = Duration::from_secs(1);
/// After a failure it is tried again this soon, even if `poll_interval` is longer.
const RETRY: Duration = Duration::from_secs(30);
/// Longest that a request waits for keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows one key set. Dropping it ends the task.
#[derive(Debug)]
pub(in crate::auth) struct Keys {
    following: Arc<Following>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Following {
    config: Arc<OauthConfig>,
    surroundings: Surroundings,
    keys: ArcSwapOption<KeySet>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Attempts that ended.
    attempts: u64,
    /// None is made before; while one is under way, this is past.
    rests_until: Instant,
}

impl Keys {
    /// Fetches at once, and goes on. Needs a tokio runtime.
    pub(in crate::auth) fn follow(config: &Arc<OauthConfig>, surroundings: &Surroundings) -> Self {
        let following = Arc::new(Following {
            config: Arc::clone(config),
            surroundings: surroundings.clone(),
            keys: ArcSwapOption::empty(),
            progress: watch::Sender::new(Progress { attempts: 0, rests_until: Instant::now() }),
            wanted: Notify::new(),
        });
        let stop = CancellationToken::new();
        let (task, stopped) = (Arc::clone(&following), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(task.run()).await });
        Self { following, _stop: stop.drop_guard() }
    }

    /// Whether these are the keys that `config` asks for, fetched in the same way.
    pub(in crate::auth) fn are_of(&self, config: &OauthConfig) -> bool {
        let own = &*self.following.config;
        own.url == config.url && own.tls == config.tls && own.poll_interval == config.poll_interval
    }

    /// `None`: they could never be fetched.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.following.keys.load_full()
    }

    /// That of the current keys.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.following.keys.load().as_ref().map(|keys| keys.epoch)
    }

    /// Waits for the end of an attempt, unless one was made a moment ago. Cancel-safe.
    pub(super) async fn fetched_again(&self) {
        let mut progress = self.following.progress.subscribe();
        let Progress { attempts, rests_until } = *progress.borrow_and_update();
        if Instant::now() < rests_until {
            return;
        }
        self.following.wanted.notify_one();
        // What came of it is seen in the keys.
        let _ = timeout(PATIENCE, progress.wait_for(|progress| progress.attempts > attempts)).await;
    }
}

impl Following {
    async fn run(self: Arc<Self>) {
        let mut failing = false;
        loop {
            let outcome = timeout(FETCH, self.fetch()).await.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
            let next = match outcome {
                Ok(keys) => {
                    if failing || self.keys.load().is_none() {
                        tracing::info!(keys = keys.len(), "the keys of the identity provider (server.oauth.url) were fetched");
                    }
                    failing = false;
                    let (epoch, before) = (keys.epoch, self.keys.swap(Some(Arc::new(keys))));
                    if let Some(before) = before.filter(|before| before.epoch != epoch) {
                        before.withdrawn.cancel();
                    }
                    self.config.poll_interval
                }
                Err(why) => {
                    self.tell(&why, failing);
                    failing = true;
                    self.config.poll_interval.min(RETRY)
                }
            };
            let rest = if self.keys.load().is_some() { REST } else { REST_WITHOUT_KEYS };
            let rests_until = Instant::now() + rest;
            self.progress.send_modify(|progress| *progress = Progress { attempts: progress.attempts + 1, rests_until });
            let next = Instant::now() + next;
            sleep(rest).await;
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// A failure is told once, until there is another outcome.
    fn tell(&self, why: &str, again: bool) {
        let url = self.config.url.as_str();
        match (again, self.keys.load().is_some()) {
            (true, _) => tracing::debug!(url, "the keys of the identity provider could still not be fetched: {why}"),
            (false, true) => tracing::warn!(
                url,
                key = "server.oauth.url",
                "the keys of the identity provider could not be fetched, and those of before go on: {why}"
            ),
            (false, false) => tracing::warn!(
                url,
                key = "server.oauth.url",
                "the keys of the identity provider could not be fetched, and no token can be verified: {why}"
            ),
        }
    }

    /// Each time over a connection of its own, with the files of the TLS policy as they are now.
    async fn fetch(self: &Arc<Self>) -> Result<KeySet, String> {
        let this = Arc::clone(self);
        let client = tokio::task::spawn_blocking(move || this.client()).await.map_err(|_| "reading the files broke off".to_owned())??;
        let request = Request::builder()
            .method(Method::GET)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("nexus/", env!("CARGO_PKG_VERSION")))
            .body(Bytes::new())
            .map_err(|error| format!("the request cannot be made: {error}"))?;
        let response = client.send(request).await.map_err(|error| error.explanation.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answered with status {}", response.status().as_u16()));
        }
        let document = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        let document = document.map_err(|_| format!("its answer broke off, or is longer than {MAX_DOCUMENT} bytes"))?.to_bytes();
        KeySet::parse(&document, self.keys.load().as_deref())
    }

    fn client(&self) -> Result<HttpClient, String> {
        let (config, clock) = (&self.config, &self.surroundings.clock);
        let host = config.url.host_str().unwrap_or_default();
        let load = || config.tls.load(host, &*self.surroundings.sources, &system_cas, clock.now());
        let policy = if config.url.scheme() == "https" { Some(load().map_err(|explanation| explanation.to_string())?) } else { None };
        HttpClient::new(&config.url, policy.as_ref(), CONNECT).map_err(|explanation| explanation.to_string())
    }
}
