//! Servers of the HTTP+SSE transport (MCP 2024-11-05): found, used by clients of both eras, and lost with their stream.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use serde_json::{Value, json};

use crate::support::{
    client::{Client, Response, text},
    fake::{Answer, Call, FakeSpec, Streams, legacy, sse},
    nexus::{Nexus, gateway},
    soon, until,
    wire::{self, Sender},
};

const CANCELLED: &str = "notifications/cancelled";

async fn start(spec: FakeSpec) -> Nexus {
    gateway().upstream("old", spec).upstream("other", legacy().tool("x")).start().await
}

async fn streamed() -> (Nexus, Streams) {
    let (spec, streams) = sse().tool("work").tool("easy").streamed("tools/call");
    (start(spec).await, streams)
}

async fn begin(client: &Client, streams: &mut Streams, params: Value) -> (Response, Call, Sender) {
    let open = client.open("tools/call", params);
    let take = async { soon("the call", streams.recv()).await.unwrap() };
    // A call over such a channel is answered only once something has come for it.
    let first = async {
        let (call, sender) = take.await;
        sender.event(call.progress(1)).await;
        (call, sender)
    };
    let (response, (call, sender)) = tokio::join!(open, first);
    (response, call, sender)
}

fn with_progress() -> Value {
    json!({"name": "old__work", "arguments": {}, "_meta": {"progressToken": "t"}})
}

/// Sessions that were opened by a GET, in order.
fn opened(nexus: &Nexus) -> usize {
    nexus.fake("old").seen_of("GET").len()
}

#[tokio::test]
async fn such_a_server_is_found_by_itself_and_used_by_clients_of_both_eras() {
    for protocol in ["", "protocol = \"sse\""] {
        let nexus = start(sse().tool("work").prompt("ask").resource("file:///a").toml(protocol)).await;
        nexus.state("old", "up").await;
        for client in [nexus.legacy().await, nexus.modern()] {
            assert_eq!(client.list("tools").await, ["old__work", "other__x"]);
            assert_eq!(text(&client.call("old__work").await), "old:work");
            let prompt = client.ask("prompts/get", json!({"name": "old__ask"})).await;
            assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "old:ask");
            let read = client.ask("resources/read", json!({"uri": "file:///a"})).await;
            assert_eq!(read["result"]["contents"][0]["text"], "old");
        }
        let posts: Vec<_> = nexus.fake("old").seen().into_iter().filter(|call| call.verb == "POST").collect();
        let probed = posts.iter().any(|call| call.path == "/sse");
        assert_eq!(probed, protocol.is_empty(), "told the protocol, the gateway tries no other");
    }
}

#[tokio::test]
async fn told_to_speak_streamable_http_the_gateway_opens_no_event_stream() {
    let nexus = start(sse().tool("work").toml("protocol = \"streamable-http\"")).await;
    nexus.state("old", "down").await;
    assert_eq!(opened(&nexus), 0);
}

#[tokio::test]
async fn what_the_first_attempt_met_is_the_cause_when_no_protocol_fits() {
    let nexus = start(legacy().on("server/discover", |_| Answer::status(500)).on("initialize", |_| Answer::status(500))).await;
    nexus.state("old", "down").await;
    let upstream = nexus.upstream("old");
    let status = upstream.status().borrow().clone();
    let why = status.state.explanation().unwrap();
    assert_eq!((why.reason.code(), why.detail.contains("HTTP 500")), ("http_status", true), "{why}");
}

#[tokio::test]
async fn every_client_session_has_a_stream_of_its_own_that_ends_with_it() {
    let nexus = start(sse().tool("work")).await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let mut sessions = Vec::new();
    for client in [&one, &two] {
        client.call("old__work").await;
        sessions.push(nexus.fake("old").last("tools/call").header("mcp-session-id").unwrap().to_owned());
    }
    assert_ne!(sessions[0], sessions[1]);
    let stream = nexus.fake("old").stream_of(&sessions[0]).await;
    assert_eq!(one.delete().await, 204);
    soon("the end of the session's stream", stream.gone()).await;
    assert!(!nexus.fake("old").stream_of(&sessions[1]).await.is_gone());
}

