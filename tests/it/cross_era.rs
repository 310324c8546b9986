//! A client of one era in front of a server of the other.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, names, text},
    fake::{Answer, Call, FakeSpec, dual, legacy, modern},
    nexus::{Nexus, gateway},
};

/// One legacy and one modern upstream, each with one item of every kind.
async fn both() -> Nexus {
    let full = |spec: FakeSpec, mark: &str| {
        spec.tool("work").prompt("ask").resource(&format!("file:///{mark}")).template(&format!("{mark}://{{id}}"))
    };
    gateway().upstream("old", full(legacy(), "o")).upstream("new", full(modern(), "n")).start().await
}

#[tokio::test]
async fn a_legacy_client_uses_a_modern_server() {
    let nexus = both().await;
    let client = nexus.legacy().await;
    assert_eq!(client.list("tools").await, ["old__work", "new__work"]);
    assert_eq!(client.list("prompts").await, ["old__ask", "new__ask"]);
    assert_eq!(text(&client.call("new__work").await), "new:work");
    let prompt = client.ask("prompts/get", json!({"name": "new__ask"})).await;
    assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "new:ask");
    for uri in ["file:///n", "n://7"] {
        let read = client.ask("resources/read", json!({"uri": uri})).await;
        assert_eq!(read["result"]["contents"][0], json!({"uri": uri, "text": "new"}));
    }
    for method in ["tools/call", "prompts/get", "resources/read"] {
        let arrived = nexus.fake("new").last(method);
        let meta = &arrived.params()["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"], json!({"name": "test", "version": "1"}));
        let capabilities = json!({"elicitation": {"form": {}}, "roots": {}, "sampling": {}});
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], capabilities);
        assert_eq!((arrived.header("mcp-protocol-version"), arrived.header("mcp-method")), (Some("2026-07-28"), Some(method)));
        let about = arrived.params()["name"].as_str().or_else(|| arrived.params()["uri"].as_str());
        assert_eq!((arrived.header("mcp-name"), arrived.header("mcp-session-id")), (about, None));
    }
}

#[tokio::test]
async fn a_modern_client_uses_a_legacy_server() {
    let nexus = both().await;
    let client = nexus.modern();
    let listed = client.ask("tools/list", json!({})).await;
    assert_eq!(names(&listed["result"]["tools"]), ["old__work", "new__work"]);
    let hints = |result: &Value| (result["resultType"].clone(), result["ttlMs"].clone(), result["cacheScope"].clone());
    assert_eq!(hints(&listed["result"]), (json!("complete"), json!(0), json!("private")));

    let called = client.call("old__work").await;
    assert_eq!((text(&called), &called["result"]["resultType"]), ("old:work", &json!("complete")));
    assert_eq!(called["result"].get("ttlMs"), None, "a call is never cached");
    let read = client.ask("resources/read", json!({"uri": "o://7"})).await;
    assert_eq!(hints(&read["result"]), (json!("complete"), json!(0), json!("private")));
    let prompt = client.ask("prompts/get", json!({"name": "old__ask", "_meta": {"traceparent": "00-1", "progressToken": "p"}})).await;
    assert_eq!(prompt["result"]["resultType"], "complete");

    let arrived = nexus.fake("old").last("prompts/get");
    assert_eq!(arrived.params()["_meta"]["traceparent"], "00-1", "other keys of _meta pass");
    for method in ["tools/call", "prompts/get", "resources/read"] {
        let arrived = nexus.fake("old").last(method);
        assert!(!arrived.text().contains("io.modelcontextprotocol/"), "{}", arrived.text());
        assert_eq!(arrived.header("mcp-protocol-version"), Some("2025-11-25"));
        assert!(arrived.header("mcp-session-id").is_some());
        assert_eq!((arrived.header("mcp-method"), arrived.header("mcp-name")), (None, None));
    }
}

#[tokio::test]
async fn modern_clients_that_declare_the_same_share_a_session() {
    let nexus = both().await;
    for _ in 0..3 {
        let capabilities = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        nexus.modern().ask("tools/call", json!({"name": "old__work", "_meta": capabilities})).await;
    }
    let opened: Vec<_> = nexus.fake("old").seen_of("initialize").iter().map(|call| call.params()["capabilities"].clone()).collect();
    assert_eq!(opened, [json!({}), json!({"elicitation": {}})], "the gateway's own, and one for all three");
}

