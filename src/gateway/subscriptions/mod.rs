//! Who hears of which resource: `resources/subscribe` of legacy clients and `subscriptions/listen` of modern ones, at
//! upstreams of either era.
//!
//! ```text
//!                  legacy upstream                              modern upstream
//! legacy client    requests ─▶ its session there; keeper        requests ─▶ feed: one listen a session and upstream
//! modern client    part ─▶ hub: one stream a pooled session     part: one listen a client's listen and upstream
//! ```

mod feed;
mod hub;
mod keeper;
mod modern;
mod part;
mod requests;
mod sink;
mod wanted;
mod wishes;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

pub(super) use self::{
    feed::Feeds,
    hub::Hubs,
    part::Part,
    sink::ListenSink,
    wanted::Wanted,
    wishes::{TASKS_EXTENSION, Wishes, declares_tasks},
};
use crate::mcp::{Field, Message, Method, Splices, build, json::quote, splice::object};

/// Resources that one legacy session, or one `subscriptions/listen`, may follow.
pub(super) const MAX_URIS: usize = 1024;
/// Longest URI that is followed, in bytes.
pub(super) const MAX_URI: usize = 8 * 1024;

/// Pause before a subscription that broke off is made again; doubles while that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between attempts, which grow as long as nothing lasts.
#[derive(Debug)]
struct Pauses {
    next: Duration,
    /// When the last pause was over.
    since: Instant,
}

impl Pauses {
    fn new() -> Self {
        Self { next: FIRST_PAUSE, since: Instant::now() }
    }

    /// Waits before the next attempt.
    async fn wait(&mut self) {
        if self.since.elapsed() > LONGEST_PAUSE {
            self.next = FIRST_PAUSE;
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        self.since = Instant::now();
    }
}

/// Tells one subscriber from every other in this process's life.
pub(super) fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Whether who subscribed to `subscribed` is to hear of `updated`, which may be a part of it (MCP, schema,
/// ResourceUpdatedNotification).
pub(super) fn covers(subscribed: &str, updated: &str) -> bool {
    let Some(rest) = updated.strip_prefix(subscribed) else { return false };
    rest.is_empty() || subscribed.ends_with('/') || rest.starts_with(['/', '?', '#'])
}

/// Says that a resource may have changed: what happened while nobody could hear it is not known.
fn maybe_updated(uri: &str) -> Bytes {
    build::notification(Method::ResourceUpdated, Some(&object(&[("uri", &quote(uri))])))
}

/// The message under the tag of another subscription; `None` takes the tag out.
fn retagged(message: &Message, subscription: Option<&[u8]>, splices: &mut Splices) {
    let key = Field::MetaSubscriptionId.key();
    match (message.span(Field::MetaSubscriptionId), subscription) {
        (Some(span), Some(id)) => splices.replace(span, Bytes::copy_from_slice(id)),
        (None, Some(id)) => splices.request_meta(message, &[(key, id)]),
        (Some(_), None) => {
            if let Some(meta) = message.meta_span() {
                let taken = splices.edit_object(message.bytes(), meta, |member| member == key, &[]);
                taken.expect("a message's spans hold valid JSON: it was parsed");
            }
        }
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_covers_the_resource_and_what_lies_within() {
        for (subscribed, updated, covered) in [
            ("file:///a", "file:///a", true),
            ("file:///a", "file:///a/b", true),
            ("file:///a/", "file:///a/b", true),
            ("file:///a", "file:///a?x", true),
            ("file:///a", "file:///a#x", true),
            ("file:///a", "file:///ab", false),
            ("file:///a/b", "file:///a", false),
            ("file:///a", "file:///c", false),
        ] {
            assert_eq!(covers(subscribed, updated), covered, "{subscribed} {updated}");
        }
    }

    #[test]
    fn a_tag_is_replaced_added_or_taken_out() {
        let tagged = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"x":1.0,"io.modelcontextprotocol/subscriptionId":7},"uri":"u"}}"#;
        let plain = r#"{"jsonrpc":"2.0","method":"m","params":{"uri":"u"}}"#;
        for (text, tag, expected) in [
            (
                tagged,
                Some(&b"\"a\""[..]),
                r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"x":1.0,"io.modelcontextprotocol/subscriptionId":"a"},"uri":"u"}}"#,
            ),
            (tagged, None, r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"x":1.0},"uri":"u"}}"#),
            (
                plain,
                Some(b"1"),
                r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"uri":"u"}}"#,
            ),
            (plain, None, plain),
        ] {
            let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
            let mut splices = Splices::new();
            retagged(&message, tag, &mut splices);
            assert_eq!(splices.apply(message.bytes()), expected);
        }
    }
}
