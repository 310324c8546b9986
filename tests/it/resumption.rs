//! Streams that end before the answer, on either side, and who may come back for the rest.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    client::{Client, Response, send},
    fake::{Answer, Call, FakeSpec, Streams, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
    wire::{self, Sender},
};

/// Calls and GETs are answered with streams of the test's.
async fn start(server: fn() -> FakeSpec) -> (Nexus, Streams, Streams) {
    let (spec, calls) = server().tool("work").streamed("tools/call");
    let (spec, gets) = spec.streamed("GET");
    (gateway().upstream("up", spec).upstream("other", modern().tool("x")).start().await, calls, gets)
}

async fn session_of(nexus: &Nexus, version: &str) -> Client {
    let client = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let client = client.header("mcp-session-id", &session).header("mcp-protocol-version", version);
    client.notify("notifications/initialized", json!({})).await;
    client
}

fn with_token() -> Value {
    json!({"name": "up__work", "arguments": {}, "_meta": {"progressToken": "t"}})
}

async fn begin(client: &Client, calls: &mut Streams) -> (Response, Call, Sender) {
    let response = client.open_as(json!(1), "tools/call", with_token()).await;
    let (call, server) = soon("the call", calls.recv()).await.unwrap();
    (response, call, server)
}

/// The next GET that goes on with something.
async fn resumed(gets: &mut Streams) -> (Call, Sender) {
    loop {
        let (call, sender) = soon("a GET with Last-Event-ID", gets.recv()).await.unwrap();
        if call.header("last-event-id").is_some() {
            return (call, sender);
        }
    }
}

/// One event as it was written.
#[derive(Debug, Default)]
struct Event {
    id: Option<String>,
    retry: Option<String>,
    data: String,
}

