//! Clients of the HTTP+SSE transport (MCP 2024-11-05): what they can do, and what nobody can do to them or through them.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::collections::BTreeSet;

use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::json;

use crate::support::{
    StillTime,
    child::child,
    client::{names, send, text},
    fake::{Answer, legacy, modern, sse},
    in_time,
    nexus::{GatewaySpec, Nexus, gateway},
    old_client::OldClient,
    soon, until, while_time_passes, wire,
};

const OLD: &str = "2024-11-05";
const CANCELLED: &str = "notifications/cancelled";

fn open() -> GatewaySpec {
    gateway().mcp("sse_path = \"/sse\"")
}

async fn both() -> Nexus {
    open().upstream("up", legacy().get_stream().tool("work")).upstream("new", modern().tool("work")).start().await
}

#[tokio::test]
async fn an_old_client_uses_servers_of_every_kind() {
    let nexus = open()
        .upstream("up", legacy().tool("work"))
        .upstream("new", modern().tool("work"))
        .upstream("old", sse().tool("work"))
        .upstream("kid", child())
        .start()
        .await;
    for version in [OLD, "2025-03-26", "2025-11-25"] {
        let mut client = OldClient::open(nexus.address, version).await;
        let listed = client.ask("tools/list", json!({})).await;
        let listed = names(&listed["result"]["tools"]);
        for tool in ["up__work", "new__work", "old__work", "kid__echo"] {
            assert!(listed.iter().any(|name| name == tool), "{tool} {listed:?}");
        }
        for (tool, said) in [("up__work", "up:work"), ("new__work", "new:work"), ("old__work", "old:work")] {
            assert_eq!(text(&client.call(tool).await), said);
        }
        assert!(client.call("kid__echo").await["result"].is_object());
        assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
        assert_eq!(client.call("nobody__has_it").await["error"]["code"], -32602);
    }
}

