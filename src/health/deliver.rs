//! Sends alerts: a queue for each channel, so that one that hangs keeps nobody waiting.

mod payload;
mod smtp;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    address::OwnAddress,
    alert::Alert,
    board::ChannelCounts,
    claim::{Claims, Turn, Turns},
    config::{ChannelConfig, MailSecurity, Receiver},
    jitter::jittered,
};
use crate::{
    clock::Clock,
    outbound::{HttpClient, HttpVersion, Way, system_cas},
    reason::Explanation,
    sources::Sources,
    tls::TlsPolicy,
};

/// Most alerts that wait for one channel; then the oldest is given up.
pub(super) const MAX_WAITING: usize = 100;

/// One attempt: connecting, sending, the answer.
pub(super) const ATTEMPT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// What could not be sent for so long says nothing any more.
const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);

/// What the channels need of the rest.
#[derive(Clone, Debug)]
pub(super) struct Office {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) address: OwnAddress,
    /// Present where other replicas have the same to tell.
    pub(super) claims: Option<Arc<Claims>>,
}

/// Takes alerts and never waits.
#[derive(Debug)]
pub(super) struct Desk {
    office: Office,
    /// Set after each change of a queue.
    changed: Arc<AtomicBool>,
    tasks: TaskTracker,
    stop: CancellationToken,
    channels: Vec<Open>,
}

/// A channel that is worked on until it is closed.
#[derive(Debug)]
struct Open {
    /// [`ChannelConfig::key`], with a number after it where several channels have the same receiver.
    key: String,
    channel: Arc<Channel>,
    close: CancellationToken,
}

#[derive(Debug)]
struct Channel {
    setup: Mutex<Arc<Setup>>,
    queue: Mutex<VecDeque<Alert>>,
    turns: Turns,
    arrived: Notify,
    set_up: Notify,
    changed: Arc<AtomicBool>,
    office: Office,
}

/// How a channel is set up: another one does not keep it from sending.
#[derive(Debug)]
struct Setup {
    config: ChannelConfig,
    counts: Arc<ChannelCounts>,
}

impl Desk {
    /// Without channels. Those to come work until `stop`; `changed` is set after each change of a queue.
    pub(super) fn new(office: Office, changed: &Arc<AtomicBool>, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        Self { office, changed: Arc::clone(changed), tasks: tasks.clone(), stop: stop.clone(), channels: Vec::new() }
    }

    /// Takes these channels instead of those of now. One with the same receiver keeps what waits for it; what waits for one that
    /// is gone is given up. `waiting`: what was not sent before a restart, by the channel's key.
    pub(super) fn set_up(&mut self, configs: &[ChannelConfig], mut waiting: BTreeMap<String, VecDeque<Alert>>) {
        let mut before = std::mem::take(&mut self.channels);
        for (index, config) in configs.iter().enumerate() {
            let key = self.free_key(config);
            let name = format!("{} {}", config.receiver.word(), index + 1);
            let open = match before.iter().position(|open| open.key == key) {
                Some(place) => {
                    let open = before.swap_remove(place);
                    open.channel.take(config.clone(), name);
                    open
                }
                None => self.open(key.clone(), config.clone(), name, waiting.remove(&key).unwrap_or_default()),
            };
            self.channels.push(open);
        }
        for open in before {
            open.close.cancel();
            open.channel.give_up_all();
        }
        for (channel, queue) in waiting.iter().filter(|(_, queue)| !queue.is_empty()) {
            tracing::warn!(channel, alerts = queue.len(), "the channel is not in the file any more; what waited for it is given up");
        }
        self.changed.store(true, Ordering::Relaxed);
    }

    fn free_key(&self, config: &ChannelConfig) -> String {
        let key = config.key();
        let is_free = |key: &String| self.channels.iter().all(|open| open.key != *key);
        let numbered = (2_usize..).map(|number| format!("{key} {number}"));
        std::iter::once(key.clone()).chain(numbered).find(is_free).unwrap_or(key)
    }

