//! Upstreams that break the protocol: a clear error for the one call, and everybody else goes on.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, text},
    fake::{Answer, Call, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
    wire::{self, event},
};

/// Writes an answer for a call.
type Answering = fn(&Call) -> Answer;

/// An upstream whose tool `bad` is answered like this, and whose other tools are well.
fn bad(server: fn() -> FakeSpec, answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> FakeSpec {
    let spec = server();
    let complete = if spec.is_modern() { r#""resultType":"complete","# } else { "" };
    spec.tool("bad").tool("fine").on("tools/call", move |call| match call.params()["name"].as_str() {
        Some("bad") => answer(call),
        _ => Answer::json(call.response(&format!(r#"{complete}"content":[{{"type":"text","text":"fine"}}]"#))),
    })
}

/// A legacy client, and a modern one, to which answers are adapted.
async fn clients(nexus: &Nexus) -> [Client; 2] {
    [nexus.legacy().await, nexus.modern()]
}

#[tokio::test]
async fn an_answer_that_is_none_becomes_an_error_with_its_reason() {
    let cases: [(&str, Answering, &str); 18] = [
        ("garbage", |_| Answer::json("garbage"), "protocol"),
        ("an empty document", |_| Answer::json(" "), "protocol"),
        ("no UTF-8", |_| Answer::json(&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":\"\xff\"}}"[..]), "protocol"),
        ("half a document", |call| Answer::json(call.response("").split_at(20).0.to_owned()), "protocol"),
        ("another id", |_| Answer::json(r#"{"jsonrpc":"2.0","id":987654,"result":{}}"#), "protocol"),
        ("the id as text", |call| Answer::json(format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, call.id())), "protocol"),
        ("no id", |_| Answer::json(r#"{"jsonrpc":"2.0","result":{}}"#), "protocol"),
        ("a batch", |call| Answer::json(format!("[{}]", call.response(""))), "protocol"),
        ("a request", |call| Answer::json(format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, call.id())), "protocol"),
        ("a web page", |_| Answer::new(200, "text/html", "<html>hello</html>"), "not_mcp"),
        ("no content type", |call| Answer::new(200, "", call.response("")), "not_mcp"),
        ("an acknowledgement", |_| Answer::status(202), "protocol"),
        ("a server error", |_| Answer::new(500, "text/plain", "oh no"), "http_status"),
        ("an unexpected challenge", |_| Answer::new(401, "application/json", "{}"), "auth_required"),
        ("compression", |call| Answer::json(call.response("")).header("content-encoding", "gzip"), "protocol"),
        ("an empty stream", |_| Answer::events([""; 0]), "protocol"),
        ("half an event", |call| Answer::new(200, "text/event-stream", format!("data: {}", call.response(""))), "protocol"),
        ("a stream of garbage", |_| Answer::events(["garbage"]), "protocol"),
    ];
    for (what, answer, reason) in cases {
        let nexus = gateway().upstream("up", bad(legacy, answer)).upstream("other", modern().tool("x")).start().await;
        for client in clients(&nexus).await {
            let response = client.open_as(json!("me"), "tools/call", json!({"name": "up__bad"})).await;
            assert_eq!(response.status, StatusCode::OK, "{what}");
            let answer = response.answer().await;
            let error = &answer["error"];
            assert_eq!(
                (&answer["id"], &error["code"], &error["data"]["reason"]),
                (&json!("me"), &json!(-32603), &json!(reason)),
                "{what}: {answer}"
            );
            assert_eq!(error["data"]["upstream"], "up");
        }
        nexus.is_unharmed("up__fine").await;
        nexus.is_unharmed("other__x").await;
    }
}

#[tokio::test]
async fn a_modern_upstreams_nonsense_stays_with_the_call_that_it_answers() {
    let cases: [(&str, Answering); 8] = [
        ("garbage", |_| Answer::json("garbage")),
        ("a web page", |_| Answer::new(200, "text/html", "<html>hello</html>")),
        ("another id", |_| Answer::json(r#"{"jsonrpc":"2.0","id":987654,"result":{"resultType":"complete"}}"#)),
        ("a server error", |_| Answer::new(500, "text/plain", "oh no")),
        ("an empty stream", |_| Answer::events([""; 0])),
        ("half an event", |call| Answer::new(200, "text/event-stream", format!("data: {}", call.response("")))),
        ("a stream of garbage", |_| Answer::events(["garbage"])),
        ("an acknowledgement", |_| Answer::status(202)),
    ];
    for (what, answer) in cases {
        let nexus = gateway().upstream("up", bad(modern, answer)).upstream("other", legacy().tool("x")).start().await;
        let legacy = nexus.legacy().await.call("up__bad").await;
        assert_eq!(legacy["error"]["code"], -32603, "{what}: {legacy}");
        let shown = nexus.modern().open_as(json!("me"), "tools/call", json!({"name": "up__bad"})).await.texts().await;
        let is_answer =
            |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|answer| answer["id"] == "me" && answer["result"].is_object());
        assert!(!shown.iter().any(is_answer), "{what}: {shown:?}");
        if !what.contains("stream") && !what.contains("event") {
            let error: Value = serde_json::from_str(&shown[0]).unwrap_or_else(|_| panic!("{what}: {shown:?}"));
            assert_eq!((&error["id"], &error["error"]["code"]), (&json!("me"), &json!(-32603)), "{what}");
        }
        nexus.is_unharmed("up__fine").await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_call() {
    for declared in [None, Some("5000")] {
        let spec = bad(legacy, move |call| {
            let (sender, body) = wire::stream();
            let start = call.response(r#""content":[]"#).split_at(30).0.to_owned();
            tokio::spawn(async move {
                sender.bytes(start).await;
                sender.break_off().await;
            });
            let answer = Answer::of(200, "application/json", body);
            if let Some(length) = declared { answer.header("content-length", length) } else { answer }
        });
        let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
        for client in clients(&nexus).await {
            let is_read_whole = declared.is_some() || client.headers["mcp-protocol-version"] == "2026-07-28";
            let response = client.try_open_as(json!(1), "tools/call", json!({"name": "up__bad"})).await;
            let whole = match response {
                Ok(response) => response.try_bytes().await.ok(),
                Err(_) => None,
            };
            match whole {
                Some(whole) => assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap()["error"]["code"], -32603),
                // What streams is on its way already and cannot become an error any more: it breaks off too.
                None => assert!(!is_read_whole),
            }
        }
        nexus.is_unharmed("up__fine").await;
    }
}

#[tokio::test]
async fn of_two_answers_the_first_counts_and_anothers_answer_is_skipped() {
    let twice = bad(legacy, |call| {
        let answer = |text: &str| call.response(&format!(r#""content":[{{"type":"text","text":"{text}"}}]"#));
        let foreign = r#"{"jsonrpc":"2.0","id":987654,"result":{"content":[{"type":"text","text":"not yours"}]}}"#;
        Answer::events([foreign.to_owned(), answer("first"), answer("second")])
    });
    let nexus = gateway().upstream("up", twice).upstream("other", modern()).start().await;
    for client in clients(&nexus).await {
        let texts = client.open("tools/call", json!({"name": "up__bad"})).await.texts().await;
        assert!(texts.len() == 1 && texts[0].contains("first"), "{texts:?}");
    }
    nexus.is_unharmed("up__fine").await;
}

#[tokio::test]
async fn an_endless_event_is_cut_off() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let (spec, mut streams) = server().tool("bad").tool("fine").streamed("tools/call");
        let nexus = gateway().bounds("max_event = \"64KiB\"").upstream("up", spec).upstream("other", legacy().tool("x")).start().await;
        for client in clients(&nexus).await {
            let feed = async {
                let (_, sender) = streams.recv().await.unwrap();
                sender.bytes("data: ").await;
                while sender.bytes("x".repeat(4 << 10)).await {}
            };
            let called = async { client.open("tools/call", json!({"name": "up__bad"})).await.answer().await };
            let (_, answer) = soon("the end", async { tokio::join!(feed, called) }).await;
            assert_eq!(answer["error"]["data"]["reason"], "protocol", "{answer}");
        }
        nexus.is_unharmed("other__x").await;
    }
}

#[tokio::test]
async fn an_endless_document_ends_with_its_reader() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let spec = bad(legacy, move |call| {
        let (body_sender, body) = wire::stream();
        let start = call.response(r#""content":""#);
        let _ = sender.send((start.split_at(start.len() - 2).0.to_owned(), body_sender));
        Answer::of(200, "application/json", body)
    });
    let mut receiver = receiver;
    let nexus = gateway().bounds("max_event = \"64KiB\"").upstream("up", spec).upstream("other", modern()).start().await;
    for (n, client) in clients(&nexus).await.into_iter().enumerate() {
        let called = async { client.open("tools/call", json!({"name": "up__bad"})).await };
        let feed = async {
            let (start, sender) = receiver.recv().await.unwrap();
            sender.bytes(start).await;
            let gone = sender.clone();
            tokio::spawn(async move { while sender.bytes("x".repeat(16 << 10)).await {} });
            gone
        };
        let (response, upstream) = soon("the answer", async { tokio::join!(called, feed) }).await;
        if n == 0 {
            // It streams; the reader goes away.
            assert_eq!(response.content_type(), "application/json");
            drop(response);
        } else {
            assert_eq!(response.answer().await["error"]["data"]["reason"], "protocol", "what has to be read whole is bounded");
        }
        soon("the end of the upstream's exchange", upstream.gone()).await;
    }
    nexus.is_unharmed("up__fine").await;
}

#[tokio::test]
async fn a_list_without_an_end_takes_down_its_upstream_only() {
    let looping: Answering = |call| Answer::json(call.response(r#""tools":[],"nextCursor":"again""#));
    let growing: Answering = |call| {
        let next = call.params()["cursor"].as_str().unwrap_or("0").parse::<u64>().unwrap() + 1;
        Answer::json(call.response(&format!(r#""tools":[],"nextCursor":"{next}""#)))
    };
    let crowded: Answering = |call| {
        let tools: Vec<_> = (0..60).map(|n| format!(r#"{{"name":"t{n}","inputSchema":{{"type":"object"}}}}"#)).collect();
        Answer::json(call.response(&format!(r#""tools":[{}]"#, tools.join(","))))
    };
    let huge: Answering = |call| {
        Answer::json(call.response(&format!(r#""tools":[{{"name":"t","inputSchema":{{"type":"object"}},"x":"{}"}}]"#, "y".repeat(70_000))))
    };
    let garbage: Answering = |call| Answer::json(call.response(r#""tools":7"#));
    for pages in [looping, growing, crowded, huge, garbage] {
        let nexus = gateway()
            .bounds("max_pages = 20\nmax_items = 50\nmax_list = \"64KiB\"")
            .upstream("up", legacy().on("tools/list", pages))
            .upstream("other", modern().tool("x"))
            .start()
            .await;
        nexus.state("up", "down").await;
        let status = nexus.gateway.upstreams()[0].status();
        assert_eq!(status.borrow().state.explanation().unwrap().reason.code(), "protocol");
        assert!(nexus.fake("up").seen_of("tools/list").len() <= 21);
        assert_eq!(nexus.legacy().await.list("tools").await, ["other__x"]);
        nexus.is_unharmed("other__x").await;
    }
}

#[tokio::test]
async fn a_child_that_misbehaves_harms_only_its_own_call() {
    for spec in [child(), child().modern()] {
        let spec = spec.toml("call_timeout = \"2s\"");
        let nexus = gateway().bounds("max_line = \"64KiB\"").upstream("kid", spec).upstream("other", modern().tool("x")).start().await;
        for client in clients(&nexus).await {
            assert_eq!(text(&client.call("kid__noise").await), "in spite of the noise");
            assert_eq!(text(&client.call("kid__twice").await), "first");
            assert_eq!(text(&client.call("kid__wrong_id").await), "yours");
            let died = client.call("kid__die").await;
            assert_eq!(died["error"]["data"]["reason"], "exited", "{died}");
            // It is started again.
            nexus.is_unharmed("other__x").await;
            nexus.state("kid", "up").await;
            let again = async {
                while client.call("kid__echo").await["result"].is_null() {
                    tokio::task::yield_now().await;
                }
            };
            soon("the child's return", again).await;
        }
    }
}

#[tokio::test]
async fn an_endless_line_of_a_child_is_not_kept() {
    let spec = child().toml("call_timeout = \"500ms\"\nisolation = \"session\"");
    let nexus = gateway().bounds("max_line = \"64KiB\"").upstream("kid", spec).upstream("other", modern().tool("x")).start().await;
    let answer = nexus.legacy().await.call("kid__endless").await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    nexus.is_unharmed("other__x").await;
    assert!(nexus.modern().call("kid__echo").await["result"].is_object(), "another's process goes on");
}

#[tokio::test]
async fn event_streams_are_read_however_they_are_cut() {
    let (spec, mut streams) = legacy().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
    let client = nexus.legacy().await;
    let feed = async {
        let (call, sender) = streams.recv().await.unwrap();
        let answer = call.response(r#""content":[{"type":"text","text":"é"}]"#);
        let text = format!(": hello\r\n\r\nid: 1\r\ndata:\r\n\r\nretry: 5\nevent: other\ndata: {}\n\n{}", call.progress(1), event(answer));
        for byte in text.into_bytes() {
            sender.bytes(vec![byte]).await;
        }
    };
    let called = async { client.open("tools/call", json!({"name": "up__work", "_meta": {"progressToken": 1}})).await.texts().await };
    let (_, texts) = soon("the answer", async { tokio::join!(feed, called) }).await;
    assert!(texts.last().unwrap().contains('é'), "{texts:?}");
    until("nothing is left open", || nexus.gateway.sessions().count() == 1).await;
}
