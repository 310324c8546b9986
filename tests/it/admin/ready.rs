//! `/readyz` and `/livez`.

use http::StatusCode;

use crate::support::{
    fake::{legacy, modern},
    nexus::gateway,
    until,
};

#[tokio::test]
async fn readiness_waits_for_what_is_required_and_never_turns_back_because_it_went_down() {
    let nexus = gateway()
        .admin("")
        .upstream("needed", legacy().tool("x").get_stream().toml("required = true"))
        .upstream("broken", "url = \"http://127.0.0.1:1/mcp\"")
        .start()
        .await;
    let operator = nexus.operator();
    assert_eq!(operator.status("/readyz").await, StatusCode::OK, "what is down but not required holds nothing back");
    nexus.fake("needed").go_down();
    nexus.state("needed", "down").await;
    assert_eq!(operator.status("/readyz").await, StatusCode::OK);
}

#[tokio::test]
async fn a_required_upstream_that_was_never_up_holds_readiness_back_until_it_is() {
    let nexus = gateway().admin("").upstream("needed", modern().starts_down().toml("required = true")).start().await;
    let operator = nexus.operator();
    let waiting = operator.get("/readyz").await;
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(waiting.text().await, "waiting for 1 required upstream\n");
    assert_eq!(operator.status("/livez").await, StatusCode::OK);
    nexus.fake("needed").come_back();
    nexus.state("needed", "up").await;
    assert_eq!(operator.status("/readyz").await, StatusCode::OK);
}

#[tokio::test]
async fn draining_is_not_ready_and_still_alive() {
    let nexus = gateway().admin("token = \"t\"").start().await;
    let operator = nexus.operator();
    assert_eq!(operator.status("/readyz").await, StatusCode::OK);
    nexus.gateway.begin_drain();
    until("the drain", || nexus.gateway.drain_token().is_cancelled()).await;
    let draining = operator.get("/readyz").await;
    assert_eq!((draining.status, draining.text().await.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"));
    assert_eq!(operator.status("/livez").await, StatusCode::OK);
}
