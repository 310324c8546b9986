//! A request's way in is paid together with its call, or by itself where there is none.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::tools;
use crate::support::{
    client::{Client, send},
    fake::{legacy, modern},
    nexus::{GatewaySpec, Nexus, gateway},
    redis::RedisServer,
    soon, until, wire,
};

const ALL: &str = "global = { limit = 30, interval = \"1h\" }\nper_ip = { limit = 30, interval = \"1h\" }\n\
                   per_client = { limit = 30, interval = \"1h\" }";

fn spec(limits: &str, redis: Option<&RedisServer>) -> GatewaySpec {
    let storage = redis.map(|redis| format!("storage = {{ type = \"redis\", url = \"{}\" }}", redis.url())).unwrap_or_default();
    gateway().server(&format!("[server.rate_limits]\n{limits}\n{storage}"))
}

async fn connected(nexus: &Nexus, redis: Option<&RedisServer>) {
    if redis.is_some() {
        until("a connection to redis-server", || nexus.gateway.limiter().is_connected() == Some(true)).await;
    }
}

/// How often the server was asked for tokens.
async fn asked(redis: &RedisServer) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]).await;
    let calls = |command: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))).unwrap_or("0,");
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    calls("evalsha") + calls("eval")
}

fn scope(answer: &Value) -> Option<&str> {
    answer["error"]["data"]["scope"].as_str()
}

#[tokio::test]
async fn each_request_asks_redis_once_for_everything() {
    let redis = RedisServer::start().await;
    let limited = |spec: crate::support::fake::FakeSpec| spec.toml("[.rate_limits]\nlimit = 30\ninterval = \"1h\"");
    let tasks = json!({"tasks": {"list": {}, "cancel": {}}, "logging": {}});
    let nexus = spec(ALL, Some(&redis))
        .mcp("sse_path = \"/sse\"")
        .upstream("up", limited(legacy().get_stream().tool("work").resource("file:///a").declares(tasks)))
        .upstream("other", limited(modern().tool("work")))
        .start()
        .await;
    connected(&nexus, Some(&redis)).await;
    // The script is unknown to the server at first.
    nexus.modern().ask("ping", json!({})).await;
    let before = asked(&redis).await;
    let client = nexus.legacy().await;
    assert_eq!(asked(&redis).await - before, 2, "initialize, and its notification");
    for (method, params) in [
        ("tools/call", json!({"name": "up__work", "arguments": {}})),
        ("tools/call", json!({"name": "other__work", "arguments": {}})),
        ("tools/list", json!({})),
        ("resources/subscribe", json!({"uri": "file:///a"})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("tasks/list", json!({})),
        ("tools/call", json!({"name": "nobody__knows", "arguments": {}})),
        ("no/such", json!({})),
    ] {
        let before = asked(&redis).await;
        client.ask(method, params.clone()).await;
        assert_eq!(asked(&redis).await - before, 1, "{method} {params}");
    }
    for tool in ["up__work", "other__work"] {
        let before = asked(&redis).await;
        assert!(nexus.modern().call(tool).await["result"].is_object());
        assert_eq!(asked(&redis).await - before, 1, "{tool}");
    }
    let before = asked(&redis).await;
    let listen = json!({"notifications": {"resourceSubscriptions": ["file:///a"]}});
    let _stream = nexus.modern().open("subscriptions/listen", listen).await;
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(asked(&redis).await - before, 2);
}

#[tokio::test]
async fn a_refused_call_costs_nothing_at_the_door_either() {
    let redis = RedisServer::start().await;
    for redis in [None, Some(&redis)] {
        let limits = "global = { limit = 4, interval = \"1h\" }\nper_ip = { limit = 3, interval = \"1h\" }";
        let limited = tools("[.rate_limits]\nlimit = 1\ninterval = \"1h\"");
        let nexus = spec(limits, redis).mcp("").upstream("up", limited).upstream("free", tools("")).start().await;
        connected(&nexus, redis).await;
        let client = nexus.modern();
        assert!(client.call("up__work").await["result"].is_object());
        for _ in 0..10 {
            assert_eq!(scope(&client.call("up__work").await), Some("server"));
        }
        for _ in 0..2 {
            assert!(client.call("free__work").await["result"].is_object(), "three for the address, and one was spent");
        }
        let refused = client.open("tools/call", json!({"name": "free__work", "arguments": {}})).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1190..=1200).contains(&seconds), "{seconds}");
        let answer = refused.answer().await;
        assert_eq!((&answer["error"]["code"], scope(&answer)), (&json!(-32000), Some("ip")), "{answer}");
    }
}