#[tokio::test]
async fn an_errors_code_and_status_are_those_of_the_clients_era() {
    for (server, code, method, is_modern_client, expected, status) in [
        (legacy as fn() -> FakeSpec, -32002, "resources/read", true, -32602, 200),
        (legacy, -32601, "tools/call", true, -32601, 404),
        (legacy, -32042, "tools/call", true, -32602, 200),
        (legacy, -32099, "tools/call", true, -32099, 200),
        (modern, -32602, "resources/read", false, -32002, 200),
        (modern, -32602, "tools/call", false, -32602, 200),
        (modern, -32601, "tools/call", false, -32601, 200),
        (modern, -32021, "tools/call", false, -32602, 200),
    ] {
        let status_up = if code == -32601 { 404 } else { 400 };
        let modern_server = server().is_modern();
        let spec = server()
            .tool("work")
            .resource("file:///x")
            .on(method, move |call| Answer::new(if modern_server { status_up } else { 200 }, "application/json", call.error(code)));
        let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
        let client = if is_modern_client { nexus.modern() } else { nexus.legacy().await };
        let params = if method == "tools/call" { json!({"name": "up__work"}) } else { json!({"uri": "file:///x"}) };
        let response = client.open_as(json!("e"), method, params).await;
        let (found, answer) = (response.status.as_u16(), response.answer().await);
        assert_eq!((&answer["id"], &answer["error"]["code"], found), (&json!("e"), &json!(expected), status), "{code} {method}: {answer}");
        assert_eq!(answer["error"]["data"], json!({"kept": 1}));
    }
}

#[tokio::test]
async fn an_error_that_a_legacy_server_streams_has_its_status_too() {
    for (code, status) in [(-32601, 404), (-32021, 400), (-32099, 200)] {
        let spec = legacy().tool("work").on("tools/call", move |call| Answer::events([call.error(code)]));
        let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
        let response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
        assert_eq!((response.status.as_u16(), response.is_stream()), (status, false));
        assert_eq!(response.answer().await["error"]["code"], code);
    }
}

