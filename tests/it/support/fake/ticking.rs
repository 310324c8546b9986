//! Streams that end when the test says so.

use serde_json::json;

use super::Streams;

/// Answers each call with a stream that lasts until the next tick.
pub(crate) async fn stream_until_the_next_tick(mut streams: Streams, tick: tokio::sync::watch::Sender<u32>) {
    while let Some((call, sender)) = streams.recv().await {
        let mut ticks = tick.subscribe();
        let now = *ticks.borrow_and_update();
        tokio::spawn(async move {
            sender
                .event(
                    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
                        .to_string(),
                )
                .await;
            let _ = ticks.wait_for(|tick| *tick > now).await;
            sender.event(call.response(r#""resultType":"complete","content":[]"#)).await;
        });
    }
}