#[tokio::test]
async fn what_redis_has_refused_at_the_door_is_refused_without_asking_again() {
    let redis = RedisServer::start().await;
    let nexus = spec("per_ip = { limit = 2, interval = \"1h\" }", Some(&redis)).mcp("").upstream("up", tools("")).start().await;
    connected(&nexus, Some(&redis)).await;
    let client = nexus.modern();
    for _ in 0..2 {
        assert!(client.call("up__work").await["result"].is_object());
    }
    let refused = async || client.open("tools/call", json!({"name": "up__work", "arguments": {}})).await;
    let first = refused().await;
    assert_eq!(first.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(first.answer().await["id"], 3, "it was read");
    let before = asked(&redis).await;
    for _ in 0..20 {
        let refused = refused().await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1790..=1800).contains(&seconds), "{seconds}");
    }
    // The body is announced and never sent; a busy machine may take longer than what was refused is believed.
    let (_sender, body) = wire::stream();
    assert_eq!(soon("the refusal", send(nexus.address, client.request(Method::POST, body))).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(asked(&redis).await - before <= 3);
    // A Redis that has lost its memory is believed soon.
    redis.cli(&["FLUSHALL"]).await;
    soon("a token", async { while refused().await.status != StatusCode::OK {} }).await;
}

/// How a request ends that is not admitted as a call.
type End = fn(&Client) -> http::Request<wire::Body>;

fn post(client: &Client, body: &str) -> http::Request<wire::Body> {
    client.request(Method::POST, wire::full(body.to_owned()))
}

fn with(mut request: http::Request<wire::Body>, name: &'static str, value: &'static str) -> http::Request<wire::Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

