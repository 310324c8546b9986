//! Another configuration for a running gateway.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{collections::BTreeSet, sync::Arc};

use nexus::gateway::Changes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::support::{
    child::{child, is_dead},
    client::Client,
    fake::{Answer, Call, FakeSpec, legacy, modern, stream_until_the_next_tick},
    nexus::{Nexus, gateway},
    program::Program,
    soon,
    tls_peer::Peer,
    until,
};

/// The configuration with one upstream's table left out.
pub(crate) fn without(toml: &str, name: &str) -> String {
    let head = format!("[mcp.servers.{name}");
    let mut out = Vec::new();
    let mut skips = false;
    for line in toml.lines() {
        if line.starts_with('[') {
            skips = line.starts_with(&format!("{head}]")) || line.starts_with(&format!("{head}."));
        }
        if !skips {
            out.push(line);
        }
    }
    out.join("\n")
}

fn sorted(names: Vec<String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

async fn listed(client: &Client) -> BTreeSet<String> {
    sorted(client.list("tools").await)
}

fn named(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn lists(nexus: &Nexus, names: &[&str]) {
    let expected = named(names);
    let client = nexus.modern();
    soon("the list", async {
        while listed(&client).await != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_added_changed_and_removed_leaves_the_rest_alone() {
    let nexus = gateway()
        .upstream("a", legacy().tool("work"))
        .upstream("b", legacy().tool("work"))
        .upstream("c", modern().tool("work"))
        .start()
        .await;
    let client = nexus.legacy().await;
    let mut stream = client.get().await;
    assert_eq!(client.call("a__work").await["result"]["content"][0]["text"], "a:work");
    let a = nexus.upstream("a");
    let before = nexus.fake("a").seen().len();

    // `c` goes, and comes back under another name; `b` gets another prefix.
    let toml = without(&nexus.toml, "c");
    let url = nexus.fake("c").url();
    let toml = toml.replace("[mcp.servers.b]", "[mcp.servers.b]\nprefix = \"bee\"");
    let changes = nexus.reload(&format!("{toml}\n[mcp.servers.d]\nurl = {url:?}\n"));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(changes, Changes { added: names(&["d"]), changed: names(&["b"]), removed: names(&["c"]), unchanged: 1, beside: vec![] });
    lists(&nexus, &["a__work", "bee__work", "d__work"]).await;
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/tools/list_changed");
    for tool in ["a__work", "bee__work", "d__work"] {
        assert!(client.call(tool).await["result"].is_object(), "{tool}: the client's session goes on");
    }
    let gone = client.call("c__work").await;
    assert_eq!(gone["error"]["code"], -32602, "{gone}");
    assert!(Arc::ptr_eq(&a, &nexus.upstream("a")));
    let calls: Vec<_> = nexus.fake("a").seen()[before..].iter().map(|call| call.method().to_owned()).collect();
    assert_eq!(calls, ["tools/call"], "nothing but the call reached what has not changed");

    let again = nexus.reload(&format!("{toml}\n[mcp.servers.d]\nurl = {url:?}\n"));
    assert_eq!(again, Changes { unchanged: 3, ..Changes::default() });
}

#[tokio::test]
async fn calls_in_flight_end_on_what_was_removed() {
    let (spec, mut held) = legacy().tool("slow").held("tools/call");
    let nexus = gateway().upstream("stays", legacy().tool("work")).upstream("goes", spec).start().await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let call = tokio::spawn(async move { twin.call("goes__slow").await });
    let (arrived, reply) = held.recv().await.unwrap();
    nexus.reload(&without(&nexus.toml, "goes"));
    lists(&nexus, &["stays__work"]).await;
    assert_eq!(client.call("goes__slow").await["error"]["code"], -32602);
    let _ = reply.send(Answer::json(arrived.response(r#""content":[]"#)));
    assert!(call.await.unwrap()["result"].is_object());
    nexus.fake("goes").arrives("the end of its session", |call| call.verb == http::Method::DELETE).await;
}

#[tokio::test]
async fn another_token_for_the_same_server_keeps_its_sessions() {
    let nexus = gateway().upstream("up", legacy().tool("work").toml("[.auth]\ntoken = \"first\"")).start().await;
    let client = nexus.legacy().await;
    assert!(client.call("up__work").await["result"].is_object());
    let session = nexus.fake("up").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let changes = nexus.reload(&nexus.toml.replace("first", "second"));
    assert_eq!(changes.changed, ["up"]);
    nexus.fake("up").arrives("the new token", |call| call.header("authorization") == Some("Bearer second")).await;
    until("the swap", || nexus.upstream("up").reloads().counts().0 == 1).await;
    assert!(client.call("up__work").await["result"].is_object());
    let last = nexus.fake("up").last("tools/call");
    assert_eq!((last.header("authorization"), last.header("mcp-session-id")), (Some("Bearer second"), Some(session.as_str())));
}

#[tokio::test]
async fn the_old_server_serves_until_the_new_one_was_tried() {
    let (next, mut held) = modern().tool("work").held("tools/list");
    let nexus = gateway().upstream("up", legacy().tool("work")).upstream("next", next.toml("enabled = false")).start().await;
    let client = nexus.legacy().await;
    assert_eq!(client.call("up__work").await["result"]["content"][0]["text"], "up:work");
    let (old, new) = (nexus.fake("up").url(), nexus.fake("next").url());
    nexus.reload(&without(&nexus.toml, "next").replace(&old, &new));
    let (list, reply) = held.recv().await.unwrap();
    assert_eq!(client.call("up__work").await["result"]["content"][0]["text"], "up:work", "the new one is not ready");
    let tool = r#""resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[{"name":"work","inputSchema":{"type":"object"}}]"#;
    let _ = reply.send(Answer::json(list.response(tool)));
    let is_new = || nexus.upstream("up").generation().is_ok_and(|generation| generation.era() == nexus::mcp::Era::Modern);
    until("the hand-over", is_new).await;
    assert_eq!(client.call("up__work").await["result"]["content"][0]["text"], "next:work");
}

/// The answer to initialize of a server whose sessions are not checked.
fn greeting(call: &Call) -> Answer {
    let members = r#""protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}"#;
    Answer::json(call.response(members)).header("mcp-session-id", "any")
}

/// A client's call that waits for its session while another server takes the place of its upstream's.
async fn replaced_while_a_session_opens(drain: &str) -> (Nexus, JoinHandle<Value>, (Call, oneshot::Sender<Answer>)) {
    let limit = "[.rate_limits]\nlimit = 3\ninterval = \"1h\"";
    let (up, mut held) = legacy().tool("work").unchecked_sessions().toml(limit).held("initialize");
    let next = modern().tool("work").toml("enabled = false");
    let nexus = gateway().mcp(&format!("upstream_drain = {drain:?}")).upstream("up", up).upstream("next", next).start_at_once().await;
    let (own, reply) = held.recv().await.unwrap();
    let _ = reply.send(greeting(&own));
    lists(&nexus, &["up__work"]).await;
    let client = nexus.legacy().await;
    let call = tokio::spawn(async move { client.call("up__work").await });
    let opening = held.recv().await.unwrap();
    let (old, new) = (nexus.fake("up").url(), nexus.fake("next").url());
    nexus.reload(&without(&nexus.toml, "next").replace(&old, &new));
    let is_new = || nexus.upstream("up").generation().is_ok_and(|generation| generation.era() == nexus::mcp::Era::Modern);
    until("the hand-over", is_new).await;
    (nexus, call, opening)
}

#[tokio::test]
async fn a_call_that_has_its_session_at_last_ends_where_it_began() {
    let (_nexus, call, (opening, reply)) = replaced_while_a_session_opens("10m").await;
    let _ = reply.send(greeting(&opening));
    let answer = soon("the answer", call).await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "up:work", "{answer}");
}

#[tokio::test]
async fn a_call_that_was_not_sent_yet_goes_to_what_took_its_upstreams_place() {
    let (nexus, call, _never_answered) = replaced_while_a_session_opens("0s").await;
    let answer = soon("the answer", call).await.unwrap();
    assert_eq!(answer["result"]["content"][0]["text"], "next:work", "{answer}");
    // Drained and made again, it was one call for its limit.
    let client = nexus.modern();
    for is_admitted in [true, true, false] {
        assert_eq!(client.call("up__work").await["result"].is_object(), is_admitted);
    }
}

#[tokio::test]
async fn a_removed_process_ends() {
    let nexus = gateway().upstream("kid", child()).upstream("stays", legacy().tool("work")).start().await;
    let client = nexus.legacy().await;
    assert!(client.call("kid__echo").await["result"].is_object());
    let pids = nexus.notes("kid").pids();
    assert!(!pids.is_empty());
    nexus.reload(&without(&nexus.toml, "kid"));
    until("the end of its processes", || pids.iter().all(|pid| is_dead(*pid))).await;
}

#[tokio::test]
async fn two_hundred_streaming_calls_notice_nothing_of_twenty_reloads() {
    let (spec, streams) = modern().tool("work").streamed("tools/call");
    let other = || -> FakeSpec { legacy().tool("work") };
    let nexus = Arc::new(gateway().upstream("up", spec).upstream("x", other()).upstream("y", other()).start().await);
    let tick = watch::Sender::new(0_u32);
    tokio::spawn(stream_until_the_next_tick(streams, tick.clone()));
    let done = watch::Sender::new(false);
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let (client, done) = (nexus.modern(), done.subscribe());
            tokio::spawn(async move {
                let (mut calls, mut failed) = (0_u32, Vec::<Value>::new());
                while !*done.borrow() {
                    let answer = client.call("up__work").await;
                    calls += 1;
                    if !answer["result"].is_object() {
                        failed.push(answer);
                    }
                }
                (calls, failed)
            })
        })
        .collect();
    until("200 calls", || nexus.fake("up").seen_of("tools/call").len() >= 200).await;
    let up = nexus.upstream("up");
    let generation = up.generation().unwrap().number();
    for round in 0..20 {
        let toml = match round % 4 {
            0 => without(&nexus.toml, "x"),
            1 => nexus.toml.replace("[mcp.servers.x]", &format!("[mcp.servers.x]\ncall_timeout = \"{}s\"", 60 + round)),
            2 => nexus.toml.replace(&nexus.fake("y").url(), &nexus.fake("x").url()),
            _ => format!("{}\n[mcp.servers.z{round}]\nurl = {:?}\n", nexus.toml, nexus.fake("y").url()),
        };
        nexus.reload(&toml);
        let started = nexus.fake("up").seen_of("tools/call").len();
        tick.send_modify(|tick| *tick += 1);
        until("more calls", || nexus.fake("up").seen_of("tools/call").len() > started).await;
    }
    done.send_replace(true);
    let mut calls = 0;
    for caller in callers {
        while !caller.is_finished() {
            tick.send_modify(|tick| *tick += 1);
            tokio::task::yield_now().await;
        }
        let (called, failed) = caller.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        calls += called;
    }
    assert!(calls >= 400, "{calls} calls");
    assert!(Arc::ptr_eq(&up, &nexus.upstream("up")) && up.generation().unwrap().number() == generation, "it was never touched");
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_a_bad_file_changes_nothing() {
    let written = gateway().upstream("a", legacy().tool("work")).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let client = Client::modern(program.address().await);
    program.says("the upstream is up").await;
    let path = written.folder.path().join("nexus.toml");
    let url = written.fakes["a"].url();
    let second = format!("{}\n[mcp.servers.b]\nurl = {url:?}\n", written.toml);
    for (bad, words) in [
        (second.replace("[mcp]\n", "[mcp]\nnonsense = 1\n"), "mcp.nonsense"),
        (format!("{second}\n[[["), "not valid TOML"),
        (second.replace("127.0.0.1:0", "127.0.0.1:1"), "restart needed: server.listen_address"),
        (format!("{second}\n[server.health]\nlisten = \"127.0.0.1:0\"\n"), "restart needed: server.health.listen"),
        (format!("{second}\n[state]\ndirectory = {:?}\n", written.folder.path()), "restart needed: state.directory"),
    ] {
        std::fs::write(&path, bad).unwrap();
        program.hang_up_signal();
        program.says(words).await;
        assert_eq!(listed(&client).await, named(&["a__work"]), "{words}");
    }
    std::fs::write(&path, second).unwrap();
    program.hang_up_signal();
    program.says("upstream b: up").await;
    assert_eq!(listed(&client).await, named(&["a__work", "b__work"]));
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn paths_limits_and_the_public_url_are_others_with_the_next_request() {
    let written = gateway().upstream("a", legacy().tool("work")).write().await;
    let program = Program::start(&written, "serve", "info", &[]);
    let at = |path: &'static str, host: &'static str| {
        let address = program.address();
        async move {
            let mut client = Client::modern(address.await).header("host", host);
            client.path = path;
            client
        }
    };
    let lists = async |path, host| at(path, host).await.open("tools/list", json!({})).await.status.as_u16();
    let is_mcp = async |path, host| lists(path, host).await == 200;
    let is_healthy = async |path, host| at(path, host).await.get().await.status == 200;
    program.says("the upstream is up").await;
    assert!(is_mcp("/mcp", "localhost").await && is_healthy("/health", "localhost").await);
    assert!(!is_mcp("/mcp", "mcp.contoso.com").await);

    let reload = async |mcp: &str, server: &str, tables: &str| {
        let taken = || program.said().matches("the configuration was reloaded").count();
        let before = taken();
        let text = written.toml.replace("[mcp]\n", &format!("{server}[mcp]\n{mcp}")) + tables;
        std::fs::write(written.folder.path().join("nexus.toml"), text).unwrap();
        program.hang_up_signal();
        until("the reload", || taken() > before).await;
    };
    reload("path = \"/agents\"\n", "", "\n[server.health]\npath = \"/alive\"\n").await;
    assert!(is_mcp("/agents", "localhost").await && is_healthy("/alive", "localhost").await);
    assert!(!is_mcp("/mcp", "localhost").await && !is_healthy("/health", "localhost").await);

    reload("enabled = false\n", "public_url = \"https://mcp.contoso.com\"\n", "\n[server.health]\nenabled = false\n").await;
    assert_eq!((lists("/mcp", "localhost").await, is_healthy("/health", "localhost").await), (404, false));
    reload("", "public_url = \"https://mcp.contoso.com\"\nmax_connections = 1\n", "").await;
    let first = TcpStream::connect(program.address().await).await.unwrap();
    // It is told before it asks, so that it does not ask: an HTTP client takes that for an answer to nothing.
    let mut second = TcpStream::connect(program.address().await).await.unwrap();
    let mut told = String::new();
    soon("the refusal", second.read_to_string(&mut told)).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    drop(second);
    reload("", "public_url = \"https://mcp.contoso.com\"\n", "").await;
    assert!(is_mcp("/mcp", "mcp.contoso.com").await);
    drop(first);
}

#[tokio::test]
async fn over_stdio_too_sighup_reads_the_file_again_and_ends_nothing() {
    let written = gateway().upstream("a", legacy().tool("work")).write().await;
    let mut program = Program::start(&written, "stdio", "info", &[]);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    program.write(&hello.to_string()).await;
    assert_eq!(program.answer().await["id"], 1);
    let path = written.folder.path().join("nexus.toml");
    let second = format!("{}\n[mcp.servers.b]\nurl = {:?}\n", written.toml, written.fakes["a"].url());
    for (text, words) in [(format!("{second}\n[[["), "was rejected"), (second, "the configuration was reloaded")] {
        std::fs::write(&path, text).unwrap();
        program.hang_up_signal();
        program.says(words).await;
    }
    program.write(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#).await;
    let answer = program.answer().await;
    let names: BTreeSet<_> = answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["a__work", "b__work"]));
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn who_may_call_is_taken_by_a_reload_of_the_file() {
    let written = gateway().upstream("a", legacy().tool("work")).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    let address = program.address().await;
    let asks = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /mcp HTTP/1.1\r\nhost: mcp.contoso.com\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(asks().await, "403");
    let path = written.folder.path().join("nexus.toml");
    std::fs::write(&path, written.toml.replace("[server]\n", "[server]\nallowed_hosts = [\"mcp.contoso.com\"]\n")).unwrap();
    program.hang_up_signal();
    program.says("took over [server]").await;
    assert_ne!(asks().await, "403");
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn channels_for_alerts_are_taken_by_a_reload_of_the_file() {
    let written = gateway().upstream("a", legacy().tool("work")).write().await;
    let mut program = Program::start(&written, "serve", "info", &[]);
    program.says("the upstream is up").await;
    let path = written.folder.path().join("nexus.toml");
    let receiver = Peer::plain().await;
    let channel = format!("[[certificates.alerts]]\ntype = \"webhook\"\nmin_severity = \"info\"\nurl = \"http://{}/\"\n", receiver.address);
    std::fs::write(&path, format!("{}\n{channel}", written.toml)).unwrap();
    program.hang_up_signal();
    program.says("took over [certificates]").await;
    // What is told next goes there: a reload that is rejected.
    std::fs::write(&path, format!("{}\n{channel}[[[", written.toml)).unwrap();
    program.hang_up_signal();
    until("the alert", || !receiver.arrived().is_empty()).await;
    let told: Value = serde_json::from_slice(&receiver.arrived()[0].body).unwrap();
    assert_eq!(told["topic"], "reload_rejected", "{told}");
    program.terminate();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn a_token_file_is_followed_and_an_edit_that_nobody_asked_for_is_not() {
    let token = tempfile::tempdir().unwrap();
    let token = token.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let table = format!("[.auth]\ntoken = \"{{{{ file('{}') }}}}\"", token.display()).replace('\'', "\\\"");
    let written = gateway().upstream("a", legacy().tool("work").toml(&table)).write().await;
    let program = Program::start(&written, "serve", "info", &[]);
    let client = Client::modern(program.address().await);
    program.says("the upstream is up").await;
    std::fs::write(written.folder.path().join("nexus.toml"), without(&written.toml, "a")).unwrap();
    std::fs::write(&token, "second\n").unwrap();
    written.fakes["a"].arrives("the new token", |call| call.header("authorization") == Some("Bearer second")).await;
    program.says("a new generation serves").await;
    assert!(client.call("a__work").await["result"].is_object(), "the edited file is for the next SIGHUP");
    assert_eq!(written.fakes["a"].last("tools/call").header("authorization"), Some("Bearer second"));
}