#[tokio::test]
async fn a_request_for_input_passes_to_a_modern_client_as_it_is() {
    let members = r#""resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{}}},"requestState":"s""#;
    let spec = modern().tool("work").on("tools/call", move |call| Answer::json(call.response(members)));
    let nexus = gateway().upstream("new", spec).upstream("other", legacy()).start().await;
    let modern = nexus.modern().open_as(json!(4), "tools/call", json!({"name": "new__work"})).await;
    assert_eq!(modern.text().await, format!(r#"{{"jsonrpc":"2.0","id":4,"result":{{{members}}}}}"#));
    let retry = json!({"name": "new__work", "inputResponses": {"a": {"action": "accept"}}, "requestState": "s"});
    nexus.modern().ask("tools/call", retry).await;
    let arrived = nexus.fake("new").last("tools/call");
    assert_eq!((&arrived.params()["requestState"], &arrived.params()["inputResponses"]["a"]["action"]), (&json!("s"), &json!("accept")));
}

#[tokio::test]
async fn structured_content_that_is_no_object_is_shown_to_modern_clients_only() {
    let spec = modern()
        .raw_tool(r#"{"name":"work","inputSchema":{"type":"object"},"outputSchema":{"type":"array"}}"#)
        .on("tools/call", |call| Answer::json(call.response(r#""resultType":"complete","content":[],"structuredContent":[1]"#)));
    let nexus = gateway().upstream("new", spec).upstream("other", legacy()).start().await;
    for (client, shown) in [(nexus.legacy().await, false), (nexus.modern(), true)] {
        let listed = client.ask("tools/list", json!({})).await;
        assert_eq!(listed["result"]["tools"][0]["outputSchema"].is_object(), shown);
        assert_eq!(client.call("new__work").await["result"]["structuredContent"].is_array(), shown);
    }
}

#[tokio::test]
async fn a_stream_is_adapted_message_by_message() {
    let progressing = |server: fn() -> FakeSpec, head: &'static str| {
        server().tool("work").on("tools/call", move |call| {
            let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"said"}}"#;
            Answer::events([call.progress(1), log.to_owned(), call.response(&format!(r#"{head}"content":[]"#))])
        })
    };
    let nexus = gateway()
        .upstream("old", progressing(legacy, ""))
        .upstream("new", progressing(modern, r#""resultType":"complete","#))
        .start()
        .await;
    let methods = |texts: &[String]| -> Vec<String> {
        let method = |text: &String| serde_json::from_str::<Value>(text).unwrap()["method"].as_str().unwrap_or("answer").to_owned();
        texts.iter().map(method).collect()
    };
    let params = |tool: &str| json!({"name": tool, "_meta": {"progressToken": "p"}});
    let quiet = nexus.modern().open("tools/call", params("old__work")).await.texts().await;
    assert_eq!(methods(&quiet), ["notifications/progress", "answer"], "nobody asked for log messages");
    assert!(quiet[1].contains(r#""resultType":"complete""#));

    let mut loud = params("old__work");
    loud["_meta"]["io.modelcontextprotocol/logLevel"] = json!("info");
    let loud = nexus.modern().open("tools/call", loud).await.texts().await;
    assert_eq!(methods(&loud), ["notifications/progress", "notifications/message", "answer"]);

    let legacy = nexus.legacy().await.open("tools/call", params("new__work")).await.texts().await;
    assert_eq!(methods(&legacy), ["notifications/progress", "notifications/message", "answer"]);
}

#[tokio::test]
async fn a_legacy_sessions_log_level_goes_into_every_modern_request() {
    let nexus = both().await;
    let client = nexus.legacy().await;
    client.ask("logging/setLevel", json!({"level": "warning"})).await;
    client.call("new__work").await;
    assert_eq!(nexus.fake("new").last("tools/call").params()["_meta"]["io.modelcontextprotocol/logLevel"], "warning");
    assert!(nexus.fake("new").seen_of("logging/setLevel").is_empty());
}

#[tokio::test]
async fn the_greeting_of_either_era_says_what_the_upstreams_can_do() {
    let nexus = both().await;
    let found = nexus.modern().ask("server/discover", json!({})).await;
    let supported = &found["result"]["supportedVersions"];
    assert_eq!(supported, &json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]), "{found}");
    for capability in ["tools", "prompts", "resources", "completions"] {
        assert!(found["result"]["capabilities"][capability].is_object(), "{found}");
    }
    let gone = nexus.modern().open("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})).await;
    assert_eq!((gone.status, gone.answer().await["error"]["code"].clone()), (StatusCode::NOT_FOUND, json!(-32601)));
    let unknown = nexus.legacy().await.ask("server/discover", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601);
}

#[tokio::test]
async fn a_server_of_both_eras_is_spoken_to_in_the_clients_own() {
    let (spec, mut streams) = dual().tool("work").streamed("tools/call");
    let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "up__work"})).await;
    let (call, stream) = streams.recv().await.unwrap();
    assert!(call.header("mcp-session-id").is_some() && !call.text().contains("io.modelcontextprotocol/"));
    stream.event(r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#).await;
    let asked = response.next().await.unwrap();
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    nexus.fake("up").arrives("the answer", |call| call.json["id"] == "q").await;
    stream.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.next().await.unwrap()["result"], json!({"content": []}));

    let _response = nexus.modern().open("tools/call", json!({"name": "up__work"})).await;
    let (call, _stream) = streams.recv().await.unwrap();
    assert_eq!((call.header("mcp-session-id"), call.header("mcp-name")), (None, Some("work")));
}

#[tokio::test]
async fn a_legacy_version_reaches_the_server_as_the_client_asked_for_it() {
    let nexus = gateway().upstream("old", legacy().tool("x")).upstream("new", modern().tool("x")).start().await;
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2031-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let response = Client::stranger(nexus.address).open("initialize", params).await;
        let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
        assert_eq!(response.answer().await["result"]["protocolVersion"], agreed, "{asked}");
        let client = Client::stranger(nexus.address).header("mcp-session-id", &session).header("mcp-protocol-version", agreed);
        assert_eq!(text(&client.call("old__x").await), "old:x");
        assert_eq!(nexus.fake("old").last("initialize").params()["protocolVersion"], agreed);
        assert_eq!(nexus.fake("old").last("tools/call").header("mcp-protocol-version"), Some(agreed));
        assert_eq!(text(&client.call("new__x").await), "new:x");
    }
}

#[tokio::test]
async fn an_argument_that_a_modern_tool_wants_as_a_header_is_repeated_for_legacy_clients() {
    let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"Count"}}}"#;
    let spec = modern().raw_tool(&format!(r#"{{"name":"work","inputSchema":{schema}}}"#));
    let nexus = gateway().upstream("new", spec).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    client.ask("tools/call", json!({"name": "new__work", "arguments": {"region": "größe", "n": 7}})).await;
    let call = nexus.fake("new").last("tools/call");
    assert_eq!((call.header("mcp-param-region"), call.header("mcp-param-count")), (Some("=?base64?Z3LDtsOfZQ==?="), Some("7")));
    client.ask("tools/call", json!({"name": "new__work", "arguments": {"region": null}})).await;
    let call = nexus.fake("new").last("tools/call");
    assert_eq!((call.header("mcp-param-region"), call.header("mcp-param-count")), (None, None));
}

#[tokio::test]
async fn headers_that_contradict_the_arguments_are_refused_before_the_upstream() {
    let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
    let item = format!(r#"{{"name":"find","inputSchema":{schema}}}"#);
    for spec in [modern().raw_tool(&item), legacy().raw_tool(&item)] {
        let nexus = gateway().upstream("up", spec).upstream("other", modern()).start().await;
        let client = nexus.modern().header("mcp-param-region", "eu");
        let refused = client.open("tools/call", json!({"name": "up__find", "arguments": {"region": "us"}})).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.answer().await["error"]["code"], -32020);
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 0, "the upstream saw nothing of it");
        let good = client.ask("tools/call", json!({"name": "up__find", "arguments": {"region": "eu"}})).await;
        assert_eq!(text(&good), "up:find");
    }
}

#[tokio::test]
async fn only_an_answer_that_knows_no_initialize_makes_a_server_modern_only() {
    let busy = |status: u16, body: &'static str| {
        let kind = if body.is_empty() { "" } else { "application/json" };
        move |_: &Call| Answer::new(status, kind, body)
    };
    let error = |code: i64| move |call: &Call| Answer::json(call.error(code));
    type Answers = Box<dyn Fn(&Call) -> Answer + Send + Sync>;
    let trouble = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"busy"}}"#;
    let cases: Vec<(&str, Answers, bool)> = vec![
        ("500", Box::new(busy(500, "")), false),
        ("500 in JSON", Box::new(busy(500, trouble)), false),
        ("429 in JSON", Box::new(busy(429, trouble)), false),
        ("an internal error", Box::new(error(-32603)), false),
        ("400", Box::new(busy(400, "")), true),
        ("404 in JSON", Box::new(busy(404, trouble)), true),
        ("405", Box::new(busy(405, "")), true),
        ("an unknown method", Box::new(error(-32601)), true),
        ("an unknown version", Box::new(error(-32022)), true),
        ("nothing that greets", Box::new(|call: &Call| Answer::json(call.response(""))), true),
    ];
    for (what, answer, is_bridged) in cases {
        let nexus = gateway().upstream("both", dual().tool("work").on("initialize", answer)).start().await;
        let called = nexus.legacy().await.call("both__work").await;
        assert_eq!(called["result"].is_object(), is_bridged, "{what}: {called}");
        let again = nexus.legacy().await.call("both__work").await;
        assert_eq!(again["result"].is_object(), is_bridged, "{what}, again: {again}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_version_which_it_says_it_speaks_is_asked_once_more() {
    for (supported, times, is_modern) in [(json!(["2026-07-28"]), 2, true), (json!(["2025-11-25"]), 1, false), (json!([]), 1, false)] {
        let asked = AtomicUsize::new(0);
        let spec = dual().tool("work").on("server/discover", move |call: &Call| {
            if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                return Answer::json(call.response(r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}"#));
            }
            let data = json!({"supported": supported, "requested": "2026-07-28"});
            let error = json!({"code": -32022, "message": "Unsupported protocol version", "data": data});
            Answer::new(400, "application/json", json!({"jsonrpc": "2.0", "id": call.id(), "error": error}).to_string())
        });
        let nexus = gateway().upstream("picky", spec).start().await;
        assert_eq!(text(&nexus.modern().call("picky__work").await), "picky:work");
        let fake = nexus.fake("picky");
        assert_eq!((fake.seen_of("server/discover").len(), fake.seen_of("initialize").is_empty()), (times, is_modern));
    }
}