const ENDS: [(&str, u16, End); 12] = [
    ("no credential", 401, |client| {
        let mut request = post(client, "{}");
        request.headers_mut().remove("x-api-key");
        request
    }),
    ("a wrong credential", 401, |client| with(post(client, "{}"), "x-api-key", "the-key-of-nobody-whatever")),
    ("no intent", 403, |client| {
        let mut request = with(post(client, "{}"), "sec-fetch-site", "same-origin");
        request.headers_mut().remove("x-nexus");
        request
    }),
    ("no JSON", 415, |client| with(post(client, "{}"), "content-type", "text/plain")),
    ("garbage", 400, |client| post(client, "garbage")),
    ("a wrong version", 400, |client| {
        with(post(client, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), "mcp-protocol-version", "1999-01-01")
    }),
    ("an unknown session", 404, |client| {
        let request = post(client, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        with(with(request, "mcp-session-id", "nobody-knows-this-session"), "mcp-protocol-version", "2025-11-25")
    }),
    ("an initialize that is wrong", 200, |client| post(client, r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#)),
    ("a stream for nobody", 405, |client| client.request(Method::GET, wire::full(""))),
    ("an end of nothing", 405, |client| client.request(Method::DELETE, wire::full(""))),
    ("an old stream", 200, |client| {
        let mut request = client.request(Method::GET, wire::full(""));
        *request.uri_mut() = "/sse".parse().unwrap();
        request
    }),
    ("a message for no old stream", 404, |client| {
        let mut request = post(client, "{}");
        *request.uri_mut() = "/sse/messages?sessionId=x".parse().unwrap();
        request
    }),
];

async fn guarded(redis: Option<&RedisServer>, prefix: usize) -> Nexus {
    let storage = redis.map(|redis| format!("storage = {{ type = \"redis\", url = \"{}\", key_prefix = \"{prefix}:\" }}", redis.url()));
    let limits = format!("[server.rate_limits]\nglobal = {{ limit = 1, interval = \"1h\" }}\n{}", storage.unwrap_or_default());
    let keys = "[[server.api_keys]]\nid = \"ann\"\nkey = \"the-key-of-ann-and-nobody-else\"\n[server.csrf]\nenabled = true\nheader_name = \"x-nexus\"";
    let nexus = gateway().server(&limits).tables(keys).mcp("sse_path = \"/sse\"").upstream("up", tools("")).start().await;
    connected(&nexus, redis).await;
    nexus
}

fn ann(nexus: &Nexus) -> Client {
    nexus.modern().header("x-api-key", "the-key-of-ann-and-nobody-else").header("x-nexus", "1")
}

#[tokio::test]
async fn whatever_becomes_of_a_request_its_way_in_is_paid_once() {
    let server = RedisServer::start().await;
    for redis in [None, Some(&server)] {
        for (number, (what, status, request)) in ENDS.into_iter().enumerate() {
            let nexus = guarded(redis, number).await;
            let client = ann(&nexus);
            let mut bare = Client::stranger(nexus.address);
            bare.headers = client.headers.clone();
            bare.headers.remove("mcp-protocol-version");
            let first = send(nexus.address, request(&bare)).await;
            assert_eq!(first.status.as_u16(), status, "{what}");
            let second = client.open("tools/list", json!({})).await;
            assert_eq!(second.status, StatusCode::TOO_MANY_REQUESTS, "{what} has cost a token");
            let third = send(nexus.address, request(&bare)).await.status.as_u16();
            assert_eq!(third, 429, "{what} is refused as all is");
        }
    }
}

#[tokio::test]
async fn who_breaks_off_pays_all_the_same() {
    let server = RedisServer::start().await;
    for redis in [None, Some(&server)] {
        let nexus = guarded(redis, 100).await;
        let client = ann(&nexus);
        let mut stream = TcpStream::connect(nexus.address).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\nx-api-key: the-key-of-ann-and-nobody-else\r\ncontent-type: application/json\r\n\
             content-length: 100\r\nexpect: 100-continue\r\n\r\n",
            nexus.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        soon("the consent to send a body", stream.read_exact(&mut told)).await.unwrap();
        assert!(told.starts_with(b"HTTP/1.1 100 "), "{told:?}");
        // While it owes, another takes the only token: what it cannot pay any more is counted.
        assert_eq!(client.open("tools/list", json!({})).await.status, StatusCode::OK);
        let refused = || nexus.gateway.limiter().limited().any(|(scope, count)| scope.word() == "global" && count == 1);
        assert!(!refused());
        drop(stream);
        until("its turn to pay", refused).await;
    }
}

#[tokio::test]
async fn of_two_replicas_that_know_nothing_of_each_other_the_second_is_refused_at_its_call() {
    let redis = RedisServer::start().await;
    let start = async || {
        let limits = "global = { limit = 1, interval = \"1h\" }\nper_client = { limit = 5, interval = \"1h\" }";
        let nexus = spec(limits, Some(&redis)).mcp("").upstream("up", tools("")).start().await;
        connected(&nexus, Some(&redis)).await;
        nexus
    };
    let (one, other) = (start().await, start().await);
    assert!(one.modern().call("up__work").await["result"].is_object());
    for method in ["tools/call", "tools/list", "ping"] {
        let refused = other.modern().open(method, json!({"name": "up__work", "arguments": {}})).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{method}");
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(scope(&refused.answer().await), Some("global"), "{method}");
    }
    assert_eq!(other.fake("up").seen_of("tools/call").len(), 0);
}
