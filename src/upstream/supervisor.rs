//! Keeps one upstream up: brings it up, listens for changes, notices its end, tries again with back-off.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Concern, Generation, Session, State, Upstream, UpstreamError,
    answer::Messages,
    awaiting::await_callers,
    bring_up::bring_up,
    condition::insecure_credential,
    generation::{Notice, Outgoing},
    own::{OwnAnswers, own_meta},
    rotation::{excuse_has_lapsed, is_about_identity, may_go_on, reject, rotated, trial},
    session::SessionLink,
    walk::{MAX_QUARANTINED, WalkBounds, walk},
};
use crate::{
    mcp::{Era, Id, Kind, Message, Method, build, headers, offer::Offer},
    reason::{Explanation, Reason},
};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Several list_changed in a row become one refresh.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A server that announces changes all the time is listed no more often than this.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);
/// A stream for changes that ended sooner is opened again with growing pauses.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// Longest wait for a child's answer to a subscription: it may know no such thing.
const CHILD_ACKNOWLEDGED: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_secs(30);
const NOTICES: usize = 256;

/// Runs until `shutdown`; the upstream's sessions and processes are ended before it returns.
pub(crate) async fn supervise(upstream: Arc<Upstream>, shutdown: CancellationToken) {
    tokio::select! {
        // In this order: nothing is started for a gateway that ends.
        biased;
        () = shutdown.cancelled() => {}
        () = upstream.dismissed() => tokio::select! {
            () = shutdown.cancelled() => {}
            () = upstream.run_out() => {}
        },
        () = keep_up(&upstream) => {}
    }
    upstream.close_all().await;
}

async fn keep_up(upstream: &Arc<Upstream>) {
    let (notices, mut inbox) = mpsc::channel(NOTICES);
    let mut delay = FIRST_RETRY;
    let mut serving = Serving::default();
    let mut previous: Option<Arc<Generation>> = None;
    loop {
        if upstream.awaits_callers() {
            await_callers(upstream).await;
        }
        match bring_up(upstream, notices.clone()).await {
            Ok(up) => {
                delay = FIRST_RETRY;
                upstream.warn_of(&up.warnings);
                let generation = Arc::new(up.generation);
                upstream.now_serving(Some(Arc::clone(&generation)));
                upstream.concern(Concern::Insecure, insecure_credential(upstream).as_ref());
                upstream.concern(Concern::Quarantine, left_out(&up.offer).as_ref());
                upstream.now_offering(Arc::new(up.offer));
                upstream.suspect(None);
                upstream.concern(Concern::Reload, None);
                upstream.now_up(Some(up.policy));
                upstream.tell_served(generation.era());
                if let Some(old) = previous.take() {
                    upstream.retire(old, &generation);
                }
                previous = Some(serving.serve(upstream, generation, &mut inbox).await);
            }
            Err(explanation) => match still_good(upstream, previous.as_ref(), &explanation).await {
                Some(running) => previous = Some(serving.serve(upstream, running, &mut inbox).await),
                None => {
                    upstream.now_serving(None);
                    upstream.tell_failed(&explanation);
                    // Nobody's token becomes better by being shown again.
                    let is_refused = upstream.behalf().is_some() && is_about_caller(explanation.reason);
                    upstream.now_in(State::Down(explanation), None);
                    let busy = upstream.busy.left();
                    tokio::select! {
                        () = sleep(jittered(delay).max(busy.unwrap_or_default())), if !is_refused => delay = (delay * 2).min(LONGEST_RETRY),
                        () = upstream.recheck.notified(), if busy.is_none() => delay = (delay * 2).min(LONGEST_RETRY),
                        // What was wrong with its files may be right now.
                        () = upstream.files.changed() => delay = FIRST_RETRY,
                        () = upstream.reconfigured.notified() => delay = FIRST_RETRY,
                        () = discard(&mut inbox) => {}
                    }
                }
            },
        }
    }
}

/// What is known of the times it served before.
struct Serving {
    /// Before it is brought up again; grows while it serves only for moments.
    pause: Duration,
}

impl Default for Serving {
    fn default() -> Self {
        Self { pause: FIRST_RETRY }
    }
}

impl Serving {
    /// Serves until something is wrong, and gives what goes on serving until the next bring-up has come to something.
    async fn serve(
        &mut self,
        upstream: &Arc<Upstream>,
        generation: Arc<Generation>,
        inbox: &mut mpsc::Receiver<Notice>,
    ) -> Arc<Generation> {
        drain(&upstream.recheck).await;
        let began = Instant::now();
        let (generation, end) = attend(upstream, generation, inbox).await;
        self.pause = if began.elapsed() < SHORT_LIFE { (self.pause * 2).min(LONGEST_RETRY) } else { FIRST_RETRY };
        match end {
            // The old generation goes on serving until the new one is there or known to be impossible. For calls that are still
            // in the one before, the new one waits a while.
            End::Recheck => {
                sleep(jittered(self.pause)).await;
                drop(timeout(LONGEST_RETRY, upstream.room_to_drain()).await);
            }
            End::Lost(explanation) => {
                upstream.now_serving(None);
                upstream.now_in(State::Down(explanation), None);
                sleep(jittered(self.pause)).await;
            }
        }
        generation
    }
}