    fn open(&self, key: String, config: ChannelConfig, name: String, mut queue: VecDeque<Alert>) -> Open {
        queue.truncate(MAX_WAITING);
        let channel = Arc::new(Channel {
            setup: Mutex::new(Arc::new(Setup { config, counts: Arc::new(ChannelCounts::new(name)) })),
            queue: Mutex::new(queue),
            turns: Turns::new(self.office.claims.clone(), key.clone()),
            arrived: Notify::new(),
            set_up: Notify::new(),
            changed: Arc::clone(&self.changed),
            office: self.office.clone(),
        });
        channel.count();
        let close = self.stop.child_token();
        let (working, closed) = (Arc::clone(&channel), close.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = working.work() => {}
                () = closed.cancelled() => {}
            }
        });
        Open { key, channel, close }
    }

    pub(super) fn counts(&self) -> Vec<Arc<ChannelCounts>> {
        self.channels.iter().map(|open| Arc::clone(&open.channel.setup().counts)).collect()
    }

    pub(super) fn tell(&self, alert: &Alert) {
        for Open { channel, .. } in &self.channels {
            if alert.severity() >= channel.setup().config.min_severity {
                channel.put(alert.clone());
            }
        }
    }

    /// What was not sent yet, by the channel's key.
    pub(super) fn waiting(&self) -> BTreeMap<String, VecDeque<Alert>> {
        let waiting = self.channels.iter().map(|open| (open.key.clone(), open.channel.queue.lock().clone()));
        waiting.filter(|(_, queue)| !queue.is_empty()).collect()
    }
}

/// Why an alert was not sent. The words hold no secret.
#[derive(Debug)]
pub(super) struct Undelivered {
    words: String,
    again: Again,
}

#[derive(Debug)]
enum Again {
    /// With growing pauses.
    Later,
    /// After the pause that the receiver asked for.
    After(Duration),
    /// The receiver will not take it however often it is sent.
    Never,
}

impl Undelivered {
    fn later(words: impl Into<String>) -> Self {
        Self { words: words.into(), again: Again::Later }
    }

    fn never(words: impl Into<String>) -> Self {
        Self { words: words.into(), again: Again::Never }
    }

    #[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
    fn explained(explanation: Explanation) -> Self {
        Self::later(format!("{explanation}; {}", explanation.remedy))
    }
}

