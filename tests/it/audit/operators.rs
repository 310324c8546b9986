//! What operators did, and who was not let to.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use nexus::{admin::Reload, problem::Problem};
use serde_json::json;

use super::Log;
use crate::support::fake::modern;

#[derive(Debug)]
struct Nothing;

impl Reload for Nothing {
    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, Vec<Problem>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test]
async fn a_reload_a_probe_and_whoever_lacks_the_token_leave_a_line() {
    let log = Log::new();
    let spec = log.of_a_gateway().admin("token = \"hush-of-the-operator\"").reload(Arc::new(Nothing));
    let nexus = spec.upstream("a", modern().tool("x")).start().await;
    let operator = nexus.operator().showing("hush-of-the-operator");
    for (count, path, action, upstream, outcome, status) in [
        (1, "/api/v1/reload", "reload", json!(null), "ok", 200),
        (2, "/api/v1/upstreams/a/probe", "probe", json!("a"), "ok", 200),
        (3, "/api/v1/upstreams/none/probe", "probe", json!("none"), "error", 404),
    ] {
        assert_eq!(operator.post(path).await.status, status);
        let line = log.last(count).await;
        assert_eq!((&line["kind"], &line["action"], &line["upstream"]), (&json!("admin"), &json!(action), &upstream), "{line}");
        assert_eq!((&line["outcome"], &line["status"], &line["address"]), (&json!(outcome), &json!(status), &json!("127.0.0.1")));
        assert_eq!(line["who"], json!({"method": "admin_token"}));
        assert!(line["duration_ms"].is_number());
    }
    for (count, method, path, action) in [
        (4, Method::POST, "/api/v1/reload", "reload"),
        (5, Method::GET, "/api/v1/tools", "GET /tools"),
        (6, Method::GET, "/metrics", "GET /metrics"),
    ] {
        assert_eq!(nexus.operator().showing("hush-bad").ask(method, path).await.status, 401);
        let line = log.last(count).await;
        let expected = (&json!("refusal"), &json!(action), &json!("denied"), &json!(null));
        assert_eq!((&line["kind"], &line["action"], &line["outcome"], &line["who"]), expected, "{line}");
    }
    // Looking is no action.
    operator.json("/api/v1/upstreams").await;
    assert_eq!(log.lines(&nexus).await.len(), 6);
    assert!(!log.text().contains("hush"));
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_and_calls_go_on() {
    let spec = crate::support::nexus::gateway().tables("[telemetry.audit]\npath = \"/dev/full\"").admin("");
    let nexus = spec.upstream("a", modern().tool("x")).start().await;
    for _ in 0..3 {
        assert!(nexus.modern().call("a__x").await["result"].is_object());
    }
    nexus.gateway.audit().written().await;
    let metrics = nexus.operator().get("/metrics").await.text().await;
    assert!(metrics.contains("nexus_audit_lost_total{} 3"), "{metrics}");
}
