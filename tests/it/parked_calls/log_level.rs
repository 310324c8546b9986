//! Log messages of a server whose sessions are shared: each request gets those that it asked for.

use super::*;

const LEVEL: &str = "io.modelcontextprotocol/logLevel";

fn wanting(level: &str) -> Value {
    json!({"name": "crm__work", "_meta": {LEVEL: level}})
}

fn said(level: &str) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": level, "data": level}}).to_string()
}

fn levels_told(nexus: &Nexus) -> Vec<Value> {
    nexus.fake("crm").seen_of("logging/setLevel").iter().map(|call| call.params()["level"].clone()).collect()
}

#[tokio::test]
async fn the_server_is_told_the_mildest_level_in_flight_and_each_request_hears_its_own() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (mut strict, strict_call, strict_server) = begin_with(&client, &mut streams, wanting("error")).await;
    let (mut mild, mild_call, mild_server) = begin_with(&client, &mut streams, wanting("info")).await;
    let (mut quiet, quiet_call, quiet_server) = begin_with(&client, &mut streams, json!({"name": "crm__work"})).await;
    assert_eq!(strict_call.header("mcp-session-id"), quiet_call.header("mcp-session-id"), "they share a session");
    assert_eq!(levels_told(&nexus), ["error", "info"]);
    for (server, call) in [(&strict_server, &strict_call), (&mild_server, &mild_call), (&quiet_server, &quiet_call)] {
        for level in ["debug", "info", "warning", "emergency"] {
            server.event(said(level)).await;
        }
        server.event(call.response(r#""content":[]"#)).await;
    }
    for (response, expected) in [(&mut strict, vec!["emergency"]), (&mut mild, vec!["info", "warning", "emergency"]), (&mut quiet, vec![])]
    {
        for level in expected {
            assert_eq!(response.next().await.unwrap()["params"]["data"], level);
        }
        assert!(response.next().await.unwrap()["result"].is_object());
    }
    // The one that wants more is gone.
    let (_response, ..) = begin_with(&client, &mut streams, wanting("warning")).await;
    assert_eq!(levels_told(&nexus), ["error", "info", "warning"]);
    let (_response, ..) = begin_with(&client, &mut streams, wanting("warning")).await;
    assert_eq!(levels_told(&nexus).len(), 3, "the server knows");
}

#[tokio::test]
async fn a_level_that_is_none_is_as_good_as_not_asked_for() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let (mut response, call, server) = begin_with(&nexus.modern(), &mut streams, wanting("loud")).await;
    server.event(said("emergency")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert!(response.next().await.unwrap()["result"].is_object());
    assert!(levels_told(&nexus).is_empty());
}

#[tokio::test]
async fn a_log_message_on_the_sessions_own_stream_is_for_the_only_request_that_wants_any() {
    let (spec, mut streams) = legacy().get_stream().streamed("tools/call");
    let nexus = with_tool(spec).start().await;
    let client = nexus.modern();
    let (mut loud, call, _server) = begin_with(&client, &mut streams, wanting("info")).await;
    let (_quiet, ..) = begin_with(&client, &mut streams, json!({"name": "crm__work"})).await;
    let stream = nexus.fake("crm").stream_of(call.header("mcp-session-id").unwrap()).await;
    stream.event(said("debug")).await;
    stream.event(said("warning")).await;
    assert_eq!(loud.next().await.unwrap()["params"]["data"], "warning");
}