/// A generation that still answers goes on when only the files that would take its place are bad.
async fn still_good(upstream: &Upstream, running: Option<&Arc<Generation>>, why: &Explanation) -> Option<Arc<Generation>> {
    let running =
        running.filter(|running| !running.is_stdio() && is_about_identity(why.reason) && may_go_on(upstream, running, why.reason))?;
    let serves = upstream.generation().is_ok_and(|serving| serving.number() == running.number());
    if !serves || trial(running).await.is_err() {
        return None;
    }
    reject(upstream, running, why);
    Some(Arc::clone(running))
}

fn is_about_caller(reason: Reason) -> bool {
    matches!(reason, Reason::AuthRequired | Reason::AuthTokenEndpoint | Reason::NeedsCaller)
}

/// What was reported so far was about the generation before.
async fn drain(recheck: &Notify) {
    tokio::select! {
        biased;
        () = recheck.notified() => {}
        () = std::future::ready(()) => {}
    }
}

/// Notices of a process that is on its way out say nothing any more.
async fn discard(inbox: &mut mpsc::Receiver<Notice>) {
    while inbox.recv().await.is_some() {}
}

/// Between 80 % and 120 % of `delay`, so that replicas and upstreams do not come in step.
fn jittered(delay: Duration) -> Duration {
    let mut byte = [128_u8];
    // Without randomness the delay is merely not jittered.
    let _ = SystemRandom::new().fill(&mut byte);
    delay.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}

fn left_out(offer: &Offer) -> Option<Explanation> {
    let first = offer.quarantined.first()?;
    let name = first.name.as_deref().unwrap_or("nameless");
    let more = if offer.quarantined.len() < MAX_QUARANTINED { "" } else { " or more" };
    let count = format!("{}{more}", offer.quarantined.len());
    Some(Explanation::new(
        Reason::Protocol,
        format!("{count} of its items are left out, the first is {name:?}: {}", first.why),
        "mend the item on the server; it would break the whole list of many clients",
    ))
}

enum End {
    Lost(Explanation),
    Recheck,
}

/// Follows what the upstream says and what its files say. Gives the generation that serves in the end.
async fn attend(upstream: &Arc<Upstream>, mut generation: Arc<Generation>, inbox: &mut mpsc::Receiver<Notice>) -> (Arc<Generation>, End) {
    loop {
        let rotated = tokio::select! {
            end = Box::pin(attend_one(upstream, &generation, inbox)) => return (generation, end),
            // Its sessions are streams of its own connections: another generation begins with others.
            () = changed(upstream), if generation.is_sse() => return (generation, End::Recheck),
            rotated = Box::pin(rotated(upstream, &generation)), if !generation.is_sse() => rotated,
        };
        // Its stream for changes begins anew on the new generation, with a look at what changed in between.
        generation = upstream.swap(rotated, generation);
        upstream.missed.notify_one();
    }
}

/// Waits for other files or another configuration.
async fn changed(upstream: &Upstream) {
    tokio::select! {
        () = upstream.files.changed() => {}
        () = upstream.reconfigured.notified() => {}
    }
}

async fn attend_one(upstream: &Arc<Upstream>, generation: &Arc<Generation>, inbox: &mut mpsc::Receiver<Notice>) -> End {
    let mut stream = match open_stream(generation).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(upstream = %upstream.name(), %error, "no stream for changes");
            None
        }
    };
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut opened, mut pause, mut reopen_at) = (Instant::now(), FIRST_RETRY, None);
    let (mut refresh_at, mut refreshed): (Option<Instant>, Option<Instant>) = (None, None);
    let own = OwnAnswers::new();
    loop {
        tokio::select! {
            message = next(&mut stream) => match message {
                Some(Ok(message)) => {
                    if is_list_change(&message) {
                        refresh_at.get_or_insert_with(|| due(refreshed));
                    } else {
                        own.answer(upstream, generation, message);
                    }
                }
                // The stream ended: an idle time-out of some proxy, or the server's end. Opening it again tells.
                Some(Err(_)) | None => {
                    stream = None;
                    pause = if opened.elapsed() < SHORT_LIFE { (pause * 2).min(LONGEST_RETRY) } else { FIRST_RETRY };
                    reopen_at = Some(Instant::now() + jittered(pause));
                }
            },
            () = at(reopen_at) => {
                (reopen_at, opened) = (None, Instant::now());
                match open_stream(generation).await {
                    Ok(Some(again)) => {
                        stream = Some(again);
                        refresh_at.get_or_insert_with(|| due(refreshed));
                    }
                    Err(UpstreamError::Busy { after, .. }) => reopen_at = Some(Instant::now() + after.max(FIRST_RETRY)),
                    // It had a stream and has none now, or cannot be reached: it may be another server.
                    Ok(None) | Err(_) => return End::Recheck,
                }
            }
            Some(notice) = inbox.recv() => {
                if is_list_change(&notice.message) {
                    refresh_at.get_or_insert_with(|| due(refreshed));
                } else if upstream.notices.try_send((upstream.id(), notice)).is_err() {
                    tracing::debug!(upstream = %upstream.name(), "too many notifications at once; one dropped");
                }
            }
            () = at(refresh_at) => {
                (refresh_at, refreshed) = (None, Some(Instant::now()));
                let outcome = tokio::select! {
                    outcome = refresh(upstream, generation) => outcome,
                    explanation = end_of_process(generation) => return End::Lost(explanation),
                };
                if let Err(UpstreamError::Busy { after, .. }) = outcome {
                    refresh_at = Some(Instant::now() + after.max(REFRESH_PAUSE));
                } else if let Err(error) = outcome {
                    tracing::warn!(upstream = %upstream.name(), %error, "the lists could not be read again");
                    return End::Recheck;
                }
            }
            explanation = end_of_process(generation) => return End::Lost(explanation),
            () = upstream.recheck.notified() => return End::Recheck,
            () = upstream.missed.notified() => {
                refresh_at.get_or_insert_with(|| due(refreshed));
            }
            _ = sweep.tick() => {
                if excuse_has_lapsed(upstream, generation) {
                    tracing::warn!(upstream = %upstream.name(), "accept_expired_until has lapsed; connecting again without it");
                    return End::Recheck;
                }
                upstream.sweep();
            }
        }
    }
}

