//! Clients that are wrong, hostile or gone: each is told clearly, and nobody else notices.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::advance,
};

use crate::support::{
    StillTime,
    client::{Client, send},
    fake::{legacy, modern},
    nexus::{Nexus, gateway},
    soon, until,
    wire::{self, full},
};

async fn start() -> Nexus {
    gateway().upstream("old", legacy().tool("x")).upstream("new", modern().tool("x")).server("max_body_size = \"64KiB\"").start().await
}

#[tokio::test]
async fn what_is_no_message_is_refused_with_its_code() {
    let nexus = start().await;
    let clients = [nexus.legacy().await, nexus.modern(), Client::stranger(nexus.address)];
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{}}}}}"#, "[".repeat(20_000));
    for (body, code) in [
        (&b"{"[..], -32700),
        (b"", -32700),
        (b"\xff\xfe", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", -32700),
        (deep.as_bytes(), -32600),
        (b"[]", -32600),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
        (b"3", -32600),
        (b"null", -32600),
        (br#"{"id":1,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","na\u006de":"b"}}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","meth\u006fd":"tools/call"}"#, -32600),
    ] {
        for client in &clients {
            let response = client.post(body.to_vec()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(response.status, StatusCode::BAD_REQUEST, "{shown}");
            let answer = response.answer().await;
            assert_eq!((&answer["jsonrpc"], &answer["error"]["code"]), (&json!("2.0"), &json!(code)), "{shown}: {answer}");
        }
    }
    for up in ["old", "new"] {
        assert!(nexus.fake(up).seen_of("tools/call").is_empty());
    }
    nexus.is_unharmed("old__x").await;
}

#[tokio::test]
async fn parameters_of_the_wrong_type_are_refused() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    for (method, params) in [
        ("tools/call", json!({"name": 7})),
        ("tools/call", json!({"name": null})),
        ("tools/call", json!({"name": ["old__x"]})),
        ("prompts/get", json!({})),
        ("resources/read", json!({"uri": {}})),
        ("completion/complete", json!({"ref": "x"})),
        ("tools/list", json!({"cursor": 7})),
        ("tools/list", json!({"cursor": ""})),
    ] {
        let answer = client.ask(method, params.clone()).await;
        assert_eq!(answer["error"]["code"], -32602, "{method} {params}: {answer}");
    }
    let stranger = Client::stranger(nexus.address);
    for params in [json!({}), json!({"protocolVersion": 1, "capabilities": {}, "clientInfo": {}}), json!({"protocolVersion": "2025-11-25"})]
    {
        let response = stranger.open("initialize", params.clone()).await;
        assert!(response.headers.get("mcp-session-id").is_none());
        assert_eq!(response.answer().await["error"]["code"], -32602, "{params}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_declared_or_not() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let body = |size: usize| json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y".repeat(size)}}).to_string();
    assert_eq!(client.post(body(60 << 10)).await.status, StatusCode::OK);
    assert_eq!(client.post(body(70 << 10)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let (sender, undeclared) = wire::stream();
    tokio::spawn(async move {
        for _ in 0..100 {
            sender.bytes("x".repeat(8 << 10)).await;
        }
    });
    let response = send(nexus.address, client.request(Method::POST, undeclared)).await;
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(response.answer().await["error"]["code"], -32600);
    nexus.is_unharmed("old__x").await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let nexus = start().await;
    for size in [70_000, 500_000] {
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        let head = format!("POST /mcp HTTP/1.1\r\nhost: {}\r\nx-large: {}", nexus.address, "y".repeat(size));
        // What is left over when the refusal is out cannot be written any more.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = soon("the refusal", stream.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{size} {}", String::from_utf8_lossy(&answer));
    }
    nexus.is_unharmed("new__x").await;
}

#[tokio::test]
async fn another_content_type_is_refused() {
    let nexus = start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""] {
        let client = nexus.legacy().await.header("content-type", kind);
        assert_eq!(client.post("{}").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?}");
    }
    let client = nexus.legacy().await.header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_foreign_host_or_page_is_refused_before_anything_is_done() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let port = nexus.address.port();
    for (header, value, allowed) in [
        ("host", "evil.test".to_owned(), false),
        ("host", format!("127.0.0.1.evil.test:{port}"), false),
        ("host", format!("localhost:{port}"), true),
        ("origin", "http://evil.test".to_owned(), false),
        ("origin", "null".to_owned(), false),
        ("origin", format!("http://localhost:{port}"), true),
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            if allowed && method != Method::POST {
                continue;
            }
            let mut request = client.request(method.clone(), full(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
            request.headers_mut().insert(header, HeaderValue::try_from(&value).unwrap());
            let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(send(nexus.address, request).await.status, expected, "{method} {header}: {value}");
        }
    }
    assert_eq!(client.ask("ping", json!({})).await["result"], json!({}), "the refused DELETE ended nothing");
}

#[tokio::test]
async fn an_unknown_session_is_404_and_a_missing_one_400() {
    let nexus = start().await;
    let live = nexus.legacy().await;
    let altered = format!("{}A", &live.session()[..21]);
    for session in ["x", &"A".repeat(22), &altered, &"y".repeat(5000), "é"] {
        if session == live.session() {
            continue;
        }
        let client = Client::stranger(nexus.address).header("mcp-session-id", session);
        assert_eq!(client.open("ping", json!({})).await.status, StatusCode::NOT_FOUND, "{session}");
        assert_eq!(client.get().await.status, StatusCode::NOT_FOUND);
        assert_eq!(client.delete().await, StatusCode::NOT_FOUND);
    }
    let response = Client::stranger(nexus.address).open_as(json!("w"), "tools/list", json!({})).await;
    assert_eq!(response.status, StatusCode::BAD_REQUEST);
    assert_eq!(response.answer().await["id"], "w");
    assert_eq!(live.ask("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn a_verb_or_path_that_does_not_exist_is_refused() {
    let nexus = start().await;
    let client = nexus.legacy().await;
    let mut stream = client.get().await;
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS, Method::HEAD] {
        let response = send(nexus.address, client.request(method.clone(), full(""))).await;
        assert_eq!(response.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    nexus.fake("new").change(|offer| offer.tools.push(crate::support::offer::tool("more")));
    nexus.fake("new").tools_changed().await;
    assert!(stream.next().await.is_some(), "the client's stream is still open");
    let modern = nexus.modern();
    assert_eq!(modern.get().await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(modern.delete().await, StatusCode::METHOD_NOT_ALLOWED);
    let json_only = client.request(Method::GET, full(""));
    let mut json_only = json_only;
    json_only.headers_mut().insert("accept", HeaderValue::from_static("application/json"));
    assert_eq!(send(nexus.address, json_only).await.status, StatusCode::NOT_ACCEPTABLE);
    let mut elsewhere = Client::modern(nexus.address);
    elsewhere.path = "/other";
    assert_eq!(elsewhere.post("{}").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_modern_request_that_contradicts_itself_is_refused() {
    let nexus = start().await;
    let meta =
        |version: &str| json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}});
    let body =
        |meta: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "new__x", "_meta": meta}}).to_string();
    let post = async |client: Client, method: &str, name: Option<&str>, body: String| {
        let response = client.post_named(method, name, body).await;
        (response.status.as_u16(), response.answer().await["error"].clone())
    };
    let modern = || Client::modern(nexus.address);
    let good = || body(meta("2026-07-28"));
    for (method, name) in
        [("tools/list", Some("new__x")), ("tools/call", Some("old__x")), ("tools/call", None), ("Tools/Call", Some("new__x"))]
    {
        let (status, error) = post(modern(), method, name, good()).await;
        assert_eq!((status, &error["code"]), (400, &json!(-32020)), "{method} {name:?} {error}");
    }
    let other_version = modern().header("mcp-protocol-version", "2025-11-25");
    assert_eq!(post(other_version, "tools/call", Some("new__x"), good()).await.1["code"], -32020);
    let (status, error) =
        post(modern().header("mcp-protocol-version", "2031-01-01"), "tools/call", Some("new__x"), body(meta("2031-01-01"))).await;
    assert_eq!((status, &error["code"], &error["data"]["requested"]), (400, &json!(-32022), &json!("2031-01-01")));
    assert!(error["data"]["supported"].as_array().unwrap().contains(&json!("2026-07-28")));
    for lacking in
        [json!({}), json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"}), json!({"io.modelcontextprotocol/protocolVersion": 7})]
    {
        let (status, error) = post(modern(), "tools/call", Some("new__x"), body(lacking)).await;
        assert_eq!((status, &error["code"]), (400, &json!(-32602)), "{error}");
    }
    assert!(nexus.fake("new").seen_of("tools/call").is_empty());
    let encoded = modern().post_named("tools/call", Some("=?base64?bmV3X194?="), good()).await;
    assert!(encoded.answer().await["result"].is_object(), "the encoded form of the name is the name");
}

#[tokio::test]
async fn a_client_that_disappears_in_the_middle_of_its_body_harms_nobody() {
    let nexus = start().await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{{\"js",
            nexus.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    nexus.is_unharmed("old__x").await;
    assert_eq!(nexus.gateway.sessions().count(), 1, "only the client that came afterwards");
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let nexus = start().await;
    for junk in
        [&b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03"[..], b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        stream.write_all(junk).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = soon("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    nexus.is_unharmed("old__x").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_headers_is_cut_off() {
    let nexus = gateway().start().await;
    let mut stream = TcpStream::connect(nexus.address).await.unwrap();
    stream.write_all(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_too_many_is_told_to_come_back() {
    let nexus = gateway().server("max_connections = 2").start().await;
    let first = TcpStream::connect(nexus.address).await.unwrap();
    let _second = TcpStream::connect(nexus.address).await.unwrap();
    let busy = nexus.modern().open("server/discover", json!({})).await;
    assert_eq!((busy.status, busy.headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    drop(first);
    let again = async {
        while nexus.modern().open("server/discover", json!({})).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    soon("a free place", again).await;
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_cut_off() {
    let nexus = gateway().upstream("old", legacy().tool("x")).server("request_timeout = \"30s\"").start().await;
    let mut stream = TcpStream::connect(nexus.address).await.unwrap();
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{{", nexus.address);
    stream.write_all(head.as_bytes()).await.unwrap();
    // An answered request of another connection: the gateway has had time to read this one.
    assert!(nexus.modern().call("old__x").await["result"].is_object());
    let _still = StillTime::begin();
    advance(Duration::from_secs(31)).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_session_too_many_is_refused_until_another_ends() {
    let nexus = gateway().mcp("max_sessions = 2").upstream("old", legacy().tool("x")).upstream("new", modern()).start().await;
    let (first, _second) = (nexus.legacy().await, nexus.legacy().await);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let refused = Client::stranger(nexus.address).open("initialize", params).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.get("mcp-session-id").is_none());
    assert_eq!(refused.answer().await["error"]["code"], -32000);
    assert!(nexus.modern().call("old__x").await["result"].is_object(), "who needs no session is served");
    first.delete().await;
    nexus.legacy().await;
}

#[tokio::test]
async fn a_session_ends_after_its_idle_time_unless_a_stream_is_open() {
    let nexus = gateway().mcp("session_idle_timeout = \"10m\"").upstream("old", legacy().tool("x")).upstream("new", modern()).start().await;
    let (idle, listening) = (nexus.legacy().await, nexus.legacy().await);
    idle.call("old__x").await;
    let _stream = listening.get().await;
    {
        let _still = StillTime::begin();
        for _ in 0..25 {
            advance(Duration::from_secs(30)).await;
            tokio::task::yield_now().await;
            if nexus.gateway.sessions().count() == 1 {
                break;
            }
        }
    }
    tokio::time::resume();
    until("the end of the idle session", || nexus.gateway.sessions().count() == 1).await;
    assert_eq!(idle.open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(listening.ask("ping", json!({})).await["result"], json!({}));
    nexus.fake("old").arrives("the end of the session behind it", |call| call.verb == "DELETE").await;
}