#[tokio::test]
async fn calls_with_one_id_each_get_their_own_answer() {
    let nexus = start(sse().tool("a").tool("b").tool("c").on("tools/call", |call| {
        Answer::json(call.response(&format!(r#""content":[{{"type":"text","text":{}}}]"#, call.params()["arguments"]["n"])))
    }))
    .await;
    let shared = nexus.legacy().await;
    let calls = (0..40).map(|n| {
        let client = if n % 2 == 0 { shared.twin() } else { nexus.modern() };
        async move {
            let answer = client.open_as(json!(1), "tools/call", json!({"name": "old__a", "arguments": {"n": n}})).await.answer().await;
            assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(1), &json!(n)));
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn progress_and_a_question_in_the_middle_of_a_call_find_their_client() {
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams, with_progress()).await;
    let progress = response.next().await.unwrap();
    assert_eq!((&progress["params"]["progressToken"], &progress["params"]["progress"]), (&json!("t"), &json!(1)));
    server.event(json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}).to_string()).await;
    let asked = response.next().await.unwrap();
    assert_eq!(asked["method"], "roots/list");
    client.reply(&asked["id"], json!({"roots": []})).await;
    let answer = nexus.fake("old").arrives("the answer", |call| call.json["id"] == 7 && call.method().is_empty()).await;
    assert_eq!((&answer.json["result"], answer.header("mcp-session-id")), (&json!({"roots": []}), call.header("mcp-session-id")));
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["result"], json!({"content": []}));
}

#[tokio::test]
async fn a_cancellation_names_the_servers_own_id() {
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let calling = client.twin();
    let calling =
        tokio::spawn(async move { calling.open_as(json!("mine"), "tools/call", json!({"name": "old__work"})).await.texts().await });
    let (call, _server) = soon("the call", streams.recv()).await.unwrap();
    client.notify(CANCELLED, json!({"requestId": "mine"})).await;
    let told = nexus.fake("old").arrives("the cancellation", |call| call.method() == CANCELLED).await;
    assert_eq!((&told.params()["requestId"], told.header("mcp-session-id")), (call.id(), call.header("mcp-session-id")));
    assert_eq!(soon("the end of the call", calling).await.unwrap(), [""; 0], "a cancelled call is not answered");
}

#[tokio::test]
async fn what_it_says_outside_of_any_call_reaches_the_client_that_listens_and_no_other() {
    let nexus = start(sse().tool("work")).await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let (mut one_hears, mut two_hears) = (one.get().await, two.get().await);
    let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
    for (client, hears, uri) in [(&one, &mut one_hears, "file:///one"), (&two, &mut two_hears, "file:///two")] {
        client.call("old__work").await;
        let session = nexus.fake("old").last("tools/call").header("mcp-session-id").unwrap().to_owned();
        nexus.fake("old").stream_of(&session).await.event(updated(uri).to_string()).await;
        assert_eq!(hears.next().await.unwrap(), updated(uri));
    }
}

#[tokio::test]
async fn a_changed_list_is_listed_again() {
    let nexus = start(sse().tool("work")).await;
    nexus.fake("old").change(|offer| offer.tools.push(crate::support::offer::tool("new")));
    nexus.fake("old").tools_changed().await;
    let client = nexus.legacy().await;
    until("the new tool", || nexus.upstream("old").offer().is_some_and(|offer| offer.tools.len() == 2)).await;
    assert_eq!(client.list("tools").await, ["old__work", "old__new", "other__x"]);
}

#[tokio::test]
async fn a_session_is_lost_with_its_stream_and_the_next_call_opens_another() {
    let nexus = start(sse().tool("work")).await;
    let client = nexus.legacy().await;
    client.call("old__work").await;
    let session = nexus.fake("old").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let stream = nexus.fake("old").stream_of(&session).await;
    stream.clone().break_off().await;
    soon("the end of the stream", stream.gone()).await;
    assert_eq!(text(&client.call("old__work").await), "old:work");
    let again = nexus.fake("old").last("tools/call");
    assert_ne!(again.header("mcp-session-id"), Some(&*session));
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_replaced_and_the_call_runs_once() {
    let nexus = start(sse().tool("work")).await;
    let client = nexus.legacy().await;
    client.call("old__work").await;
    nexus.fake("old").forget_sessions();
    assert_eq!(text(&client.call("old__work").await), "old:work");
    let calls = nexus.fake("old").seen_of("tools/call");
    let sessions: Vec<_> = calls.iter().map(|call| call.header("mcp-session-id").unwrap()).collect();
    assert!(calls.len() == 3 && sessions[0] == sessions[1] && sessions[1] != sessions[2], "{sessions:?}");
}

#[tokio::test]
async fn a_call_whose_stream_breaks_fails_and_is_not_run_twice() {
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams, with_progress()).await;
    response.next().await.unwrap();
    let stream = nexus.fake("old").stream_of(call.header("mcp-session-id").unwrap()).await;
    stream.break_off().await;
    let error = response.next().await.unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["data"]["upstream"]), (&json!(-32603), &json!("old")), "{error}");
    assert_eq!(nexus.fake("old").seen_of("tools/call").len(), 1);
    drop(server);
}