impl Channel {
    fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.lock())
    }

    /// Goes on with other settings. Under another name it is counted from nothing, as everything in a series of its own is.
    fn take(&self, config: ChannelConfig, name: String) {
        {
            let mut setup = self.setup.lock();
            let counts = if setup.counts.name == name { Arc::clone(&setup.counts) } else { Arc::new(ChannelCounts::new(name)) };
            *setup = Arc::new(Setup { config, counts });
        }
        self.count();
        self.set_up.notify_one();
    }

    /// Nobody works on it any more.
    fn give_up_all(&self) {
        let left = self.queue.lock().len();
        if left > 0 {
            tracing::warn!(
                channel = self.setup().counts.name,
                alerts = left,
                "the channel was taken out of the file; what waited for it is given up"
            );
        }
    }

    fn put(&self, alert: Alert) {
        let full = {
            let mut queue = self.queue.lock();
            let full = queue.len() >= MAX_WAITING;
            if full {
                queue.pop_front();
            }
            queue.push_back(alert);
            full
        };
        if full {
            self.gave_up("too many alerts wait for it; the oldest was given up");
        }
        self.count();
        self.arrived.notify_one();
    }

    /// Never ends. Cancel-safe: what is being sent stays in the queue.
    async fn work(&self) {
        // Kept for the next alert; made anew after a failure, because the CA file may have changed, and with other settings.
        let mut client = None;
        let mut setup = self.setup();
        let mut pause = FIRST_RETRY;
        loop {
            let Some(alert) = self.queue.lock().front().cloned() else {
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = self.turns.keep() => {}
                }
                continue;
            };
            if !self.is_ours(&alert).await {
                pause = FIRST_RETRY;
                continue;
            }
            let latest = self.setup();
            if !Arc::ptr_eq(&latest, &setup) {
                (setup, client, pause) = (latest, None, FIRST_RETRY);
            }
            let attempt = timeout(ATTEMPT, self.send(&setup.config, &alert, &mut client)).await;
            let Err(error) = attempt.unwrap_or_else(|_| Err(Undelivered::later(format!("no answer within {ATTEMPT:?}")))) else {
                setup.counts.sent.fetch_add(1, Ordering::Relaxed);
                pause = FIRST_RETRY;
                self.turns.sent(&alert).await;
                self.done(&alert);
                continue;
            };
            client = None;
            setup.counts.failed.fetch_add(1, Ordering::Relaxed);
            let age = self.office.clock.now().saturating_sub(Duration::from_secs(alert.at));
            match error.again {
                // The next alert has nothing to do with why this one was not taken.
                Again::Never => {
                    self.gave_up(&error.words);
                    pause = FIRST_RETRY;
                    self.done(&alert);
                }
                _ if age > GIVE_UP => {
                    self.gave_up(&format!("it could not be sent for a day: {}", error.words));
                    pause = FIRST_RETRY;
                    self.done(&alert);
                }
                again => {
                    // Once for each alert, not for each attempt.
                    if pause == FIRST_RETRY {
                        tracing::warn!(channel = setup.counts.name, error = error.words, "an alert could not be sent; it is tried again");
                    }
                    let asked = if let Again::After(asked) = again { asked } else { Duration::ZERO };
                    tokio::select! {
                        () = sleep(jittered(pause.max(asked.min(LONGEST_RETRY)))) => {}
                        // They may be what mends it.
                        () = self.set_up.notified() => {}
                    }
                    pause = (pause * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Whether it is ours to send and no other replica's. If not, it is to be looked at again.
    async fn is_ours(&self, alert: &Alert) -> bool {
        match self.turns.take(alert).await {
            Turn::Ours => return true,
            Turn::Sent => self.done(alert),
            Turn::Later(wait) => sleep(jittered(wait)).await,
        }
        false
    }

    /// Takes the alert out of the queue, unless a full queue has pushed it out already.
    fn done(&self, alert: &Alert) {
        {
            let mut queue = self.queue.lock();
            if queue.front() == Some(alert) {
                queue.pop_front();
            }
        }
        self.count();
    }

    fn gave_up(&self, why: &str) {
        let setup = self.setup();
        setup.counts.dropped.fetch_add(1, Ordering::Relaxed);
        tracing::error!(channel = setup.counts.name, error = why, "an alert was given up");
    }

    fn count(&self) {
        self.setup().counts.waiting.store(self.queue.lock().len() as u64, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
    }

    async fn send(&self, config: &ChannelConfig, alert: &Alert, client: &mut Option<HttpClient>) -> Result<(), Undelivered> {
        let gateway = &self.office.address.name();
        let (url, body) = match &config.receiver {
            Receiver::Webhook(url) => (url, payload::webhook(alert, gateway)),
            Receiver::Slack(url) => (url, payload::slack(alert, gateway)),
            Receiver::PagerDuty { url, routing_key } => (url, payload::pagerduty(alert, gateway, routing_key.expose())),
            Receiver::Email(mail) => {
                let policy = if mail.security == MailSecurity::Plain { None } else { Some(self.policy(config, &mail.host)?) };
                let (subject, text) = payload::mail(alert, gateway);
                return Box::pin(smtp::send(mail, policy.as_ref(), config.proxy.clone(), &subject, text)).await;
            }
        };
        let client = match client {
            Some(client) => client,
            none => none.insert(self.client(config, url.expose())?),
        };
        post(client, body.to_string().into()).await
    }

    fn client(&self, config: &ChannelConfig, url: &Url) -> Result<HttpClient, Undelivered> {
        let policy = match url.scheme() {
            "https" => Some(self.policy(config, url.host_str().unwrap_or_default())?),
            _ => None,
        };
        let way = Way { version: HttpVersion::Http1, proxy: config.proxy.clone() };
        HttpClient::by(way, url, policy.as_ref(), CONNECT).map_err(Undelivered::explained)
    }

    fn policy(&self, config: &ChannelConfig, host: &str) -> Result<TlsPolicy, Undelivered> {
        let Office { clock, sources, .. } = &self.office;
        config.tls.load(host, &**sources, &system_cas, clock.now()).map_err(Undelivered::explained)
    }
}

async fn post(client: &HttpClient, body: Bytes) -> Result<(), Undelivered> {
    let request = Request::builder()
        .method(Method::POST)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("nexus/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .map_err(|error| Undelivered::never(format!("the request cannot be made: {error}")))?;
    let response = client.send(request).await.map_err(|error| Undelivered::explained(error.explanation))?;
    let status = response.status();
    let words = || format!("the receiver answered with status {}", status.as_u16());
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let again = asked.map_or(Again::Later, |seconds| Again::After(Duration::from_secs(seconds)));
            Err(Undelivered { words: words(), again })
        }
        StatusCode::REQUEST_TIMEOUT => Err(Undelivered::later(words())),
        // Another credential may be on its way: the alert waits for it.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Undelivered::later(format!("{}; check url and the receiver's settings", words())))
        }
        _ if status.is_server_error() => Err(Undelivered::later(words())),
        _ => Err(Undelivered::never(format!("{}; check url and the receiver's settings", words()))),
    }
}