#[tokio::test]
async fn the_endpoint_is_off_unless_the_file_names_its_path() {
    let nexus = gateway().upstream("up", legacy().tool("work")).start().await;
    let get = |path: &str| Request::get(path).body(wire::full("")).unwrap();
    assert_eq!(send(nexus.address, get("/sse")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(send(nexus.address, get("/sse/messages")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_post_is_acknowledged_and_its_answer_comes_on_the_stream() {
    let nexus = both().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    let response = client.post(r#"{"jsonrpc":"2.0","id":"é","method":"ping"}"#).await;
    assert_eq!((response.status, response.text().await.as_str()), (StatusCode::ACCEPTED, ""));
    assert_eq!(client.hears().await, json!({"jsonrpc": "2.0", "id": "é", "result": {}}));
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_session_goes_on() {
    let nexus = both().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    for junk in ["", "{", "7", "{\"jsonrpc\":\"1.0\"}"] {
        assert_eq!(client.post(junk).await.status, StatusCode::BAD_REQUEST, "{junk}");
    }
    let mut plain = Request::post(&*client.messages).body(wire::full("{}")).unwrap();
    plain.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    assert_eq!(send(nexus.address, plain).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_modern_request_is_told_to_go_elsewhere() {
    let nexus = both().await;
    let mut client = OldClient::connect(nexus.address).await;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"}});
    let answer = client.ask("server/discover", json!({"_meta": meta})).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    assert_eq!(client.call("up__work").await["error"]["code"], -32600, "nothing works before initialize");
}

#[tokio::test]
async fn progress_a_question_and_the_answer_to_it_find_their_way() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = open().upstream("up", spec).upstream("new", modern().tool("x")).start().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    let id = client.begin("tools/call", json!({"name": "up__work", "_meta": {"progressToken": "t"}})).await;
    let (call, server) = soon("the call", streams.recv()).await.unwrap();
    server.event(call.progress(1)).await;
    assert_eq!(client.hears().await["params"]["progressToken"], "t");
    server.event(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}).to_string()).await;
    let asked = client.hears().await;
    assert_eq!(asked["method"], "roots/list");
    client.post(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}})).await;
    let answer = nexus.fake("up").arrives("the answer", |call| call.json["id"] == 7 && call.method().is_empty()).await;
    assert_eq!(answer.json["result"], json!({"roots": []}));
    server.event(call.response(r#""content":[]"#)).await;
    let answer = client.hears().await;
    assert_eq!((&answer["id"], &answer["result"]), (&id, &json!({"content": []})));
}

#[tokio::test]
async fn a_cancelled_call_is_not_answered_and_the_server_is_told() {
    let (spec, mut held) = legacy().tool("work").held("tools/call");
    let nexus = open().upstream("up", spec).upstream("new", modern().tool("x")).start().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    let id = client.begin("tools/call", json!({"name": "up__work"})).await;
    let (call, _reply) = soon("the call", held.recv()).await.unwrap();
    client.post(json!({"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": id}})).await;
    let told = nexus.fake("up").arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!(&told.params()["requestId"], call.id());
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn changes_and_what_servers_say_outside_of_calls_come_on_the_stream() {
    let nexus = both().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    client.call("up__work").await;
    let session = nexus.fake("up").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "file:///a"}});
    nexus.fake("up").stream_of(&session).await.event(updated.to_string()).await;
    assert_eq!(client.hears().await, updated);
    nexus.fake("up").change(|offer| offer.tools.push(crate::support::offer::tool("more")));
    nexus.fake("up").tools_changed().await;
    assert_eq!(client.hears().await["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn forty_calls_with_one_id_from_ten_clients_each_get_their_own_answer() {
    let echo = |call: &crate::support::fake::Call| {
        Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":"{}"}}]"#, call.params()["arguments"]["n"])))
    };
    let nexus = open().upstream("up", legacy().tool("work").on("tools/call", echo)).upstream("new", modern().tool("x")).start().await;
    let clients = (0..10).map(|client| {
        let address = nexus.address;
        async move {
            let mut old = OldClient::open(address, OLD).await;
            for n in 0..4 {
                let params = json!({"name": "up__work", "arguments": {"n": client * 100 + n}});
                old.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})).await;
            }
            let mut heard = BTreeSet::new();
            for _ in 0..4 {
                let answer = old.hears().await;
                assert_eq!(answer["id"], 1);
                heard.insert(text(&answer).parse::<i32>().unwrap());
            }
            assert_eq!(heard, (client * 100..client * 100 + 4).collect());
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test]
async fn the_session_ends_with_the_stream() {
    let (spec, mut held) = legacy().tool("slow").tool("work").held("tools/call");
    let nexus = open().upstream("up", spec).upstream("new", modern().tool("x")).start().await;
    let client = OldClient::open(nexus.address, OLD).await;
    client.begin("tools/call", json!({"name": "up__slow"})).await;
    let (call, _reply) = soon("the call", held.recv()).await.unwrap();
    let session = call.header("mcp-session-id").unwrap().to_owned();
    let messages = client.messages.clone();
    drop(client);
    nexus
        .fake("up")
        .arrives("the end of the session", |call| call.verb == "DELETE" && call.header("mcp-session-id") == Some(&*session))
        .await;
    until("the end of the client's session", || nexus.gateway.sessions().count() == 0).await;
    let late = OldClient::connect(nexus.address).await.posting_to(messages);
    assert_eq!(late.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn addresses_of_sessions_cannot_be_guessed_and_lead_nowhere_else() {
    let nexus = both().await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let client = OldClient::connect(nexus.address).await;
        let (path, id) = client.messages.split_once("?sessionId=").unwrap();
        assert_eq!(path, "/sse/messages");
        assert!(id.len() >= 22, "128 bits: {id}");
        assert!(seen.insert(id.to_owned()));
    }
    let http = nexus.legacy().await;
    for guess in ["", "?sessionId=", "?sessionId=AAAAAAAAAAAAAAAAAAAAAA", &format!("?sessionId={}", http.session())] {
        let thief = OldClient::connect(nexus.address).await.posting_to(format!("/sse/messages{guess}"));
        let status = thief.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await.status;
        assert_eq!(status, StatusCode::NOT_FOUND, "{guess}: nothing but the stream's own address leads to a session");
    }
    // Nor does the address of a stream name a session of the other transport.
    let id = OldClient::open(nexus.address, OLD).await.messages.split_once('=').unwrap().1.to_owned();
    let stranger = crate::support::client::Client::stranger(nexus.address).header("mcp-session-id", &id);
    assert_eq!(stranger.open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_web_page_of_elsewhere_opens_no_stream_and_posts_nothing() {
    let nexus = both().await;
    let client = OldClient::open(nexus.address, OLD).await;
    for (method, path) in [(Method::GET, "/sse"), (Method::POST, &*client.messages)] {
        for (header, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
            let mut request = Request::new(wire::full("{}"));
            *request.method_mut() = method.clone();
            *request.uri_mut() = path.parse().unwrap();
            request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            request.headers_mut().insert(header, HeaderValue::from_static(value));
            assert_eq!(send(nexus.address, request).await.status, StatusCode::FORBIDDEN, "{method} {header}");
        }
    }
}

#[tokio::test]
async fn no_more_streams_are_open_than_sessions_allowed() {
    let nexus = open().mcp("max_sessions = 2").upstream("up", legacy().tool("work")).start().await;
    let _open = [OldClient::connect(nexus.address).await, OldClient::connect(nexus.address).await];
    let third = Request::get("/sse").body(wire::full("")).unwrap();
    assert_eq!(send(nexus.address, third).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected_and_harms_nobody() {
    let large = "x".repeat(4 << 20);
    let spec = legacy()
        .tool("large")
        .on("tools/call", move |call| Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":"{large}"}}]"#))));
    let nexus = open().upstream("up", spec).upstream("new", modern().tool("work")).start().await;
    let client = OldClient::open(nexus.address, OLD).await;
    let _still = StillTime::begin();
    for _ in 0..16 {
        client.begin("tools/call", json!({"name": "up__large"})).await;
    }
    in_time("the end of the session", || nexus.gateway.sessions().count() == 0).await;
    let other = while_time_passes("another client's session", nexus.legacy()).await;
    assert_eq!(text(&while_time_passes("its call", other.call("new__work")).await), "new:work");
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_is_alive() {
    let nexus = both().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    let _still = StillTime::begin();
    let said = while_time_passes("a sign of life", client.stream.next_bytes()).await.unwrap();
    assert_eq!(&*said, b":\n\n");
}

#[tokio::test]
async fn a_drain_answers_open_calls_and_then_ends_the_streams() {
    let (spec, mut held) = legacy().tool("slow").held("tools/call");
    let nexus = open().upstream("up", spec).upstream("new", modern().tool("x")).start().await;
    let (mut busy, mut idle) = (OldClient::open(nexus.address, OLD).await, OldClient::open(nexus.address, OLD).await);
    let id = busy.begin("tools/call", json!({"name": "up__slow"})).await;
    let (call, reply) = soon("the call", held.recv()).await.unwrap();
    nexus.gateway.begin_drain();
    assert_eq!(idle.stream.next().await, None);
    let _ = reply.send(Answer::json(call.response(r#""content":[]"#)));
    assert_eq!(busy.hears().await["id"], id);
    assert_eq!(busy.stream.next().await, None);
}

#[tokio::test]
async fn paths_that_are_taken_already_are_refused_at_load() {
    let problems = |mcp: &str, health: &str| {
        let text = format!("[server.health]\n{health}\n[mcp]\n{mcp}\n");
        let sources = nexus::sources::MemorySources::default();
        let loaded = nexus::config::load_text(&text, std::path::Path::new("/etc/nexus.toml"), None, &sources);
        loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(problems("sse_path = \"/mcp\"", "").contains("is also the path of the MCP endpoint"));
    assert!(problems("sse_path = \"/sse\"", "path = \"/sse/messages\"").contains("is also the path of health"));
    assert!(problems("sse_path = \"/health\"", "").contains("is also the path of health"));
    assert!(!problems("sse_path = \"/sse\"", "").contains("sse_path"));
}

#[tokio::test]
async fn a_second_initialize_begins_a_new_session_on_the_same_stream() {
    let nexus = both().await;
    let mut client = OldClient::open(nexus.address, OLD).await;
    client.call("up__work").await;
    let first = nexus.fake("up").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let params = json!({"protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "old", "version": "2"}});
    assert!(client.ask("initialize", params).await["result"].is_object());
    assert_eq!(text(&client.call("up__work").await), "up:work");
    assert_ne!(nexus.fake("up").last("tools/call").header("mcp-session-id"), Some(&*first));
    assert_eq!(nexus.gateway.sessions().count(), 1);
}