#[tokio::test]
async fn a_post_that_is_refused_fails_its_call_and_no_other() {
    let nexus = start(sse().tool("work").prompt("ask").refuses_posts("tools/call")).await;
    let client = nexus.legacy().await;
    let prompt = client.ask("prompts/get", json!({"name": "old__ask"})).await;
    assert!(prompt["result"].is_object());
    let error = client.call("old__work").await;
    assert_eq!(error["error"]["data"]["reason"], "http_status", "{error}");
    let before = opened(&nexus);
    let prompt = client.ask("prompts/get", json!({"name": "old__ask"})).await;
    assert!(prompt["result"].is_object() && opened(&nexus) == before, "the session goes on");
}

#[tokio::test]
async fn a_server_that_names_another_origin_for_messages_gets_none() {
    let elsewhere = legacy().tool("x").start("elsewhere").await;
    let endpoint = format!("event: endpoint\ndata: http://localhost:{}/mcp\n\n", elsewhere.address.port());
    let nexus = start(sse().on("GET", move |_| Answer::new(200, "text/event-stream", endpoint.clone())).toml("protocol = \"sse\"")).await;
    nexus.state("old", "down").await;
    let status = nexus.upstream("old").status().borrow().clone();
    assert!(status.state.explanation().unwrap().detail.contains("another origin"), "{status:?}");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_hostile_stream_harms_only_its_own_upstream() {
    for first in ["data: {}\n\n".repeat(100), "event: endpoint\n\n".to_owned(), "event: endpoint\ndata: http://[\n\n".to_owned()] {
        let nexus = start(sse().on("GET", move |_| Answer::new(200, "text/event-stream", first.clone())).toml("protocol = \"sse\"")).await;
        nexus.state("old", "down").await;
        nexus.is_unharmed("other__x").await;
    }
    // Answers to nobody, twice, of foreign sessions, and no messages at all.
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams, with_progress()).await;
    response.next().await.unwrap();
    for junk in ["garbage", "[]", r#"{"jsonrpc":"2.0","id":424242,"result":{}}"#, r#"{"jsonrpc":"2.0","id":"x","result":{}}"#] {
        server.event(junk).await;
    }
    server.bytes("event: endpoint\ndata: /elsewhere\n\nevent: other\ndata: {}\n\n: comment\n\n").await;
    for text in ["first", "second"] {
        server.event(call.response(&format!(r#""content":[{{"type":"text","text":"{text}"}}]"#))).await;
    }
    assert_eq!(text(&response.next().await.unwrap()), "first");
    assert_eq!(response.next().await, None);
}

#[tokio::test]
async fn an_event_without_an_end_ends_the_session_and_nothing_else() {
    let (spec, mut streams) = sse().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("old", spec).upstream("other", legacy().tool("x")).bounds("max_event = \"64KiB\"").start().await;
    let client = nexus.legacy().await;
    let (mut response, _, server) = begin(&client, &mut streams, with_progress()).await;
    response.next().await.unwrap();
    server.bytes("data: ").await;
    for _ in 0..20 {
        server.bytes(vec![b'x'; 8 * 1024]).await;
    }
    assert_eq!(response.next().await.unwrap()["error"]["data"]["reason"], "protocol");
    nexus.is_unharmed("other__x").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_one_call_keeps_no_other_waiting() {
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let (_unread, call, server) = begin(&client, &mut streams, with_progress()).await;
    let (mut read, other, _) = begin(&client, &mut streams, with_progress()).await;
    let padding = "x".repeat(8 * 1024);
    for _ in 0..2_000 {
        let progress = call.progress(2).replace("\"progress\":2", &format!("\"progress\":2,\"message\":\"{padding}\""));
        server.event(progress).await;
    }
    server.bytes(wire::event(other.response(r#""content":[]"#))).await;
    read.next().await.unwrap();
    assert_eq!(read.next().await.unwrap()["result"], json!({"content": []}));
}

#[tokio::test]
async fn another_configuration_opens_new_streams_and_cuts_no_call_off() {
    let (nexus, mut streams) = streamed().await;
    let client = nexus.legacy().await;
    let (mut response, call, server) = begin(&client, &mut streams, with_progress()).await;
    response.next().await.unwrap();
    let before = opened(&nexus);
    nexus.reload(&nexus.toml.replace("[mcp.servers.old]", "[mcp.servers.old]\nlist_timeout = \"9s\""));
    until("the gateway's new stream", || opened(&nexus) > before).await;
    let generation = nexus.upstream("old").generation().unwrap().number();
    let calling = client.twin();
    let calling = tokio::spawn(async move { calling.call("old__easy").await });
    let (other, other_server) = soon("the other call", streams.recv()).await.unwrap();
    other_server.event(other.response(r#""content":[]"#)).await;
    assert!(soon("its answer", calling).await.unwrap()["result"].is_object(), "{generation}");
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["result"], json!({"content": []}));
}

#[tokio::test]
async fn messages_go_where_the_operator_says_with_the_session_that_the_server_named() {
    let spec = sse().tool("work").toml("protocol = \"sse\"").on("GET", |_| Answer::status(500));
    let fake = spec.start("old").await;
    let lines = |messages: &str| format!("url = \"{}\"\nprotocol = \"sse\"\nmessage_url = \"{messages}\"", fake.url());
    let problem = |lines: &str| {
        let text = format!("[mcp.servers.old]\n{lines}\n");
        let sources = nexus::sources::MemorySources::default();
        let loaded = nexus::config::load_text(&text, std::path::Path::new("/etc/nexus.toml"), None, &sources);
        loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(problem(&lines("http://elsewhere.test/messages")).contains("of another origin than url"));
    assert!(problem(&format!("url = \"{}\"\nmessage_url = \"{}\"", fake.url(), fake.url())).contains("message_url without protocol"));

    let server = sse().tool("work").start("real").await;
    let origin = format!("http://localhost:{}", server.address.port());
    let lines = format!("url = \"{origin}/sse\"\nprotocol = \"sse\"\nmessage_url = \"{origin}/messages\"");
    let nexus = gateway().upstream("old", lines).start().await;
    assert_eq!(text(&nexus.legacy().await.call("work").await), "real:work");
}