impl Event {
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

async fn next_event(response: &mut Response, rest: &mut String) -> Option<Event> {
    loop {
        if let Some((event, left)) = rest.split_once("\n\n") {
            let mut parsed = Event::default();
            for line in event.lines() {
                match line.split_once(": ") {
                    Some(("id", value)) => parsed.id = Some(value.to_owned()),
                    Some(("retry", value)) => parsed.retry = Some(value.to_owned()),
                    Some(("data", value)) => parsed.data.push_str(value),
                    _ => {}
                }
            }
            let is_comment = event.starts_with(':');
            *rest = left.to_owned();
            if is_comment {
                continue;
            }
            return Some(parsed);
        }
        rest.push_str(std::str::from_utf8(&soon("the next event", response.next_bytes()).await?).unwrap());
    }
}

async fn events(mut response: Response) -> Vec<Event> {
    let (mut all, mut rest) = (Vec::new(), String::new());
    while let Some(event) = next_event(&mut response, &mut rest).await {
        all.push(event);
    }
    all
}

async fn come_back(client: &Client, id: &str) -> Response {
    let mut request = client.request(Method::GET, wire::full(""));
    request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
    request.headers_mut().insert("last-event-id", HeaderValue::from_str(id).unwrap());
    send(client.address, request).await
}

/// Reads the first event that carries a message and hangs up: what the client knows last.
async fn reads_one_and_hangs_up(mut response: Response) -> String {
    let mut rest = String::new();
    loop {
        let event = next_event(&mut response, &mut rest).await.unwrap();
        if !event.data.is_empty() {
            return event.id.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_whose_server_hangs_up_goes_on_where_it_stopped() {
    let (nexus, mut calls, mut gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-06-18").await;
    let (mut response, call, server) = begin(&client, &mut calls).await;
    server.bytes("id: e/1 x\nretry: 60\ndata: \n\n").await;
    drop(server);
    let (get, server) = resumed(&mut gets).await;
    assert_eq!((get.header("last-event-id"), get.header("mcp-session-id")), (Some("e/1 x"), call.header("mcp-session-id")));
    assert_eq!(get.header("mcp-protocol-version"), call.header("mcp-protocol-version"));
    server.bytes(format!("id: e/2\n{}", wire::event(call.progress(1)))).await;
    drop(server);
    let (get, server) = resumed(&mut gets).await;
    assert_eq!(get.header("last-event-id"), Some("e/2"));
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["params"]["progress"], 1);
    let answer = response.next().await.unwrap();
    assert_eq!((&answer["id"], &answer["result"]), (&json!(1), &json!({"content": []})));
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_call_whose_connection_breaks_goes_on_too() {
    let (nexus, mut calls, mut gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-06-18").await;
    let (mut response, call, server) = begin(&client, &mut calls).await;
    server.bytes(format!("id: 1\nretry: 60\n{}", wire::event(call.progress(1)))).await;
    response.next().await.unwrap();
    server.break_off().await;
    let (_, server) = resumed(&mut gets).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"], json!({"content": []}));
}

#[tokio::test]
async fn a_modern_clients_call_in_a_session_goes_on_too() {
    let (nexus, mut calls, mut gets) = start(legacy).await;
    let client = nexus.modern();
    let asked = tokio::spawn(async move { client.open_as(json!(1), "tools/call", with_token()).await.answer().await });
    let (call, server) = soon("the call", calls.recv()).await.unwrap();
    server.bytes("id: 1\nretry: 60\ndata: \n\n").await;
    drop(server);
    let (get, server) = resumed(&mut gets).await;
    assert_eq!(get.header("last-event-id"), Some("1"));
    server.event(call.response(r#""content":[]"#)).await;
    let answer = soon("the answer", asked).await.unwrap();
    assert_eq!((&answer["id"], &answer["result"]["content"]), (&json!(1), &json!([])), "{answer}");
}

#[tokio::test]
async fn a_client_of_2025_11_25_is_let_go_too_and_comes_back_for_the_rest() {
    let (nexus, mut calls, mut gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-11-25").await;
    let (response, call, server) = begin(&client, &mut calls).await;
    server.bytes("id: 1\nretry: 70\ndata: \n\n").await;
    drop(server);
    let told = events(response).await;
    let [opening, closing] = told.as_slice() else { panic!("{told:?}") };
    assert!(opening.id.is_some() && opening.data.is_empty() && opening.retry.is_none());
    assert_eq!((&closing.id, closing.retry.as_deref(), closing.data.as_str()), (&opening.id, Some("70"), ""));
    let (_, server) = resumed(&mut gets).await;
    let mut rest = come_back(&client, closing.id.as_deref().unwrap()).await;
    server.event(call.progress(1)).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(rest.next().await.unwrap()["params"], json!({"progressToken": "t", "progress": 1}));
    assert_eq!(rest.next().await.unwrap()["result"], json!({"content": []}));
    assert_eq!(rest.next().await, None);
    let again = events(come_back(&client, closing.id.as_deref().unwrap()).await).await;
    assert_eq!(again.last().unwrap().json()["result"], json!({"content": []}), "that connection may have broken as well");
}

#[tokio::test]
async fn a_client_whose_connection_broke_gets_exactly_what_it_missed() {
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let (nexus, mut calls, _gets) = start(legacy).await;
        let client = session_of(&nexus, version).await;
        let (response, call, server) = begin(&client, &mut calls).await;
        server.event(call.progress(1)).await;
        let last = reads_one_and_hangs_up(response).await;
        for progress in 2..5 {
            server.event(call.progress(progress)).await;
        }
        server.event(call.response(r#""content":[]"#)).await;
        // Once more after it broke again.
        let last = reads_one_and_hangs_up(come_back(&client, &last).await).await;
        let rest = events(come_back(&client, &last).await).await;
        let progress: Vec<_> = rest.iter().filter_map(|event| event.json()["params"]["progress"].as_u64()).collect();
        assert_eq!(progress, [3, 4], "{version}");
        assert_eq!(rest.last().unwrap().json()["id"], 1);
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 1);
    }
}

#[tokio::test]
async fn streams_of_several_upstreams_are_resumed_each_by_itself() {
    let (one, mut one_calls) = legacy().tool("work").streamed("tools/call");
    let (two, mut two_calls) = modern().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("one", one).upstream("two", two).start().await;
    let client = session_of(&nexus, "2025-11-25").await;
    let mut open = Vec::new();
    for (tool, calls) in [("one__work", &mut one_calls), ("two__work", &mut two_calls)] {
        let params = json!({"name": tool, "arguments": {}, "_meta": {"progressToken": tool}});
        let response = client.open_as(json!(tool), "tools/call", params).await;
        let (call, server) = soon("the call", calls.recv()).await.unwrap();
        server.event(call.progress(1)).await;
        open.push((tool, reads_one_and_hangs_up(response).await, call, server));
    }
    for (_, _, call, server) in &open {
        server.event(call.response(r#""resultType":"complete","content":[]"#)).await;
    }
    for (tool, last, ..) in open.into_iter().rev() {
        let rest = events(come_back(&client, &last).await).await;
        assert_eq!(rest.iter().map(|event| event.json()["id"].clone()).collect::<Vec<_>>(), [json!(tool)]);
    }
}

#[tokio::test]
async fn nobody_else_comes_back_for_it() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let (victim, thief) = (session_of(&nexus, "2025-11-25").await, session_of(&nexus, "2025-11-25").await);
    let (response, call, server) = begin(&victim, &mut calls).await;
    server.event(call.progress(1)).await;
    let last = reads_one_and_hangs_up(response).await;
    server.event(call.response(r#""content":["secret"]"#)).await;
    let stranger = Client::stranger(nexus.address).header("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(come_back(&thief, &last).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(come_back(&stranger, &last).await.status, StatusCode::NOT_FOUND);
    let guess = format!("{}.0", "A".repeat(22));
    assert_eq!(come_back(&victim, &guess).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(events(come_back(&victim, &last).await).await.last().unwrap().json()["result"]["content"], json!(["secret"]));
}

#[tokio::test]
async fn whoever_comes_back_first_closed_takes_the_stream_over() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-11-25").await;
    let (mut first, call, server) = begin(&client, &mut calls).await;
    server.event(call.progress(1)).await;
    let mut rest = String::new();
    let opening = next_event(&mut first, &mut rest).await.unwrap().id.unwrap();
    let mut second = come_back(&client, &opening).await;
    assert_eq!(second.next().await.unwrap()["params"]["progress"], 1);
    while next_event(&mut first, &mut rest).await.is_some() {}
    let mut third = come_back(&client, &opening).await;
    assert_eq!(second.next().await, None, "one connection reads at a time");
    server.event(call.response(r#""content":[]"#)).await;
    third.next().await.unwrap();
    assert_eq!(third.next().await.unwrap()["result"], json!({"content": []}));
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_answer_stays() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-11-25").await;
    let (response, call, server) = begin(&client, &mut calls).await;
    server.event(call.progress(1)).await;
    let last = reads_one_and_hangs_up(response).await;
    let padding = "x".repeat(16 << 10);
    for progress in 2..202 {
        let large = call.progress(progress).replace("\"progress\":", &format!("\"message\":\"{padding}\",\"progress\":"));
        server.event(large).await;
    }
    server.event(call.response(r#""content":[]"#)).await;
    until("the end of the call", || !nexus.gateway.sessions().all().iter().any(|session| session.is_busy())).await;
    let rest = events(come_back(&client, &last).await).await;
    let bytes: usize = rest.iter().map(|event| event.data.len()).sum();
    assert!(bytes <= 1 << 20 && rest.len() > 10, "{bytes} {}", rest.len());
    assert_eq!(rest[rest.len() - 2].json()["params"]["progress"], 201);
    assert_eq!(rest.last().unwrap().json()["result"], json!({"content": []}));
}

#[tokio::test]
async fn a_call_that_fails_meanwhile_has_failed_when_its_client_comes_back() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-11-25").await;
    let (response, call, server) = begin(&client, &mut calls).await;
    server.event(call.progress(1)).await;
    let last = reads_one_and_hangs_up(response).await;
    drop(server);
    let rest = events(come_back(&client, &last).await).await;
    let error = rest.last().unwrap().json();
    assert_eq!((&error["id"], &error["error"]["data"]["upstream"]), (&json!(1), &json!("up")), "{error}");
}

#[tokio::test]
async fn with_its_session_everything_that_was_kept_is_gone() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-11-25").await;
    let (response, call, server) = begin(&client, &mut calls).await;
    server.event(call.progress(1)).await;
    let last = reads_one_and_hangs_up(response).await;
    client.delete().await;
    assert_eq!(come_back(&client, &last).await.status, StatusCode::NOT_FOUND);
    nexus.fake("up").arrives("the cancellation", |call| call.method() == "notifications/cancelled").await;
    drop(server);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_fails_its_call_which_is_not_run_twice() {
    let (spec, mut calls) = legacy().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("up", spec.on("GET", |_| Answer::status(404))).upstream("other", modern().tool("x")).start().await;
    let client = session_of(&nexus, "2025-06-18").await;
    let (response, _, server) = begin(&client, &mut calls).await;
    server.bytes("id: 1\nretry: 60\ndata: \n\n").await;
    drop(server);
    let error = response.answer().await;
    assert_eq!(error["error"]["code"], -32603, "{error}");
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_stream_without_ids_is_not_resumed() {
    let (nexus, mut calls, _gets) = start(legacy).await;
    let client = session_of(&nexus, "2025-06-18").await;
    let (response, call, server) = begin(&client, &mut calls).await;
    server.event(call.progress(1)).await;
    drop(server);
    assert_eq!(response.answer().await["error"]["code"], -32603);
    assert!(nexus.fake("up").seen_of("GET").iter().all(|call| call.header("last-event-id").is_none()));
}

#[tokio::test]
async fn the_modern_era_has_no_resumption() {
    let (nexus, mut calls, _gets) = start(modern).await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut calls).await;
    server.bytes(format!("id: 1\n{}", wire::event(call.progress(1)))).await;
    server.event(call.response(r#""resultType":"complete","content":[]"#)).await;
    drop(server);
    let told = events(response).await;
    assert!(told.len() == 2 && told.iter().all(|event| event.id.is_none()), "{told:?}");
    assert!(nexus.fake("up").seen_of("GET").is_empty());
}

#[tokio::test]
async fn ids_and_openings_come_only_to_clients_that_know_them() {
    for (version, opening, ids) in
        [("2024-11-05", false, false), ("2025-03-26", false, true), ("2025-06-18", false, true), ("2025-11-25", true, true)]
    {
        let (nexus, mut calls, _gets) = start(legacy).await;
        let client = session_of(&nexus, version).await;
        let (response, call, server) = begin(&client, &mut calls).await;
        server.event(call.response(r#""content":[]"#)).await;
        let told = events(response).await;
        assert_eq!(told.len(), if opening { 2 } else { 1 }, "{version} {told:?}");
        assert!(told.iter().all(|event| event.id.is_some() == ids), "{version} {told:?}");
    }
}