/// When to list again after a change was announced.
fn due(refreshed: Option<Instant>) -> Instant {
    let soon = Instant::now() + DEBOUNCE;
    refreshed.map_or(soon, |last| soon.max(last + REFRESH_PAUSE))
}

async fn refresh(upstream: &Upstream, generation: &Generation) -> Result<(), UpstreamError> {
    let Some(known) = upstream.offer() else { return Ok(()) };
    let bounds =
        WalkBounds { max_list: upstream.bounds.max_list, max_items: upstream.bounds.max_items, max_pages: upstream.bounds.max_pages };
    let offer = walk(generation, known.greeting.clone(), bounds).await?;
    upstream.concern(Concern::Quarantine, left_out(&offer).as_ref());
    upstream.now_offering(Arc::new(offer));
    Ok(())
}

async fn next(stream: &mut Option<Messages>) -> Option<Result<bytes::Bytes, UpstreamError>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn end_of_process(generation: &Generation) -> Explanation {
    match generation.own_session.as_ref().map(|session| &session.link) {
        Some(SessionLink::Process(process)) => process.ended().await,
        _ => std::future::pending().await,
    }
}

fn is_list_change(message: &bytes::Bytes) -> bool {
    Message::parse(message.clone()).is_ok_and(|message| {
        message.kind() == Kind::Notification
            && matches!(Method::parse(message.method()), Some(Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged))
    })
}

fn is_acknowledgement(message: &bytes::Bytes) -> bool {
    Message::parse(message.clone()).is_ok_and(|message| Method::parse(message.method()) == Some(Method::Acknowledged))
}

/// The stream on which the upstream says that a list changed: GET in the legacy era, `subscriptions/listen` in the modern.
async fn open_stream(generation: &Generation) -> Result<Option<Messages>, UpstreamError> {
    match (&generation.own_session, generation.era) {
        (Some(session), Era::Legacy) => timeout(generation.list_timeout, generation.listen(session))
            .await
            .unwrap_or(Err(UpstreamError::TimedOut(generation.list_timeout))),
        (None, Era::Modern) => subscribe(generation, None).await,
        (Some(child), Era::Modern) => {
            let Some(mut messages) = subscribe(generation, Some(child)).await? else { return Ok(None) };
            // A child that has no such stream answers with an error, or not at all.
            let first = timeout(CHILD_ACKNOWLEDGED, messages.next()).await;
            let is_open = first.is_ok_and(|first| first.is_some_and(|first| first.is_ok_and(|first| is_acknowledgement(&first))));
            Ok(is_open.then_some(messages))
        }
        (None, Era::Legacy) => Ok(None),
    }
}

/// MCP 2026-07-28, basic/subscriptions: one long request whose stream carries the notifications.
async fn subscribe(generation: &Generation, child: Option<&Arc<Session>>) -> Result<Option<Messages>, UpstreamError> {
    let id = generation.own_id();
    let filter = br#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}"#;
    let params = crate::mcp::splice::object(&[("_meta", &own_meta().object()), ("notifications", filter)]);
    let body = build::request(&Id::from_u64(id), Method::Listen, Some(&params));
    let mut routing = http::HeaderMap::new();
    routing.insert(http::HeaderName::from_static(headers::METHOD), http::HeaderValue::from_static(Method::Listen.as_str()));
    match generation.exchange(child, Outgoing { body, id, owner: None, caller: None, routing, is_endless: true }).await {
        Ok(super::Answer::Messages(messages)) => Ok(Some(messages)),
        // It offers no such stream: changes are then seen at the next reconnect only.
        Ok(_) => Ok(None),
        Err(error) if error.reason() == Reason::HttpStatus || error.reason() == Reason::Protocol => Ok(None),
        Err(error) => Err(error),
    }
}
