//! What happened, and what happens while somebody looks.

use std::time::Duration;

use serde_json::Value;

use crate::support::{client::Response, fake::legacy, nexus::gateway, soon};

/// The next event that `wanted` recognises.
async fn next_event(stream: &mut Response, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = stream.next().await.expect("the stream goes on");
        if wanted(&event) {
            return event;
        }
    }
}

#[tokio::test]
async fn a_follower_sees_what_was_and_what_comes() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("x").get_stream()).start().await;
    let mut stream = nexus.operator().with("accept", "text/event-stream").get("/api/v1/events?since=0").await;
    let up = next_event(&mut stream, |event| event["kind"] == "state_changed" && event["detail"] == "up").await;
    assert_eq!((&up["upstream"], &up["severity"]), (&"crm".into(), &"info".into()));
    nexus.fake("crm").change(|offer| offer.tools.clear());
    nexus.fake("crm").tools_changed().await;
    let lists = next_event(&mut stream, |event| event["kind"] == "list_changed" && event["detail"].as_str().unwrap().contains("→ 0")).await;
    assert!(lists["detail"].as_str().unwrap().contains("crm 1 → 0 tools"), "{lists}");
    nexus.fake("crm").go_down();
    let down = next_event(&mut stream, |event| event["severity"] == "error").await;
    assert_eq!((&down["kind"], &down["upstream"]), (&"state_changed".into(), &"crm".into()));
    assert!(down["reason"].is_string() && down["at"].as_str().unwrap().ends_with('Z'), "{down}");
    assert!(down["id"].as_u64() > lists["id"].as_u64());
}

#[tokio::test]
async fn since_gives_only_what_came_after_it() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("x")).start().await;
    let operator = nexus.operator();
    let noted = async {
        loop {
            let all = operator.json("/api/v1/events").await;
            // The state and the list of the first bring-up.
            if all["last"].as_u64() >= Some(2) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let all = soon("two events", noted).await;
    let last = all["last"].as_u64().unwrap();
    let later = operator.json(&format!("/api/v1/events?since={}", last - 1)).await;
    assert_eq!(later["events"].as_array().unwrap().len(), 1);
    assert_eq!(later["events"][0]["id"], last);
    let none = operator.json(&format!("/api/v1/events?since={last}")).await;
    assert_eq!((&none["events"], &none["last"]), (&Value::Array(Vec::new()), &last.into()));
    assert_eq!(operator.status("/api/v1/events?since=yesterday").await, 400);
}
